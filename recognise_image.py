"""Recognise the expression of every face in pictures.

Reads the pictures given: files, folders with all that is in them, patterns like "*.jpg", addresses like s3://...
of all three; with none a portrait that comes with matplotlib. Reads models/.
Writes output_<name> where you stand, for a folder a folder: the picture with a box and a label on each face.
Prints a row per face, comma-separated: file, face number, x, y, width, height, expression, probability.
With --csv faces.csv, say, faces.csv.part holds what is done until all is, for --resume.

$ python recognise_image.py
$ python recognise_image.py party.jpg holiday.png
$ python recognise_image.py photos --csv faces.csv --no-pictures
$ python recognise_image.py photos --csv faces.parquet --no-pictures --resume
$ python recognise_image.py s3://bucket/photos --csv faces.csv --no-pictures --scheduler tcp://host:8786
$ python recognise_image.py party.jpg --output labelled.jpg --show
"""
import argparse
import contextlib
import csv
import functools
import glob
import heapq
import importlib.util
import itertools
import os
import sys
import threading
from pathlib import Path

from confmatrix import show_if_possible
from preprocessing import (
    EXPRESSIONS,
    FACE_SIZE,
    MAX_PIXELS,
    InputError,
    decode_picture,
    first_line,
    printable,
    read_stamp,
    run,
    script_parser,
    strangers,
    written_whole,
)
from saved_model import MODELS, STAMP, check_tflite, load_model, model_files, read_layers
from tables import COLUMNS, TABLES, Journal, cell, csv_rows, table_path

import cv2
import numpy as np

# The cascades ship with opencv-python, not with its version 5. benchmarks/find_faces.py has what each step gives.
SEARCH = "haarcascade_frontalface_alt2.xml"  # finds more faces than the one below, and more of what is none
CONFIRM = "haarcascade_frontalface_default.xml"  # says how sure it is, and frames a face as FER2013 does
CONFIDENCE = 3  # of that cascade's last stages, from which on it is a face
SURER = 4  # the same for the copies below: more searches, more chances to be wrong
TURNS = (25, -25)  # degrees of the copies that are searched where the picture itself shows no face
LONGEST_TURNED = 32_000  # pixels of a picture's diagonal; OpenCV turns none that is longer than 32,767
CONFIRM_SIZE = 48  # pixels of the face it looks at
LONGEST_SIDE = 1280  # pixels; larger pictures are searched at this size: a face is at least 1/60 of it
SCALE_STEP = 1.1  # between the sizes at which faces are searched
NEIGHBOURS = 3  # detections that must agree on a face
WIDEN, LOWER = 1.05, 0.075  # of a box, until it is framed as FER2013 is: benchmarks/crop_margin.py
FONT = cv2.FONT_HERSHEY_SIMPLEX
COLOURS = (  # BGR, dark enough for white letters
    (30, 30, 190), (40, 120, 40), (150, 50, 130), (0, 100, 180), (170, 80, 30), (130, 110, 0), (90, 90, 90))
ENDINGS = (".avif", ".bmp", ".dib", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
           ".tif", ".tiff", ".webp")  # of what counts as a picture in a folder
SORTED_AT_ONCE = 100_000  # names of a folder that are held
FEW = 8  # pictures for which it is not worth starting processes


def _cascade(name):
    return _cascade_of(name, threading.get_ident())


@functools.cache
def _cascade_of(name, thread):  # OpenCV's remember where they are: each thread needs its own
    try:
        cascade = cv2.CascadeClassifier(cv2.data.haarcascades + name)
    except AttributeError:
        raise InputError(f"OpenCV {cv2.__version__} has no CascadeClassifier: "
                         "pip install 'opencv-python<5'") from None
    if cascade.empty():
        raise InputError(f"{cv2.data.haarcascades}{name} does not load: reinstall opencv-python 4")
    return cascade


def find_faces(grey, longest_side=LONGEST_SIDE, scale_step=SCALE_STEP, neighbours=NEIGHBOURS,
               confidence=CONFIDENCE):
    """Boxes int (n, 4) of the faces in a grey picture uint8 (h, w): x, y, width, height, from left to right.

    One of OpenCV's frontal cascades (Viola and Jones 2001) searches the picture, made smaller where
    it is larger than `longest_side`; another takes a closer look at what the first has found.
    """
    zoom = min(1, longest_side / max(grey.shape))
    if zoom * min(grey.shape) < 1:  # nothing would be left of a line
        return np.empty((0, 4), int)
    smaller = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else grey
    found = _cascade(SEARCH).detectMultiScale(smaller, scaleFactor=scale_step, minNeighbors=neighbours)
    boxes = []
    for candidate in np.reshape(found, (-1, 4)) / zoom:
        box, certainty = look_closer(grey, candidate)
        if certainty >= confidence and not any(overlap(box, other) > 0.4 for other in boxes):
            boxes.append(box)
    return np.array(sorted(map(tuple, boxes)), int).reshape(-1, 4)


def look_closer(grey, box, face_size=CONFIRM_SIZE, scale_step=1.05, margin=0.3):
    """The most certain face about as large as a box and at most `margin` of its width away from it.

    Returns its box int (4,) and the cascade's confidence; (None, -inf) where there is none.
    """
    x, y, width, height = box
    left, top = max(0, int(x - margin * width)), max(0, int(y - margin * height))
    part = grey[top:int(y + (1 + margin) * height), left:int(x + (1 + margin) * width)]
    zoom = face_size / width
    if min(part.shape) * zoom < 24:  # the cascade's window
        return None, -np.inf
    part = cv2.resize(part, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    found, _, confidences = _cascade(CONFIRM).detectMultiScale3(
        part, scaleFactor=scale_step, minNeighbors=1, minSize=(round(0.75 * face_size),) * 2,
        maxSize=(round(1.4 * face_size),) * 2, outputRejectLevels=True)
    if not len(found):
        return None, -np.inf
    best = int(np.argmax(confidences))
    box = np.round(found[best] / zoom).astype(int) + np.array((left, top, 0, 0))
    box[2:] = np.minimum(box[2:], grey.shape[::-1] - box[:2])  # rounding may cross the border
    return box, float(np.ravel(confidences)[best])


def overlap(box, other):
    """Intersection over union of two boxes."""
    (x, y, width, height), (left, top, wide, high) = box, other
    common = max(0, min(x + width, left + wide) - max(x, left)) * max(0, min(y + height, top + high) - max(y, top))
    return common / (width * height + wide * high - common)


def crop_faces(grey, boxes, widen=WIDEN, lower=LOWER):
    """The boxes of a grey picture as the network takes them, uint8 (n, 48, 48, 1).

    Beyond the picture's border its last pixels are repeated.
    """
    faces = []
    for x, y, width, height in boxes:
        side = max(1, round(widen * width))
        left, top = round(x + (width - side) / 2), round(y + (height - side) / 2 + lower * height)
        face = grey[max(0, top):top + side, max(0, left):left + side]
        if face.shape != (side, side):
            above, before = max(0, -top), max(0, -left)
            face = cv2.copyMakeBorder(face, above, side - above - face.shape[0], before, side - before - face.shape[1],
                                      cv2.BORDER_REPLICATE)
        faces.append(cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA))
    return np.array(faces, np.uint8).reshape(-1, FACE_SIZE, FACE_SIZE, 1)


def load_recogniser(models=MODELS, keras=False):
    """The model as a function: grey faces uint8 (n, 48, 48, 1) → probabilities float32 (n, 7).

    OpenCV runs models/model.tflite, ready at once; Keras takes seconds to start and is for
    where that file is missing or was made from another model, or where `keras` asks for it.
    """
    layers, weights = model_files(models)
    tflite = models / "model.tflite"
    stamp = read_stamp(models / STAMP)
    if not keras and tflite.is_file() and {layers.name, weights.name, tflite.name} <= stamp.keys() and not {
            layers, weights, tflite} & set(strangers(models / STAMP)):
        read_layers(layers)
        try:
            model = np.fromfile(tflite, np.uint8)
            check_tflite(model)
            recogniser = functools.partial(_predict_with_opencv, cv2.dnn.readNetFromTFLite(model))
            if not np.isfinite(recogniser(np.zeros((1, FACE_SIZE, FACE_SIZE, 1), np.uint8))).all():
                raise ValueError
        except (cv2.error, ValueError):
            raise InputError(f"{tflite} is damaged or of another network: train_model.py --export makes it anew"
                             ) from None
        return recogniser
    if not keras:
        print(f"{tflite} is missing or was made from another model, so Keras is loaded, which takes longer: "
              "train_model.py --export makes it anew", file=sys.stderr)
    from test_model import predict

    return functools.partial(predict, load_model(models))


def _predict_with_opencv(network, faces):
    network.setInput(faces.transpose(0, 3, 1, 2).astype(np.float32))  # OpenCV's order: channels before rows
    return network.forward().reshape(len(faces), len(EXPRESSIONS))


def recognise(picture, recogniser):
    """Boxes int (n, 4) and probabilities float32 (n, 7) of all faces in a picture uint8 BGR (h, w, 3).

    Where there is none, copies of the picture turned by TURNS are searched until one shows a face.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    boxes = find_faces(grey)
    if len(boxes):
        return boxes, recogniser(crop_faces(grey, boxes))
    for degrees in TURNS if np.hypot(*grey.shape) < LONGEST_TURNED else ():
        turned, back = turn(grey, degrees)
        boxes = find_faces(turned, confidence=SURER)
        if len(boxes):
            probabilities = recogniser(crop_faces(turned, boxes))
            corners = (boxes[:, :2] + boxes[:, 2:] / 2) @ back[:, :2].T + back[:, 2] - boxes[:, 2:] / 2
            corners = np.round([corners, corners + boxes[:, 2:]]).astype(int).clip(0, grey.shape[::-1])
            return np.concatenate([corners[0], corners[1] - corners[0]], axis=1), probabilities
    return boxes, np.empty((0, len(EXPRESSIONS)), np.float32)


def turn(grey, degrees):
    """A grey picture uint8 turned against the clock, with its corners, and the 2 x 3 matrix of the way back."""
    height, width = grey.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    wide, high = np.abs(matrix[:, :2]) @ (width, height)
    matrix[:, 2] += (wide - width) / 2, (high - height) / 2
    turned = cv2.warpAffine(grey, matrix, (round(wide), round(high)), borderMode=cv2.BORDER_REPLICATE)
    return turned, cv2.invertAffineTransform(matrix)


def draw_faces(picture, boxes, probabilities, expressions=None, numbers=None):
    """Draw a box and a label, "happy 97%", for each face into the picture, uint8 BGR (h, w, 3).

    `expressions` int (n,) says which one to name (default: the most probable one), `numbers` which
    face it is, "2 happy 97%".
    """
    size = letter_size(picture)
    if expressions is None:
        expressions = probabilities.argmax(axis=1)
    for (x, y, width, height), expression in zip(boxes, expressions):
        cv2.rectangle(picture, (x, y), (x + width - 1, y + height - 1), COLOURS[expression], max(2, round(2.5 * size)))
    taken = [tuple(box) for box in boxes]
    for face, (box, expression, shares) in enumerate(zip(boxes, expressions, probabilities)):
        text = f"{EXPRESSIONS[expression]} {shares[expression]:.0%}"
        if numbers is not None:
            text = f"{numbers[face]} {text}"
        taken.append(draw_label(picture, text, box, COLOURS[expression], size, taken))


def letter_size(picture):
    """OpenCV's font scale that is legible in a picture of this size."""
    return float(np.clip(min(picture.shape[:2]) / 720, 0.45, 3))


def draw_label(picture, text, box, colour, size, taken):
    """Draw white letters on a coloured ground at a free place above or below the box, or in it.

    `taken` are the faces and the grounds of earlier labels, (x, y, width, height); returns that of this one.
    """
    stroke = max(1, round(1.6 * size))
    pad = stroke + 1
    picture_height, picture_width = picture.shape[:2]
    (width, height), below = cv2.getTextSize(text, FONT, size, stroke)
    if width + 2 * pad > picture_width:
        size *= picture_width / (width + 2 * pad + 1)
        (width, height), below = cv2.getTextSize(text, FONT, size, stroke)
    width, height = width + 2 * pad, height + below + 2 * pad

    def is_free(place):
        left, top = place
        return 0 <= top <= picture_height - height and all(
            left >= x + w or left + width <= x or top >= y + h or top + height <= y for x, y, w, h in taken)

    x, y, box_width, box_height = box
    lefts = np.clip((x, x + box_width - width, x + (box_width - width) // 2), 0, max(0, picture_width - width))
    places = [(left, top) for top in (y - height, y + box_height) for left in lefts]
    inside = lefts[0], int(np.clip(y + box_height - height, 0, max(0, picture_height - height)))
    left, top = map(int, next(filter(is_free, places), inside))
    cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), colour, cv2.FILLED)
    cv2.putText(picture, text, (left + pad, top + height - pad - below), FONT, size, (255, 255, 255), stroke,
                cv2.LINE_AA)
    return left, top, width, height


def is_remote(path):
    """Whether a path is an address for fsspec, s3://bucket/picture.jpg for one; it is a str then, otherwise a Path."""
    return "://" in str(path)


def place(text):
    """A path as the user gives it, or an address."""
    return text if is_remote(text) else Path(text)


@contextlib.contextmanager
def filesystem(address):
    """Yield fsspec's file system of an address, and the path in it; what it raises becomes an InputError."""
    if not importlib.util.find_spec("fsspec"):
        raise InputError(f"{address} needs fsspec: pip install -r requirements-cluster.txt")
    import fsspec

    try:
        yield fsspec.core.url_to_fs(address)
    except InputError:
        raise
    except Exception as error:  # each file system has its own
        raise InputError(f"{address} cannot be opened ({first_line(error) or type(error).__name__}): check the address "
                         "and what it needs") from None


def read_picture(path, most=MAX_PIXELS):
    """A picture file as uint8 BGR (h, w, 3), upright as its EXIF orientation says; of at most `most` pixels."""
    too_large = f"{path} has more than {most:,} pixels: make it smaller, or give --max-pixels a larger number"
    longest = 3 * most + (1 << 20)  # bytes: no format needs as many
    if is_remote(path):
        with filesystem(path) as (files, name), files.open(name, "rb") as file:
            encoded = np.frombuffer(file.read(longest + 1), np.uint8)
    else:
        if not path.is_file():
            raise InputError(f"{path} is {'not a file' if path.exists() else 'not there'}: check the path")
        if path.stat().st_size > longest:
            raise InputError(too_large)
        encoded = np.fromfile(path, np.uint8)  # imread fails on letters outside Windows's code page
    if len(encoded) > longest:
        raise InputError(too_large)
    try:
        picture = decode_picture(encoded, cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise InputError(too_large) from None
        if error.code == cv2.Error.StsNoMem:
            raise InputError(f"{path} needs more memory than there is: make it smaller") from None
        picture = None
    if picture is None or picture.ndim != 3:  # it leaves grey PFM grey
        raise InputError(f"{path} is not a picture that OpenCV reads: convert it to JPEG or PNG")
    return picture


def limit_pixels(most, arguments):
    """Have OpenCV refuse pictures of more than `most` pixels before it decodes them.

    It reads its limit only when it is loaded, so where that was another, the script begins anew.
    """
    if os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] != str(most):
        os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(most)
        os.execv(sys.executable, [sys.executable, __file__, *arguments])


def is_blank(picture):
    """Whether a picture, uint8 BGR (h, w, 3), is one flat colour: of a covered lens, say."""
    lowest, highest = cv2.minMaxLoc(picture.reshape(len(picture), -1))[:2]
    return highest - lowest < 3


def write_picture(path, picture):
    """Write a picture, uint8 BGR (h, w, 3), in the format that the path's ending names."""
    fits, encoded = cv2.imencode(Path(path).suffix, picture)
    if not fits:
        raise InputError(f"{path} cannot hold {picture.shape[1]} x {picture.shape[0]} pixels: end it in .png")
    if is_remote(path):
        with filesystem(path) as (files, name):
            files.makedirs(name.rpartition("/")[0], exist_ok=True)
            files.pipe_file(name, encoded.tobytes())
    else:
        with written_whole(path) as [beside]:
            beside.write_bytes(encoded.tobytes())


def output_path(path):
    """output_<name> where you stand; PNG where OpenCV cannot write the picture's own format."""
    return writable(Path(f"output_{Path(path).name}"))


def writable(path):
    """The path, ending in .png where OpenCV cannot write colours in its format."""
    name = os.fsencode(path.name)  # OpenCV crashes at a str whose letters are no UTF-8
    colours = cv2.haveImageWriter(name) and path.suffix.lower() not in (".pbm", ".pgm")
    return path if colours else path.with_name(path.name + ".png")


def portrait():
    """Grace Hopper, as matplotlib ships her; found without importing matplotlib."""
    package = importlib.util.find_spec("matplotlib")
    path = Path(package.origin).parent / "mpl-data/sample_data/grace_hopper.jpg" if package else None
    if path is None or not path.is_file():
        raise InputError("matplotlib's portrait is not installed: give a picture")
    return path


def is_listed(name):
    """Whether a file counts as a picture in a folder: by its ending, and neither hidden nor of an earlier run."""
    return Path(name).suffix.lower() in ENDINGS and not name.startswith((".", "output_"))


def find_pictures(argument):
    """Yield (picture, output) for a file, a folder or a pattern; the outputs relative to where they will be.

    In a folder, hidden files and folders and those named output_* are passed over: an earlier run made these.
    """
    if is_remote(argument):
        yield from _find_remote(argument)
    elif Path(argument).is_dir():
        into = Path(f"output_{Path(argument).resolve().name}")
        for path in _walk(Path(argument)):
            yield path, writable(into / path.relative_to(argument))
    elif Path(argument).exists() or not glob.has_magic(argument):
        yield Path(argument), output_path(argument)
    else:
        for path in sorted(map(Path, glob.glob(argument, recursive=True))):  # noqa: PTH207, takes whole paths
            if path.is_file():
                yield path, output_path(path)


def _walk(folder):
    yield from _in_order(folder, lambda entry: is_listed(entry.name) and not entry.is_dir())
    for inner in _in_order(folder, lambda entry: entry.is_dir(follow_symlinks=False)
                           and not entry.name.startswith((".", "output_"))):
        yield from _walk(inner)


def _in_order(folder, is_wanted):
    """Yield the paths of a folder's entries by name, without holding all the names of a large one."""
    names = [""]
    while names:
        with os.scandir(folder) as entries:
            names = heapq.nsmallest(SORTED_AT_ONCE,
                                    (entry.name for entry in entries if entry.name > names[-1] and is_wanted(entry)))
        yield from (folder / name for name in names)
        if len(names) < SORTED_AT_ONCE:
            return


def _find_remote(address):
    """find_pictures for an address; of one like zip://...::s3://... what comes after the first part stays."""
    first, *others = address.split("::")
    with filesystem(address) as (files, top):
        if Path(first).suffix.lower() in ENDINGS and not glob.has_magic(first):
            found = [(top, Path(f"output_{Path(top).name}"))]
        elif glob.has_magic(first):
            found = ((path, Path(f"output_{Path(path).name}")) for path in sorted(files.glob(top)))
        else:
            into = Path(f"output_{Path(top).name}")
            found = ((f"{folder.rstrip('/')}/{name}", into / f"{folder}/{name}"[len(top):].lstrip("/"))
                     for folder, _, names in files.walk(top) for name in sorted(names) if is_listed(name))
        for path, output in found:
            path = path if is_remote(path) else f"{first.partition('://')[0]}://{path}"
            yield "::".join([path, *others]), writable(output)


def face_row(number, box, shares, expression=None):
    """A face's part of a row: its number, box int (4,), expression (default: the most probable one), probabilities."""
    expression = shares.argmax() if expression is None else expression
    return [int(number), *map(int, box), EXPRESSIONS[expression],
            *(round(float(share), 4) for share in (shares[expression], *shares))]


def recognition_parser(documentation):
    """A parser with the flags that all scripts share which recognise."""
    parser = script_parser(documentation)
    parser.add_argument("--models", type=Path, metavar="FOLDER", default=MODELS, help="where the model is")
    parser.add_argument("--keras", action="store_true",
                        help="recognise with Keras, from model.json and model.weights.h5; takes seconds to start")
    parser.add_argument("--max-pixels", type=int, metavar="NUMBER", default=MAX_PIXELS,
                        help="refuse pictures and frames of more (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="say nothing unless something is wrong")
    return parser


def at_least_one(text):
    """A whole number from 1 on, as an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return int(text)


def add_workers(parser):
    """Add the flags of the scripts that share out their work."""
    parser.add_argument("--jobs", type=at_least_one, metavar="NUMBER",
                        help="processes for many pictures or a long video (default: one for each core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is to do their work")


def say(args, sentence):
    """Print what was done to standard error, so that standard output holds rows alone, unless --quiet."""
    if not args.quiet:
        print(printable(sentence), file=sys.stderr)


def count(number, thing):
    """"1 face", "2 faces"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def find_tasks(args):
    """Yield the (picture, output) pairs of the arguments, the output None where none is written.

    Raises InputError before one that would be written over a picture or another output of this run.
    """
    arguments = args.pictures or [str(portrait())]
    for argument in arguments:
        if next(find_pictures(argument), None) is None:
            raise InputError(f"{argument} {'holds' if Path(argument).is_dir() else 'matches'} no picture: "
                             "check the path")
    folders = [argument for argument in arguments if not is_remote(argument) and Path(argument).is_dir()]
    files = [argument for argument in arguments if argument not in folders]
    tops = [Path(folder).resolve() for folder in folders]
    taken = {_absolute(path) for path, _ in itertools.chain(*map(find_pictures, files))}
    single = len(files) == len(arguments) == 1 and len(list(itertools.islice(find_pictures(*files), 2))) == 1

    def claim(path):
        whole = _absolute(path)
        is_picture = not is_remote(path) and is_listed(whole.name) and any(
            top in whole.parents and not any(part.startswith((".", "output_"))
                                             for part in whole.parent.relative_to(top).parts)
            for top in tops) and whole.exists()
        if whole in taken or is_picture:
            raise InputError(f"{path} would be written over another picture or output of this run: "
                             "give --output, or fewer pictures at once")

    for path in args.tables:
        claim(path)
        taken.add(_absolute(path))
    if len({top.name for top in tops}) < len(tops) and not args.no_pictures:
        raise InputError("two of these folders have the same name, and what is written of one would be written over "
                         "the other: give one at a time, with --output")
    for argument in arguments:
        for path, output in find_pictures(argument):
            if args.no_pictures:
                yield path, None
                continue
            if args.output and single and (is_remote(args.output) or not args.output.is_dir()):
                output = args.output
                if writable(Path(output)) != Path(output):
                    raise InputError(f"{output} has no ending that OpenCV writes: end it in .jpg or .png")
            elif args.output:
                output = f"{args.output}/{output.as_posix()}" if is_remote(args.output) else args.output / output
            claim(output)
            if argument in files:
                taken.add(_absolute(output))
            yield path, output


def _absolute(path):
    return path if is_remote(path) else Path(path).resolve()


def recognise_file(path, output, recogniser, most=MAX_PIXELS, draw=False):
    """What is in a picture file: rows as face_row gives them, whether it is_blank, and the picture.

    An InputError where it cannot be read. Faces are drawn into the picture if asked; it is written to `output` unless
    that is None.
    """
    try:
        picture = read_picture(path, most)
        boxes, probabilities = recognise(picture, recogniser)
    except MemoryError:
        return InputError(f"{path} needs more memory than there is: make it smaller")
    except (InputError, OSError) as error:
        return InputError(str(error))
    if draw or output:
        draw_faces(picture, boxes, probabilities)
    if output:
        write_picture(output, picture)
    rows = [face_row(number, box, shares) for number, (box, shares) in enumerate(zip(boxes, probabilities), start=1)]
    return rows, is_blank(picture), picture


def recognise_files(tasks, folder, models, keras, most):
    """recognise_file for each (path, output), relative to a folder, without the pictures: for a process of its own."""
    recogniser = kept_recogniser(models, keras)
    whole = ([path if path is None or is_remote(path) else folder / path for path in task] for task in tasks)
    answers = (recognise_file(path, output, recogniser, most) for path, output in whole)
    return [answer if isinstance(answer, InputError) else answer[:2] for answer in answers]


def kept_recogniser(models, keras):
    """load_recogniser for a process that comes back for it, in each of its threads."""
    return _kept_recogniser(models or MODELS, keras, threading.get_ident())


@functools.cache
def _kept_recogniser(models, keras, thread):  # OpenCV's networks remember what they are at
    cv2.setNumThreads(1)  # the other cores have workers of their own
    return load_recogniser(models, keras)


def workers_of(args, stack):
    """The processes, of this machine or a cluster, that `args` ask for, and where these find the model."""
    from workers import Cluster, Processes, cores

    if args.scheduler:
        shipped = [path for path in (*model_files(args.models), args.models / "model.tflite", args.models / STAMP)
                   if path.exists()]
        pool, models = Cluster(args.scheduler, shipped), None  # beside the scripts
    else:
        pool, models = Processes(args.jobs or cores()), args.models.absolute()
    stack.callback(pool.close)
    return pool, models


def recognise_in_parallel(tasks, args, stack):
    """Yield each (path, output) with what recognise_files says of it, from the processes that `args` ask for."""
    from workers import in_order

    pool, models = workers_of(args, stack)
    return in_order(pool, functools.partial(recognise_files, folder=Path.cwd(), models=models, keras=args.keras,
                                            most=args.max_pixels), tasks)


def count_ahead(bar, arguments):
    """Tell a progress bar how many pictures there are, while the first are being recognised."""
    total = sum(1 for argument in arguments for _ in find_pictures(argument))
    if not bar.disable:  # or it is over already
        bar.total = total
        bar.refresh()


def main(argv=None):
    parser = recognition_parser(__doc__)
    parser.add_argument("pictures", nargs="*", help="picture files, folders or patterns (default: a portrait)")
    parser.add_argument("--output", type=place, help="the file to write, or for several pictures the folder")
    parser.add_argument("--csv", "--json", "--table", dest="tables", action="append", type=table_path, default=[],
                        metavar="FILE", help="a row per face with all seven; the file ends in .csv, .json, .jsonl or "
                        ".parquet; - is CSV to standard output")
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures, only rows")
    parser.add_argument("--show", action="store_true", help="open a window with each picture")
    parser.add_argument("--resume", action="store_true", help="leave out what the table, or an interrupted run, holds")
    add_workers(parser)
    args = parser.parse_args(argv)
    limit_pixels(args.max_pixels, sys.argv[1:] if argv is None else argv)
    to_stdout, files = Path("-") in args.tables, [path for path in args.tables if path != Path("-")]
    if args.resume and not files:
        raise InputError("--resume goes on with a table: give --csv FILE")

    tasks = find_tasks(args)
    first = list(itertools.islice(tasks, FEW))
    tasks, is_few = itertools.chain(first, tasks), len(first) < FEW
    recogniser = load_recogniser(args.models, args.keras)  # says at once if it cannot be
    printed = csv.writer(sys.stdout, lineterminator="\n")
    bad, blank, pictures, faces, without, skipped = [], [], 0, 0, 0, 0
    interrupted = False
    with contextlib.ExitStack() as stack:
        add_to_stdout = stack.enter_context(csv_rows("-", COLUMNS)) if to_stdout else None
        adds = [stack.enter_context(TABLES[path.suffix.lower()](path, COLUMNS)) for path in files]
        model = read_stamp(args.models / STAMP).get("model.weights.h5")
        journal = Journal(files[0], model, args.resume) if files else None
        progress = None
        if not (args.quiet or len(first) == 1):
            from tqdm import tqdm
            progress = stack.enter_context(tqdm(total=len(first) if is_few else None, unit=" pictures", disable=None))
            if not is_few and not progress.disable:
                threading.Thread(target=count_ahead, args=(progress, args.pictures), daemon=True).start()

        def left():
            nonlocal skipped
            for path, output in tasks:
                if journal and cell(path) in journal.done:
                    skipped += 1
                    if progress is not None:
                        progress.update()
                else:
                    yield path, output

        if args.show or (is_few and not args.scheduler):
            answers = ((task, recognise_file(*task, recogniser, args.max_pixels, args.show)) for task in left())
        else:
            answers = recognise_in_parallel(left(), args, stack)
        try:
            for (path, output), answer in answers:
                if progress is not None:
                    progress.update()
                if isinstance(answer, InputError):
                    bad.append(str(answer) if str(path) in str(answer) else f"{path}: {answer}")
                    continue
                rows, is_flat, *picture = answer
                for row in rows:
                    if to_stdout:
                        add_to_stdout([cell(path), *row])
                    else:
                        printed.writerow([cell(path), *row[:7]])
                if journal:
                    journal.add(cell(path), rows)
                blank += [str(path)] * is_flat
                pictures, faces, without = pictures + 1, faces + len(rows), without + (not rows)
                if args.show:
                    show_if_possible(*picture, Path(path).name, output)
        except KeyboardInterrupt:  # the rows so far are worth having
            interrupted = True
        if journal:
            for row in journal.rows():
                for add in adds:
                    add(row)
    if journal and not interrupted:
        journal.remove()
    single = len(first) == 1
    if pictures or skipped:
        written = [] if args.no_pictures else [str(first[0][1]) if single else count(pictures, "picture")]
        written += map(str, files)
        say(args, f"wrote {', '.join(written)}: " * bool(written) + count(faces, "face")
            + f" in {count(pictures, 'picture')}, {without:,} without one" * (not single)
            + f"; {skipped:,} were done before" * bool(skipped))
    if blank:
        say(args, f"{', '.join(blank[:3])}{' and others' * (len(blank) > 3)}: nothing but one flat colour")
    if interrupted:
        raise KeyboardInterrupt(f"{count(skipped + pictures, 'picture')} are done and written; run it again "
                                + ("with --resume " if files else "") + "for the others")
    if bad:
        total = skipped + pictures + len(bad)
        raise InputError(*[f"{len(bad):,} of {total:,} pictures could not be read:"] * (len(bad) > 1), *bad)


if __name__ == "__main__":
    run(main)
