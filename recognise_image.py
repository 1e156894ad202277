"""Recognise the expression of every face in images.

Reads the images given: files, folders with all that is in them, patterns like "*.jpg", addresses like s3://...
of all three; without any, a portrait that comes with matplotlib. Reads models/.
Writes output_<name> into the current folder, for a folder a folder: each image with a box and a label on each face.
Prints a row for each face, comma-separated: file, face number, x, y, width, height, expression, probability.
A table also has the probabilities of all seven expressions, and a row with face 0 for an image without a face.

$ python recognise_image.py
$ python recognise_image.py party.jpg holiday.png
$ python recognise_image.py photos --table faces.csv --no-images
$ python recognise_image.py photos --table faces.parquet --no-images --resume
$ python recognise_image.py s3://bucket/photos --table faces.csv --no-images --scheduler tcp://host:8786
$ python recognise_image.py party.jpg --output labelled.jpg --show
"""
import contextlib
import csv
import functools
import itertools
import sys
from dataclasses import dataclass, field
from pathlib import Path

from expressions import workers, yunet
from expressions.artifacts import refuse_overwriting
from expressions.console import InputError, pluralise, positive_int, print_status, run, script_parser
from expressions.images import find_images, is_remote, parse_path, sample_image_path, with_writable_suffix
from expressions.model_files import onnx_bytes
from expressions.recognition import add_detector_arguments, cached_recogniser, choose_detector, recognise_file
from expressions.tables import IMAGE_COLUMNS, STDOUT, open_table, safe_cell, table_path

MIN_IMAGES_FOR_POOL = 8  # fewer are not worth starting processes
CLUSTER_AHEAD = 500  # images that are handed to a cluster at once


@dataclass
class Summary:
    """What became of the images."""
    images: int = 0
    faces: int = 0
    without: int = 0  # images without a face
    skipped: int = 0  # images that an earlier run has done
    uniform: list = field(default_factory=list)  # paths
    failed: list = field(default_factory=list)  # sentences
    is_interrupted: bool = False


def main(argv=None):
    args = parse_arguments(argv)
    destination, place = plan_outputs(args)
    cached_recogniser(args.models, args.detector, args.min_score)  # says at once if it cannot be loaded
    summary = Summary()
    with contextlib.ExitStack() as stack:
        tables = [stack.enter_context(open_table(path, IMAGE_COLUMNS, args.resume)) for path in args.tables]
        bar = progress_bar(args, stack)
        answers = recognise_all(args, find_tasks(args, destination, tables, summary))
        stack.callback(answers.close)
        try:
            for task, answer in answers:
                report(args, task, answer, summary, tables, bar)
        except KeyboardInterrupt:  # the rows so far are worth having
            summary.is_interrupted = True
    finish(args, place, summary)


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("images", nargs="*", help="image files, folders, patterns or addresses (default: a portrait)")
    parser.add_argument("--output", type=parse_path, help="the file to write, or for several images the folder")
    parser.add_argument("--table", "--csv", "--json", dest="tables", action="append", type=table_path, default=[],
                        metavar="FILE", help="write the rows here, too, into a new file that ends in .csv, .json, "
                        ".jsonl or .parquet; - is CSV to standard output")
    parser.add_argument("--no-images", "--no-pictures", action="store_true", help="write no images, only rows")
    parser.add_argument("--show", action="store_true", help="open a window with each image")
    parser.add_argument("--resume", action="store_true", help="go on with the table: leave out the images it holds")
    parser.add_argument("--jobs", type=positive_int, metavar="NUMBER", default=workers.available_cpus(),
                        help="processes for many images (default: one for each core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is to do the work")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    args.detector = choose_detector(args.detector)
    if args.resume and not set(args.tables) - {STDOUT}:
        raise InputError("--resume goes on with a table: give --table FILE")
    args.images = args.images or [str(sample_image_path())]
    return args


def plan_outputs(args):
    """Find out where the images of this run go; no file may be written over an input or another output.

    Returns a function from the output that find_images gives to where it goes, and that place in words.
    """
    inputs, outputs, is_single = [], [], len(args.images) == 1
    for argument in args.images:
        found = find_images(argument)
        path, output = next(found, (None, None))
        if path is None:
            raise InputError(f"{argument} {'holds' if Path(argument).is_dir() else 'matches'} no image: check the path")
        if len(output.parts) > 1:  # of a folder, whose outputs all go into one, which no run reads
            pairs, is_single = [(argument, Path(output.parts[0]))], False
        else:
            pairs = [(path, output), *found]
        inputs += [path for path, _ in pairs]
        outputs += [output for _, output in pairs]
    is_single = is_single and len(outputs) == 1
    destination = choose_destination(args.output, is_single)
    written = [] if args.no_images else map(destination, outputs)
    refuse_overwriting([path for path in (*args.tables, *written) if path != STDOUT and not is_remote(path)],
                       [path for path in inputs if not is_remote(path)])
    if len(outputs) == 1:
        return destination, str(destination(outputs[0]))
    return destination, f"images into {args.output or 'this folder'}"


def choose_destination(output, is_single):
    """A function from the output that find_images gives to where it goes; `output` is what --output says."""
    if not output:
        return lambda path: path
    if is_single and (is_remote(output) or not output.is_dir()):
        if with_writable_suffix(Path(output)) != Path(output):
            raise InputError(f"{output} has no ending that OpenCV writes: end it in .jpg or .png")
        return lambda path: output
    return lambda path: f"{output}/{path.as_posix()}" if is_remote(output) else output / path


def find_tasks(args, destination, tables, summary):
    """Yield each image with its output, None where none is written; those that all tables hold are left out."""
    for argument in args.images:
        for path, output in find_images(argument):
            if args.resume and all(safe_cell(path) in table.done for table in tables if table.done is not None):
                summary.skipped += 1
            else:
                yield path, None if args.no_images else destination(output)


def recognise_all(args, tasks):
    """Yield each task with what recognise_file returns for it, from this process, others, or a cluster."""
    first = list(itertools.islice(tasks, MIN_IMAGES_FOR_POOL))
    is_few, tasks = len(first) < MIN_IMAGES_FOR_POOL, itertools.chain(first, tasks)
    function = functools.partial(recognise_file, models=args.models, detector=args.detector, min_score=args.min_score,
                                 folder=Path.cwd(), keep_image=args.show)
    if args.show or (is_few and not args.scheduler):
        yield from ((task, function(task)) for task in tasks)
    elif args.scheduler:
        make_executor = functools.partial(workers.dask_executor, args.scheduler, cluster_models(args))
        yield from workers.in_order(make_executor, function, tasks, CLUSTER_AHEAD)
    else:
        make_executor = functools.partial(workers.process_pool, args.jobs)
        yield from workers.in_order(make_executor, function, tasks, 3 * args.jobs)


def cluster_models(args):
    """What the workers of a cluster need to load a recogniser: see cached_recogniser."""
    return onnx_bytes(args.models), yunet.PATH.read_bytes() if args.detector == "yunet" else None


def progress_bar(args, stack):
    """A progress bar for several images on a terminal, otherwise None."""
    if args.quiet or not sys.stderr.isatty():
        return None
    is_remote_search = any(map(is_remote, args.images))  # it may take minutes
    total = None if is_remote_search else sum(1 for argument in args.images for _ in find_images(argument))
    from tqdm import tqdm

    return stack.enter_context(tqdm(total=total, unit=" images", disable=total == 1))


def report(args, task, answer, summary, tables, bar):
    """Count an answer of recognise_file; print and keep its rows; show the image if asked."""
    path, output = task
    if bar is not None:
        bar.update()
    if isinstance(answer, InputError):
        summary.failed.append(str(answer) if str(path) in str(answer) else f"{path}: {answer}")
        return
    rows, uniform, image = answer
    summary.images, summary.faces = summary.images + 1, summary.faces + len(rows)
    summary.without += not rows
    summary.uniform += [str(path)] * uniform
    rows = [[safe_cell(path), *row] for row in rows]
    if STDOUT not in args.tables:
        with bar.external_write_mode() if bar is not None else contextlib.nullcontext():  # not in the bar's line
            csv.writer(sys.stdout, lineterminator="\n").writerows(row[:8] for row in rows)
    for table in tables:
        if safe_cell(path) not in (table.done or ()):
            table.add(*(rows or [[safe_cell(path), 0, *[""] * (len(IMAGE_COLUMNS) - 2)]]))
    if args.show:
        from expressions.camera import show_image
        show_image(image, Path(path).name, output)


def finish(args, place, summary):
    """Say what was done; raise what gives the script another exit status than 0."""
    files = [str(path) for path in args.tables if path != STDOUT]
    done = summary.skipped + summary.images
    if done:
        written = ", ".join([place] * (not args.no_images) + files)
        print_status((f"wrote {written}: " if written else "")
                     + f"{pluralise(summary.faces, 'face')} in {pluralise(summary.images, 'image')}"
                     + (f", {summary.without:,} without one" if summary.images > 1 else "")
                     + (f"; {summary.skipped:,} were done before" if summary.skipped else ""), args.quiet)
    if summary.uniform:
        names = ", ".join(summary.uniform[:3]) + " and others" * (len(summary.uniform) > 3)
        print_status(f"{names}: nothing but one flat colour", args.quiet)
    if summary.is_interrupted:
        raise KeyboardInterrupt(f"{pluralise(done, 'image')} done and written; run it again "
                                f"{'with --resume ' if files else ''}for the others")
    if summary.failed:
        total = len(summary.failed) + done
        headline = [f"{len(summary.failed):,} of {total:,} images could not be read:"] * (len(summary.failed) > 1)
        raise InputError(*headline, *summary.failed)


if __name__ == "__main__":
    run(main)
