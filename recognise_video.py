"""Recognise the expression of every face in a recorded video.

Reads a video file in any format FFmpeg reads, or an address, and models/.
Writes <name>_recognised.mp4 into the current folder: every frame at its time with a box and a label on each face, and
the sound, as H.264, which players and browsers show. A face keeps its number while it is followed.
With --table it also writes a row per face and frame, with --plot a figure of each face's expressions over time.

$ python recognise_video.py party.mov
$ python recognise_video.py party.mov --output labelled.mp4 --table faces.csv --plot faces.png
$ python recognise_video.py s3://bucket/lecture.mp4 --no-video --table faces.parquet
"""
import collections
import contextlib
import importlib.util
from pathlib import Path

from expressions.artifacts import refuse_overwriting, replace_when_whole
from expressions.console import InputError, pluralise, print_status, printable, run, script_parser
from expressions.drawing import draw_faces
from expressions.images import parse_path
from expressions.recognition import add_detector_arguments, face_row, recogniser_of
from expressions.tables import VIDEO_COLUMNS, open_table, table_path
from expressions.tracking import recognise_frames
from expressions.video import frame_rate, open_video, prefetch, read_video, video_writer

PLOT_INTERVAL = 0.1  # seconds
MAX_WAITING_BYTES = 1 << 26  # of frames, before each of the threads


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("video", type=parse_path, help="a video file or address")
    parser.add_argument("--output", type=Path, help="the .mp4 to write (default: <name>_recognised.mp4)")
    parser.add_argument("--table", "--csv", type=table_path, metavar="FILE", help="also write a row per face and "
                        "frame; the file ends in .csv, .json, .jsonl or .parquet; - is CSV to standard output")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw each face's expressions over time")
    parser.add_argument("--no-video", action="store_true", help="write no video, only what --table and --plot ask for")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    args.output = None if args.no_video else args.output or Path(f"{Path(args.video).stem}_recognised.mp4")
    args.outputs = [path for path in (args.output, args.table, args.plot) if path and str(path) != "-"]
    if not (args.outputs or args.table):
        raise InputError("--no-video leaves nothing to write: give --table or --plot")
    if args.output and args.output.suffix.lower() != ".mp4":
        raise InputError(f"{args.output} is not an .mp4: end the name in .mp4")
    if args.plot and args.plot.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"{args.plot} cannot hold a figure: end the name in .png, .svg or .pdf")
    if args.plot and not importlib.util.find_spec("matplotlib"):
        raise InputError("--plot needs matplotlib: pip install matplotlib")
    refuse_overwriting(args.outputs, [args.video])
    return args


class Results:
    """Where the results of a video go: the labelled video, the table, the points of the plot. Each may be None."""

    def __init__(self, writer, table, timeline):
        self.writer, self.table, self.timeline = writer, table, timeline
        self.n_frames = self.n_faces = 0

    def add(self, seconds, frame, faces):
        """Add a frame and its Faces, as recognise_frames yields them."""
        if self.writer:
            draw_faces(frame, faces)
            self.writer.write(frame, seconds)
        for face in faces:
            if self.table:
                self.table.add([self.n_frames, f"{float(seconds):.3f}", *face_row(face.track_id, face)])
            if self.timeline is not None:
                points = self.timeline[face.track_id]
                if not points or seconds - points[-1][0] >= PLOT_INTERVAL:
                    points.append((float(seconds), *face.probabilities.values()))
        self.n_frames += 1
        self.n_faces += len(faces)


def until_damaged(frames, errors):
    """Yield frames to their end, or up to an InputError, which is appended to `errors`: what came before is kept."""
    try:
        yield from frames
    except InputError as error:
        errors.append(error)


def recognise(args, video, results, errors):
    """Recognise the frames of an open video and add them to the results, with progress; sound goes into the video."""
    from tqdm import tqdm

    stream = video.streams.video[0]
    audio = results.writer and results.writer.audio
    packets = collections.deque()  # of sound, from the thread that reads to this one
    n_waiting = min(16, max(2, MAX_WAITING_BYTES // max(1, 3 * stream.width * stream.height)))
    frames = prefetch(until_damaged(read_video(video, stream, audio, packets), errors), n_waiting)
    expected = stream.frames or round((video.duration or 0) / 1e6 * frame_rate(stream)) or None
    recognised = prefetch(recognise_frames(frames, args.recogniser), n_waiting)
    with contextlib.closing(recognised), tqdm(desc=printable(Path(args.video).name), total=expected, unit=" frames",
                                              disable=args.quiet or None) as progress:
        for seconds, frame, faces in recognised:
            results.add(seconds, frame, faces)
            while packets and packets[0].pts * audio.time_base <= seconds:
                results.writer.write_audio(packets.popleft())
            progress.update()
    while results.n_frames and packets:
        results.writer.write_audio(packets.popleft())


def main(argv=None):
    args = parse_arguments(argv)
    args.recogniser = recogniser_of(args)  # says at once if it cannot be loaded
    errors, interrupted = [], False
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(args.video))
        stream = video.streams.video[0]
        audio = next((track for track in video.streams.audio if track.codec_context is not None), None)
        results = Results(
            args.output and stack.enter_context(video_writer(args.output, frame_rate(stream), stream.time_base, audio)),
            args.table and stack.enter_context(open_table(args.table, VIDEO_COLUMNS)),
            collections.defaultdict(list) if args.plot else None)
        try:
            recognise(args, video, results, errors)
        except KeyboardInterrupt:  # what was done so far is worth having
            interrupted = True
        if not results.n_frames:
            if interrupted:
                raise KeyboardInterrupt
            raise errors[0] if errors else InputError(f"{args.video} holds no frame that decodes: mend or convert it")
        if args.plot:
            from expressions.figures import plot_timeline
            with replace_when_whole(args.plot) as [temporary]:
                plot_timeline(results.timeline).savefig(temporary)
    written = ", ".join(map(str, args.outputs))
    print_status(f"wrote {written}: " * bool(written) + f"{pluralise(results.n_frames, 'frame')}, "
                 f"{pluralise(results.n_faces, 'face detection')}", args.quiet)
    if interrupted:
        raise KeyboardInterrupt(f"{written or 'the table'} ends after {pluralise(results.n_frames, 'frame')}; "
                                "run it again for all of them")
    if errors:
        raise InputError(f"{errors[0]}; {written or 'the table'} ends there")


if __name__ == "__main__":
    run(main)
