"""Recognise the expression of every face in images.

Reads the images given: files, folders with all that is in them, patterns like "*.jpg", addresses like s3://...
of all three; without any, a portrait that comes with matplotlib. Reads models/.
Writes output_<name> into the current folder, for a folder a folder: each image with a box and a label on each face.
Prints a row for each face, comma-separated: file, face number, x, y, width, height, expression, probability.
A table also has the probabilities of all seven expressions, a row with face 0 for an image without a face, and one with
the error for an image that could not be read. A report is a page that sums all up.

$ python recognise_image.py
$ python recognise_image.py party.jpg holiday.png
$ python recognise_image.py photos --table faces.csv --no-images
$ python recognise_image.py photos --table faces.parquet --no-images --resume
$ python recognise_image.py photos --report photos.html
$ python recognise_image.py s3://bucket/photos --table faces.csv --no-images --scheduler tcp://host:8786
$ python recognise_image.py party.jpg --output labelled.jpg --show
$ python recognise_image.py party.jpg --explain
"""
import contextlib
import csv
import functools
import itertools
import os
import sys
from pathlib import Path

from expressions import workers, yunet
from expressions.artifacts import refuse_overwriting
from expressions.console import InputError, pluralise, positive_int, print_status, run, script_parser
from expressions.images import find_images, is_remote, sample_image_path, with_writable_suffix
from expressions.model_files import onnx_bytes
from expressions.recognition import (
    add_detector_arguments,
    cached_recogniser,
    choose_detector,
    explained_path,
    recognise_file,
)
from expressions.report import ImageReport, add_report_argument, write_report
from expressions.tables import FACE_COLUMNS, IMAGE_COLUMNS, STDOUT, add_table_argument, open_table, safe_cell

MIN_IMAGES_FOR_POOL = 8  # fewer are not worth starting processes
CLUSTER_JOBS = 500  # images that are handed to a cluster at once


def main(argv=None):
    args = parse_arguments(argv)
    tasks = find_tasks(args)
    cached_recogniser(args.models, args.detector)  # says at once if it cannot be loaded
    results = []  # for each image the number of its faces, or a sentence that says why it could not be read
    report = ImageReport()
    with contextlib.ExitStack() as stack:
        table = args.table and stack.enter_context(open_table(args.table, IMAGE_COLUMNS, args.resume))
        todo = [task for task in tasks if not (table and safe_cell(task[0]) in table.done)]
        if table and table.done:
            report.add_table(table.journal)
        answers = stack.enter_context(contextlib.closing(recognise_all(args, todo)))
        hide_progress = contextlib.nullcontext
        if len(todo) > 1:
            from tqdm import tqdm  # takes a tenth of a second, for which one image need not wait
            answers = tqdm(answers, total=len(todo), unit=" images", disable=args.quiet or None)
            hide_progress = tqdm.external_write_mode
        n_before = len(tasks) - len(todo)
        try:
            for task, answer in answers:
                with hide_progress():
                    results.append(keep(args, table, task, answer))
                report.add(task[0], None if isinstance(answer, InputError) else answer[0])
        except KeyboardInterrupt:  # the rows so far are worth having
            raise KeyboardInterrupt(f"{pluralise(n_before + len(results), 'image')} done and written; run it again "
                                    f"{'with --resume ' if table else ''}for the others") from None
        finally:
            if args.report and (results or n_before):
                report.n_left = len(todo) - len(results)
                with hide_progress():
                    write_report(args.report, [report], args.quiet)
    summarise(args, [output for _, output in tasks if output], n_before, results)


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("images", nargs="*", help="image files, folders, patterns or addresses (default: a portrait)")
    parser.add_argument("--output", default="", help="the file to write, for several images the folder (default: here)")
    add_table_argument(parser, "per face, or for an image without one")
    add_report_argument(parser)
    parser.add_argument("--no-images", "--no-pictures", action="store_true", help="write no images, only rows")
    parser.add_argument("--explain", action="store_true", help="write a second image, output_<name>_explained.png: for "
                        "each face which parts of it speak for its expression, and all seven probabilities")
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
    if args.explain and args.no_images:
        raise InputError("--explain writes images: leave out --no-images")
    args.images = args.images or [str(sample_image_path())]
    return args


def find_tasks(args):
    """Return (path, output) for each image; the output is None if none is written. No file may be written over."""
    tasks = [task for argument in args.images for task in find_images(argument)]
    paths, outputs = zip(*tasks)
    if len(tasks) == 1 and "/" not in outputs[0] and (is_remote(args.output) or not Path(args.output).is_dir()):
        outputs = [with_writable_suffix(args.output)]
    elif args.output:
        outputs = [f"{args.output.rstrip('/')}/{output}" for output in outputs]
    outputs = () if args.no_images else outputs
    explanations = map(explained_path, outputs if args.explain else ())
    refuse_overwriting([*outputs, *explanations, *filter(None, [args.table, args.report])], paths)
    return list(itertools.zip_longest(paths, outputs))


def recognise_all(args, tasks):
    """Yield each task with what recognise_file returns for it, from this process, others, or a cluster."""
    function = functools.partial(
        recognise_file, models=args.models, detector=args.detector, min_score=args.min_score,
        min_probability=args.min_probability, folder=Path.cwd(), keep_image=args.show, explain=args.explain)
    if args.scheduler:
        models = onnx_bytes(args.models), yunet.PATH.read_bytes() if args.detector == "yunet" else None
        with workers.on_cluster(function, args.scheduler, models) as call:
            yield from workers.in_order(call, tasks, ahead=CLUSTER_JOBS, jobs=CLUSTER_JOBS)
    elif args.show or len(tasks) < MIN_IMAGES_FOR_POOL:
        yield from ((task, function(task)) for task in tasks)
    else:
        with workers.in_processes(function) as call:
            yield from workers.in_order(call, tasks, ahead=3 * args.jobs, jobs=args.jobs)


def keep(args, table, task, answer):
    """Print, show and add to the table what recognise_file found; return the number of faces, or why there is none."""
    (path, output), cell, no_face = task, safe_cell(task[0]), [""] * len(FACE_COLUMNS)
    if isinstance(answer, InputError):
        sentence = str(answer) if path in str(answer) else f"{path}: {answer}"
        if table:
            table.add([cell, *no_face, safe_cell(sentence)])
        return sentence
    faces, image = answer
    rows = [[cell, *face, ""] for face in faces]
    if args.table != STDOUT:
        csv.writer(sys.stdout, lineterminator="\n").writerows(row[:8] for row in rows)
    if table:
        table.add(*(rows or [[cell, 0, *no_face]]))
    if args.show:
        from expressions.camera import show_image
        show_image(image, Path(path).name, output)
    return len(faces)


def summarise(args, outputs, n_before, results):
    """Say what was done. Raises InputError if images could not be read."""
    failed = [result for result in results if isinstance(result, str)]
    counts = [result for result in results if not isinstance(result, str)]
    written = [str(path) for path in (args.table, args.report) if path and path != STDOUT]
    if outputs:
        place = args.output if is_remote(args.output) else os.path.commonpath(outputs) or "this folder"
        written.insert(0, f"images into {place}" if len(outputs) > 1 else place)
    if counts or n_before:
        print_status((f"wrote {', '.join(written)}: " if written else "")
                     + f"{pluralise(sum(counts), 'face')} in {pluralise(len(counts), 'image')}"
                     + (f", {counts.count(0):,} without one" if len(counts) > 1 else "")
                     + (f"; {n_before:,} were done before" if n_before else ""), args.quiet)
    if failed:
        headline = [f"{len(failed):,} of {n_before + len(results):,} images could not be read:"] * (len(failed) > 1)
        raise InputError(*headline, *failed)


if __name__ == "__main__":
    run(main)
