"""Recognise the expression of every face in recorded videos.

Reads videos in any format FFmpeg reads: files, folders with all that is in them, patterns, addresses; and models/.
Writes <name>_recognised.mp4 into the current folder, for a folder into output_<folder>: every frame at its time with a
box and a label on each face, and the sound, as H.264, which players and browsers show. A face keeps its number while it
is followed. With --table it also writes a row per face and frame, with --report a page that sums it all up, with --plot
a figure of each face's expressions over time. Several videos share the cores; a table of them begins with the file, and
has a row with the error for a video that could not be read.

$ python recognise_video.py party.mov
$ python recognise_video.py party.mov --output labelled.mp4 --table faces.csv --plot faces.png --report party.html
$ python recognise_video.py talks/ --no-video --table faces.csv --resume
$ python recognise_video.py s3://bucket/lecture.mp4 --no-video --table faces.parquet
"""
import collections
import contextlib
import functools
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from expressions import workers
from expressions.artifacts import refuse_overwriting, replace_when_whole
from expressions.console import InputError, pluralise, positive_int, print_status, printable, run, script_parser
from expressions.drawing import draw_faces
from expressions.images import find_images, is_pattern
from expressions.recognition import add_detector_arguments, cached_recogniser, choose_detector, face_row
from expressions.report import VideoReport, add_report_argument, write_report
from expressions.tables import STDOUT, VIDEO_COLUMNS, add_table_argument, open_table, safe_cell
from expressions.tracking import recognise_frames
from expressions.video import VIDEO_SUFFIXES, frame_rate, open_video, prefetch, read_video, video_writer

MAX_WAITING_BYTES = 1 << 26  # of frames, before each of the threads
ENDING = "_recognised.mp4"  # of what is written


@dataclass
class Result:
    """What came of a video."""
    report: VideoReport
    n_frames: int = 0
    n_faces: int = 0
    timeline: dict = field(default_factory=lambda: collections.defaultdict(list))  # as figures.plot_timeline takes it
    seconds: float = 0  # of the last frame
    ended_by: BaseException | None = None  # an InputError or KeyboardInterrupt before the end


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files, folders, patterns or addresses")
    parser.add_argument("--output", type=Path, help=f"the .mp4 to write, or for several videos the folder (default: "
                        f"<name>{ENDING} here)")
    add_table_argument(parser, "per face and frame")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw each face's expressions over time")
    add_report_argument(parser)
    parser.add_argument("--no-video", action="store_true", help="write no video, only what --table, --plot and "
                        "--report ask for")
    parser.add_argument("--resume", action="store_true", help="go on with a table of several videos: leave out those "
                        "that it holds")
    parser.add_argument("--jobs", type=positive_int, metavar="NUMBER", default=workers.available_cpus(),
                        help="processes for several videos (default: one for each core)")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    args.detector = choose_detector(args.detector)
    args.tasks = find_tasks(args)
    others = [path for path in (args.table, args.plot, args.report) if path]
    args.outputs = [output for _, output in args.tasks if output] + others
    if not args.outputs:
        raise InputError("--no-video leaves nothing to write: give --table, --plot or --report")
    if args.plot and not (args.plot.suffix.lower() in (".png", ".svg", ".pdf") and find_spec("matplotlib")):
        raise InputError(f"{args.plot} cannot be drawn: end the name in .png, .svg or .pdf, and pip install matplotlib")
    if args.plot and len(args.tasks) > 1:
        raise InputError("--plot draws one video: give --report for several")
    if args.resume and (args.table in (None, STDOUT) or len(args.tasks) == 1):
        raise InputError("--resume goes on with a table of several videos: give them, and --table FILE")
    refuse_overwriting(args.outputs, [path for path, _ in args.tasks])
    return args


def find_tasks(args):
    """Return (path, output) for each video; the output is None if none is written."""
    tasks = []
    for argument in args.videos:
        path = Path(argument)
        if is_pattern(argument) or (argument and path.is_dir()) or re.search("[^/]/$", argument):  # s3://bucket/talks/
            tasks += [(found, Path(output).parent) for found, output in find_images(argument, VIDEO_SUFFIXES, "video")
                      if not found.endswith(ENDING)]
        else:
            tasks.append((argument, Path()))
    if not tasks:
        raise InputError(f"{args.videos[0]} holds only what an earlier run wrote (*{ENDING}): check the path")
    tasks = list(dict.fromkeys(tasks))  # a video given twice is one
    if args.no_video:
        return [(path, None) for path, _ in tasks]
    if len(tasks) == 1 and args.output:
        return [(tasks[0][0], args.output)]
    return [(path, (args.output or Path()) / folder / f"{Path(path).stem}{ENDING}") for path, folder in tasks]


def recognise(args, path, output, add_row, quiet):
    """Recognise the faces of a video, write it to `output`, and give rows for the table to add_row. Returns a Result.

    Raises InputError where there is no frame.
    """
    result = Result(VideoReport(path))
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(path))
        stream = video.streams.video[0]
        audio = next((track for track in video.streams.audio if track.codec_context is not None), None)
        writer = output and stack.enter_context(video_writer(output, frame_rate(stream), audio))
        frames = read_video(video, writer.audio, writer.packets) if writer else read_video(video)
        n_waiting = min(16, max(2, MAX_WAITING_BYTES // max(1, 3 * stream.width * stream.height)))
        recogniser = cached_recogniser(args.models, args.detector, args.min_score)
        recognised = stack.enter_context(contextlib.closing(
            prefetch(recognise_frames(prefetch(frames, n_waiting), recogniser), n_waiting)))
        expected = stream.frames or round((video.duration or 0) / 1e6 * frame_rate(stream)) or None
        progress = stack.enter_context(tqdm(recognised, printable(Path(path).name), expected, unit=" frames",
                                            disable=quiet or None))
        try:
            for seconds, frame, faces in progress:
                if args.report:
                    result.report.add(seconds, frame, faces)  # before anything is drawn into the frame
                if writer:
                    draw_faces(frame, faces)
                    writer.write(frame, seconds)
                for face in faces if args.table else ():
                    add_row([result.n_frames, f"{seconds:.3f}", *face_row(face.track_id, face)])
                for face in faces if args.plot else ():
                    result.timeline[face.track_id].append((seconds, *face.probabilities.values()))
                result.n_frames, result.n_faces = result.n_frames + 1, result.n_faces + len(faces)
                result.seconds = seconds
        except (InputError, KeyboardInterrupt) as error:  # what was done so far is worth having
            result.ended_by = error
        if not result.n_frames:
            raise result.ended_by or InputError(f"{path} holds no frame that decodes: mend or convert it")
    result.report.is_complete = not result.ended_by
    return result


def recognise_one(args):
    """Recognise a single video, whose rows are written as they come."""
    [(path, output)] = args.tasks
    with open_table(args.table, VIDEO_COLUMNS) if args.table else contextlib.nullcontext() as table:
        result = recognise(args, path, output, table and table.add, args.quiet)
        if args.plot:
            from expressions.figures import plot_timeline
            with replace_when_whole(args.plot) as [temporary]:
                plot_timeline(result.timeline, result.seconds, result.report.name).savefig(temporary)
    if args.report:
        write_report(args.report, [result.report], args.quiet)
    written = ", ".join(str(path) for path in args.outputs if path != STDOUT) or "the table"
    print_status(f"wrote {written}: {pluralise(result.n_frames, 'frame')}, "
                 f"{pluralise(result.n_faces, 'face detection')}", args.quiet)
    if result.ended_by:
        raise type(result.ended_by)(f"{str(result.ended_by) or 'run it again for all of it'}; {written} ends there")


def recognise_task(task, args):
    """Return the Result of one of several videos and its rows, or an InputError; in a process of its own."""
    rows = []
    try:
        return recognise(args, *task, rows.append, quiet=True), rows
    except (InputError, MemoryError, OSError) as error:
        return InputError(str(error) or "the memory is full")


def recognise_many(args):
    """Recognise several videos in processes; the rows of each are written when it is done. Raises InputError."""
    reports, failed, n_before, n_faces = [], [], 0, 0
    with contextlib.ExitStack() as stack:
        columns = ("file", *VIDEO_COLUMNS, "error")
        table = stack.enter_context(open_table(args.table, columns, args.resume)) if args.table else None
        todo = [task for task in args.tasks if not (table and safe_cell(task[0]) in table.done)]
        n_before = len(args.tasks) - len(todo)
        call = stack.enter_context(workers.in_processes(functools.partial(recognise_task, args=args)))
        answers = stack.enter_context(contextlib.closing(workers.in_order(call, todo, 2 * args.jobs, args.jobs)))
        for (path, _), answer in tqdm(answers, total=len(todo), unit=" videos", disable=args.quiet or None):
            result, rows = (None, []) if isinstance(answer, InputError) else answer
            error = answer if result is None else result.ended_by
            sentence = "" if error is None else str(error) if str(path) in str(error) else f"{path}: {error}"
            if table:
                rows = [[safe_cell(path), *row, ""] for row in rows]
                last = [safe_cell(path), *[""] * len(VIDEO_COLUMNS), sentence and safe_cell(sentence)]
                table.add(*rows, *[last] * bool(sentence or not rows))
            if result:
                reports.append(result.report)
                n_faces += result.n_faces
            failed += [sentence] * bool(sentence)
    if args.report and reports:
        write_report(args.report, reports, args.quiet)
    print_status(f"{pluralise(len(reports), 'video')}, {pluralise(n_faces, 'face detection')}"
                 + (f"; {n_before:,} were done before" if n_before else ""), args.quiet)
    if failed:
        raise InputError(f"{len(failed):,} of {len(args.tasks):,} videos could not be read to their end:", *failed)


def main(argv=None):
    args = parse_arguments(argv)
    cached_recogniser(args.models, args.detector, args.min_score)  # says at once if it cannot be loaded
    if len(args.tasks) == 1:
        return recognise_one(args)
    try:
        return recognise_many(args)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the videos that were finished are written; run it again "
                                f"{'with --resume ' if args.table else ''}for the others") from None


if __name__ == "__main__":
    run(main)
