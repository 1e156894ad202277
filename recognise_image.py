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
CLUSTER_JOBS = 500  # images that are handed to a cluster at once


@dataclass
class Summary:
    """What became of the images."""
    images: int = 0
    faces: int = 0
    without: int = 0  # images without a face
    skipped: int = 0  # images that an earlier run has done
    failed: list = field(default_factory=list)  # sentences


def main(argv=None):
    args = parse_arguments(argv)
    place = plan_outputs(args)
    cached_recogniser(args.models, args.detector, args.min_score)  # says at once if it cannot be loaded
    summary = Summary()
    with contextlib.ExitStack() as stack:
        table = stack.enter_context(open_table(args.table, IMAGE_COLUMNS, args.resume)) if args.table else None
        bar = progress_bar(args, stack)
        answers = stack.enter_context(contextlib.closing(recognise_all(args, find_tasks(args, table, summary))))
        try:
            for task, answer in answers:
                report(args, task, answer, summary, table, bar)
        except KeyboardInterrupt:  # the rows so far are worth having
            raise KeyboardInterrupt(f"{pluralise(summary.images + summary.skipped, 'image')} done and written; run it "
                                    f"again {'with --resume ' if table else ''}for the others") from None
    finish(args, place, summary)


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("images", nargs="*", help="image files, folders, patterns or addresses (default: a portrait)")
    parser.add_argument("--output", type=parse_path, default=Path(), help="the file to write, or for several images "
                        "the folder (default: this one)")
    parser.add_argument("--table", "--csv", "--json", type=table_path, metavar="FILE", help="write the rows here, too, "
                        "into a new file that ends in .csv, .json, .jsonl or .parquet; - is CSV to standard output")
    parser.add_argument("--no-images", "--no-pictures", action="store_true", help="write no images, only rows")
    parser.add_argument("--show", action="store_true", help="open a window with each image")
    parser.add_argument("--resume", action="store_true", help="go on with the table: leave out the images it holds")
    parser.add_argument("--jobs", type=positive_int, metavar="NUMBER", default=workers.available_cpus(),
                        help="processes for many images (default: one for each core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is to do the work")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    args.detector = choose_detector(args.detector)
    if args.resume and args.table in (None, STDOUT):
        raise InputError("--resume goes on with a table: give --table FILE")
    args.images = args.images or [str(sample_image_path())]
    return args


def plan_outputs(args):
    """Find out where the images of this run go, and return it in words; `args.is_single`: --output is one file.

    No file may be written over an input or another output.
    """
    inputs, outputs = [], []
    for argument in args.images:
        found = find_images(argument)
        path, output = next(found, (None, None))
        if path is None:
            raise InputError(f"{argument} holds or matches no image: check the path")
        is_folder = len(output.parts) > 1  # its outputs all go into one, which no run reads
        for image, place in [(argument, Path(output.parts[0]))] if is_folder else [(path, output), *found]:
            inputs.append(image)
            outputs.append(place)
    args.is_single = outputs == [output] and (is_remote(args.output) or not args.output.is_dir())
    if args.is_single and with_writable_suffix(Path(args.output)) != Path(args.output):
        raise InputError(f"{args.output} has no ending that OpenCV writes: end it in .jpg or .png")
    places = [destination(args, output) for output in outputs]
    refuse_overwriting(filter(None, [*places, args.table]), inputs)
    return places[0] if len(places) == 1 else f"images into {'this folder' if args.output == Path() else args.output}"


def destination(args, output):
    """Where an image goes for which find_images gives this output; None if none is written."""
    if args.no_images:
        return None
    return args.output if args.is_single else parse_path(f"{args.output}/{output.as_posix()}")


def find_tasks(args, table, summary):
    """Yield each image with the place to write it to; those that the table holds are left out."""
    for argument in args.images:
        for path, output in find_images(argument):
            if table and safe_cell(path) in table.done:
                summary.skipped += 1
            else:
                yield path, destination(args, output)


def recognise_all(args, tasks):
    """Yield each task with what recognise_file returns for it, from this process, others, or a cluster."""
    first = list(itertools.islice(tasks, MIN_IMAGES_FOR_POOL))
    is_few, tasks = len(first) < MIN_IMAGES_FOR_POOL, itertools.chain(first, tasks)
    function = functools.partial(recognise_file, models=args.models, detector=args.detector, min_score=args.min_score,
                                 folder=Path.cwd(), keep_image=args.show)
    if args.show or (is_few and not args.scheduler):
        yield from ((task, function(task)) for task in tasks)
    elif args.scheduler:
        models = onnx_bytes(args.models), yunet.PATH.read_bytes() if args.detector == "yunet" else None
        with workers.on_cluster(function, args.scheduler, models) as call:
            yield from workers.in_order(call, tasks, ahead=CLUSTER_JOBS, jobs=CLUSTER_JOBS)
    else:
        with workers.in_processes(function) as call:
            yield from workers.in_order(call, tasks, ahead=3 * args.jobs, jobs=args.jobs)


def progress_bar(args, stack):
    """A progress bar for several images on a terminal, otherwise None."""
    if args.quiet or not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    is_slow = any(map(is_remote, args.images))  # to count what is there may take minutes
    total = None if is_slow else sum(1 for argument in args.images for _ in find_images(argument))
    return stack.enter_context(tqdm(total=total, unit=" images", disable=total == 1))


def report(args, task, answer, summary, table, bar):
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
    rows = [[safe_cell(path), *row] for row in rows]
    with bar.external_write_mode() if bar is not None else contextlib.nullcontext():  # not in the bar's line
        if args.table != STDOUT:
            csv.writer(sys.stdout, lineterminator="\n").writerows(row[:8] for row in rows)
        if uniform:
            print_status(f"{path}: nothing but one flat colour", args.quiet)
    if table:
        table.add(*(rows or [[safe_cell(path), 0, *[""] * (len(IMAGE_COLUMNS) - 2)]]))
    if args.show:
        from expressions.camera import show_image
        show_image(image, Path(path).name, output)


def finish(args, place, summary):
    """Say what was done. Raises InputError if images could not be read."""
    done = summary.skipped + summary.images
    if done:
        written = [str(path) for path in (not args.no_images and place, args.table) if path and path != STDOUT]
        print_status((f"wrote {', '.join(written)}: " if written else "")
                     + f"{pluralise(summary.faces, 'face')} in {pluralise(summary.images, 'image')}"
                     + (f", {summary.without:,} without one" if summary.images > 1 else "")
                     + (f"; {summary.skipped:,} were done before" if summary.skipped else ""), args.quiet)
    if summary.failed:
        total = len(summary.failed) + done
        headline = [f"{len(summary.failed):,} of {total:,} images could not be read:"] * (len(summary.failed) > 1)
        raise InputError(*headline, *summary.failed)


if __name__ == "__main__":
    run(main)
