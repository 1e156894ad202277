"""Recognise the expression of every face in a recorded video.

Reads a video file in any format FFmpeg reads, or an address, and models/.
Writes <name>_recognised.mp4 into the current folder: every frame at its time with a box and a label on each face, and
the sound, as H.264, which players and browsers show. A face keeps its number while it is followed.
With --table it also writes a row per face and frame, with --plot a figure of each face's expressions over time, with
--report a page that sums them up.

$ python recognise_video.py party.mov
$ python recognise_video.py party.mov --output labelled.mp4 --table faces.csv --plot faces.png
$ python recognise_video.py party.mov --no-video --report party.html
$ python recognise_video.py s3://bucket/lecture.mp4 --no-video --table faces.parquet
"""
import collections
import contextlib
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from expressions.artifacts import refuse_overwriting, replace_when_whole
from expressions.console import InputError, pluralise, print_status, printable, run, script_parser
from expressions.drawing import draw_faces
from expressions.recognition import Recogniser, add_detector_arguments, face_row
from expressions.report import VideoReport, add_report_argument, write_report
from expressions.tables import STDOUT, VIDEO_COLUMNS, add_table_argument, open_table
from expressions.tracking import recognise_frames
from expressions.video import frame_rate, open_video, prefetch, read_video, video_writer

MAX_WAITING_BYTES = 1 << 26  # of frames, before each of the threads


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("video", help="a video file or address")
    parser.add_argument("--output", type=Path, help="the .mp4 to write (default: <name>_recognised.mp4)")
    add_table_argument(parser, "per face and frame")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw each face's expressions over time")
    add_report_argument(parser)
    parser.add_argument("--no-video", action="store_true", help="write no video, only what --table, --plot and "
                        "--report ask for")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    args.output = None if args.no_video else args.output or Path(f"{Path(args.video).stem}_recognised.mp4")
    args.outputs = [path for path in (args.output, args.table, args.plot, args.report) if path]
    if not args.outputs:
        raise InputError("--no-video leaves nothing to write: give --table, --plot or --report")
    if args.plot and not (args.plot.suffix.lower() in (".png", ".svg", ".pdf") and find_spec("matplotlib")):
        raise InputError(f"{args.plot} cannot be drawn: end the name in .png, .svg or .pdf, and pip install matplotlib")
    refuse_overwriting(args.outputs, [args.video])
    return args


def recognise(args, recogniser, video, writer):
    """Yield (seconds, frame, list of Face) of an open video, whose sound goes to the writer; show how far it is."""
    stream = video.streams.video[0]
    frames = read_video(video, writer.audio, writer.packets) if writer else read_video(video)
    n_waiting = min(16, max(2, MAX_WAITING_BYTES // max(1, 3 * stream.width * stream.height)))
    recognised = prefetch(recognise_frames(prefetch(frames, n_waiting), recogniser), n_waiting)
    expected = stream.frames or round((video.duration or 0) / 1e6 * frame_rate(stream)) or None
    name = printable(Path(args.video).name)
    with contextlib.closing(recognised), tqdm(recognised, name, expected, unit=" frames",
                                              disable=args.quiet or None) as progress:
        yield from progress


def main(argv=None):
    args = parse_arguments(argv)
    recogniser = Recogniser(args.models, args.detector, args.min_score)  # says at once if it cannot be loaded
    report = VideoReport(args.video)
    n_frames, n_faces, timeline, ended_by = 0, 0, collections.defaultdict(list), None
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(args.video))
        audio = next((track for track in video.streams.audio if track.codec_context is not None), None)
        rate = frame_rate(video.streams.video[0])
        writer = args.output and stack.enter_context(video_writer(args.output, rate, audio))
        table = args.table and stack.enter_context(open_table(args.table, VIDEO_COLUMNS))
        recognised = stack.enter_context(contextlib.closing(recognise(args, recogniser, video, writer)))
        try:
            for seconds, frame, faces in recognised:
                if args.report:
                    report.add(seconds, frame, faces)  # before anything is drawn into the frame
                if writer:
                    draw_faces(frame, faces)
                    writer.write(frame, seconds)
                for face in faces if table else ():
                    table.add([n_frames, f"{seconds:.3f}", *face_row(face.track_id, face)])
                for face in faces if args.plot else ():
                    timeline[face.track_id].append((seconds, *face.probabilities.values()))
                n_frames, n_faces = n_frames + 1, n_faces + len(faces)
        except (InputError, KeyboardInterrupt) as error:  # what was done so far is worth having
            ended_by = error
        if not n_frames:
            raise ended_by or InputError(f"{args.video} holds no frame that decodes: mend or convert it")
        if args.plot:
            from expressions.figures import plot_timeline
            with replace_when_whole(args.plot) as [temporary]:
                plot_timeline(timeline, seconds, printable(Path(args.video).name)).savefig(temporary)
    if args.report:
        report.is_complete = not ended_by
        write_report(args.report, [report], args.quiet)
    written = ", ".join(str(path) for path in args.outputs if path != STDOUT) or "the table"
    print_status(f"wrote {written}: {pluralise(n_frames, 'frame')}, {pluralise(n_faces, 'face detection')}", args.quiet)
    if ended_by:
        raise type(ended_by)(f"{str(ended_by) or 'run it again for all of it'}; {written} ends there")


if __name__ == "__main__":
    run(main)
