"""Recognise the expression of every face in recorded videos.

Reads videos in any format FFmpeg reads: files, folders with all that is in them, patterns, addresses; and models/.
Writes <name>_recognised.mp4 into the current folder, for a folder into output_<folder>: every frame at its time with a
box and a label on each face, and the sound, as H.264, which players and browsers show. A face keeps its number while it
is followed. With --report it also writes a page that sums it all up, with --plot a figure of each face's expressions
over time, with --table a row per face and frame: frames counted from 0, seconds, box, the label and the probabilities,
smoothed over time, "found" 0 where the box is only where the face is likely to be, and raw_... the probabilities of
this very frame, empty where it was not classified. Several videos share the cores, or a cluster; a table of them begins
with the file, and has a row with the error for a video that could not be read.

$ python recognise_video.py party.mov
$ python recognise_video.py party.mov --output labelled.mp4 --table faces.csv --plot faces.png --report party.html
$ python recognise_video.py talks/ --no-video --table faces.csv --resume
$ python recognise_video.py lecture.mp4 --start 1:30 --end 12:00 --every 0.5 --no-video --table faces.csv
$ python recognise_video.py s3://bucket/talks/ --no-video --table faces.parquet --scheduler tcp://host:8786
"""
import argparse
import collections
import contextlib
import functools
import math
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from expressions import workers, yunet
from expressions.artifacts import refuse_overwriting, replace_when_whole
from expressions.console import InputError, pluralise, positive_int, print_status, printable, run, script_parser
from expressions.drawing import draw_faces
from expressions.images import find_images, is_pattern, is_remote
from expressions.model_files import onnx_bytes
from expressions.recognition import add_detector_arguments, cached_recogniser, choose_detector, video_row
from expressions.report import VideoReport, add_report_argument, write_report
from expressions.tables import STDOUT, VIDEO_COLUMNS, add_table_argument, open_table, safe_cell
from expressions.tracking import recognise_frames
from expressions.video import VIDEO_SUFFIXES, frame_rate, open_video, prefetch, read_video, video_writer

MAX_WAITING_BYTES = 1 << 26  # of frames, before each of the threads
ENDING = "_recognised.mp4"  # of what is written
CLUSTER_JOBS = 100  # videos that are handed to a cluster at once


@dataclass
class Result:
    """What came of a video."""
    report: VideoReport
    n_frames: int = 0
    n_faces: int = 0
    timeline: dict = field(default_factory=lambda: collections.defaultdict(list))  # as figures.plot_timeline takes it
    seconds: float = 0  # of the last frame
    ended_by: BaseException | None = None  # an InputError or KeyboardInterrupt before the end


def time_argument(text):
    """Return an argument like 90, 1:30 or 0:01:30.5 in seconds."""
    if not re.fullmatch(r"(\d+:){0,2}\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text} is no time: give seconds, or one like 1:30")
    return sum(float(part) * 60 ** power for power, part in enumerate(reversed(text.split(":"))))


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files, folders, patterns or addresses")
    parser.add_argument("--output", type=Path, help=f"the .mp4 to write, or for several videos the folder (default: "
                        f"<name>{ENDING} here)")
    add_table_argument(parser, "per face and frame")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw each face's expressions over time")
    add_report_argument(parser)
    parser.add_argument("--start", type=time_argument, default=0, metavar="TIME", help="where to begin: 90, or 1:30")
    parser.add_argument("--end", type=time_argument, default=math.inf, metavar="TIME", help="where to end")
    parser.add_argument("--every", type=time_argument, default=0, metavar="SECONDS",
                        help="take only a frame every so many seconds")
    parser.add_argument("--no-video", action="store_true", help="write no video, only what --table, --plot and "
                        "--report ask for")
    parser.add_argument("--resume", action="store_true", help="go on with a table of several videos: leave out those "
                        "that it holds")
    parser.add_argument("--jobs", type=positive_int, metavar="NUMBER", default=workers.available_cpus(),
                        help="processes for several videos (default: one for each core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is to do the work")
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
    if args.plot and args.is_many:
        raise InputError("--plot draws one video: give --report for several")
    if args.resume and (args.table in (None, STDOUT) or not args.is_many):
        raise InputError("--resume goes on with a table of several videos: give them, and --table FILE")
    if args.start >= args.end:
        raise InputError(f"--end {args.end:g} is not after --start {args.start:g} seconds")
    refuse_overwriting(args.outputs, [path for path, _ in args.tasks])
    return args


def find_tasks(args):
    """Return (path, output) for each video; the output is None if none is written. Sets args.is_many."""
    tasks, args.is_many = [], len(args.videos) > 1 or bool(args.scheduler)
    for argument in args.videos:
        path = Path(argument)
        if is_pattern(argument) or (argument and path.is_dir()) or re.search("[^/]/$", argument):  # s3://bucket/talks/
            args.is_many = True
            tasks += [(found, Path(output).parent) for found, output in find_images(argument, VIDEO_SUFFIXES, "video")
                      if not found.endswith(ENDING)]
        else:
            tasks.append((argument, Path()))
    if not tasks:
        raise InputError(f"{args.videos[0]} holds only what an earlier run wrote (*{ENDING}): check the path")
    tasks = list(dict.fromkeys(tasks))  # a video given twice is one
    if args.no_video:
        return [(path, None) for path, _ in tasks]
    if args.output and not args.is_many:
        return [(tasks[0][0], args.output)]
    outputs = [(args.output or Path()) / folder / f"{Path(path).stem}{ENDING}" for path, folder in tasks]
    return [(path, output if outputs.count(output) == 1 else output.with_name(f"{Path(path).name}{ENDING}"))
            for (path, _), output in zip(tasks, outputs)]  # a.mov and a.mp4 are not the same


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
        sound = (writer.audio, writer.packets) if writer else (None, None)
        frames = read_video(video, *sound, args.start, args.end, args.every)
        n_waiting = min(16, max(2, MAX_WAITING_BYTES // max(1, 3 * stream.width * stream.height)))
        recogniser = cached_recogniser(args.models, args.detector, args.min_score, args.min_probability)
        recognised = stack.enter_context(contextlib.closing(
            prefetch(recognise_frames(prefetch(frames, n_waiting), recogniser, args.every), n_waiting)))
        length = max(0, min(args.end, (video.duration or 0) / 1e6) - args.start)
        expected = round(length / args.every if args.every else length * frame_rate(stream)) or None
        progress = stack.enter_context(tqdm(recognised, printable(Path(path).name), expected, unit=" frames",
                                            disable=quiet or None))
        try:
            for seconds, frame, faces in progress:
                if args.report:
                    result.report.add(seconds, frame, faces)  # before anything is drawn into the frame
                if writer:
                    draw_faces(frame, faces)
                    writer.write(frame, seconds - args.start)
                for face in faces if args.table else ():
                    add_row(video_row(result.n_frames, seconds, face))
                for face in faces if args.plot else ():
                    result.timeline[face.track_id].append((seconds, *face.probabilities.values()))
                result.n_frames, result.n_faces = result.n_frames + 1, result.n_faces + len(faces)
                result.seconds = seconds
        except (InputError, KeyboardInterrupt) as error:  # what was done so far is worth having
            result.ended_by = error
        if not result.n_frames:
            after = f" after {args.start:g} seconds" * bool(args.start)
            raise result.ended_by or InputError(f"{path} holds no frame that decodes{after}: mend or convert it")
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


def recognise_task(task, args, models=None):
    """Return the Result of one of several videos and its rows, or an InputError; in a process of its own.

    On a cluster `models` is that of cached_recogniser.
    """
    path, output = (name if name is None or is_remote(name) else args.folder / name for name in task)
    args.models, rows = models or args.models, []
    try:
        return recognise(args, path, output, rows.append, quiet=True), rows
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
        function, n_jobs, args.folder = functools.partial(recognise_task, args=args), args.jobs, Path.cwd()
        if args.scheduler:
            models = onnx_bytes(args.models), yunet.PATH.read_bytes() if args.detector == "yunet" else None
            call, n_jobs = stack.enter_context(workers.on_cluster(function, args.scheduler, models)), CLUSTER_JOBS
        else:
            call = stack.enter_context(workers.in_processes(function))
        answers = stack.enter_context(contextlib.closing(workers.in_order(call, todo, 2 * n_jobs, n_jobs)))
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
                 + (f"; {n_before:,} were done before" if n_before else "")
                 + ", and are not in the report" * bool(n_before and args.report), args.quiet)
    if failed:
        raise InputError(f"{len(failed):,} of {len(args.tasks):,} videos could not be read to their end:", *failed)


def main(argv=None):
    args = parse_arguments(argv)
    cached_recogniser(args.models, args.detector)  # says at once if it cannot be loaded
    if not args.is_many:
        return recognise_one(args)
    try:
        return recognise_many(args)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the videos that were finished are written; run it again "
                                f"{'with --resume ' if args.table else ''}for the others") from None


if __name__ == "__main__":
    run(main)
