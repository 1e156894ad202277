"""Recognise the expression of every face in pictures.

Reads the pictures given: files, folders with all that is in them, patterns like "*.jpg"; with none a
portrait that comes with matplotlib. Reads models/.
Writes output_<name> where you stand, for a folder a folder: the picture with a box and a label on each face.
Prints a row per face, comma-separated: file, face number, x, y, width, height, expression, probability.

$ python recognise_image.py
$ python recognise_image.py party.jpg holiday.png
$ python recognise_image.py photos --csv faces.csv --no-pictures
$ python recognise_image.py party.jpg --output labelled.jpg --show
"""
import contextlib
import csv
import functools
import glob
import importlib.util
import json
import os
import sys
from pathlib import Path

from confmatrix import show_if_possible
from preprocessing import (
    EXPRESSIONS,
    FACE_SIZE,
    MAX_PIXELS,
    InputError,
    decode_picture,
    printable,
    read_stamp,
    run,
    script_parser,
    strangers,
    written_whole,
)
from train_model import MODELS, STAMP, check_tflite, load_model, model_files, read_layers

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
COLUMNS = ("file", "face", "x", "y", "width", "height", "expression", "probability", *EXPRESSIONS)
ENDINGS = (".avif", ".bmp", ".dib", ".gif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
           ".tif", ".tiff", ".webp")  # of what counts as a picture in a folder


@functools.cache
def _cascade(name):
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


def read_picture(path, most=MAX_PIXELS):
    """A picture file as uint8 BGR (h, w, 3), upright as its EXIF orientation says; of at most `most` pixels."""
    if not path.is_file():
        raise InputError(f"{path} is {'not a file' if path.exists() else 'not there'}: check the path")
    too_large = f"{path} has more than {most:,} pixels: make it smaller, or give --max-pixels a larger number"
    if path.stat().st_size > 3 * most + (1 << 20):  # no format needs as much
        raise InputError(too_large)
    encoded = np.fromfile(path, np.uint8)  # imread fails on letters outside Windows's code page
    try:
        picture = decode_picture(encoded, cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise InputError(too_large) from None
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
    with written_whole(path) as [beside]:
        fits, encoded = cv2.imencode(beside.suffix, picture)
        if not fits:
            raise InputError(f"{path} cannot hold {picture.shape[1]} x {picture.shape[0]} pixels: end it in .png")
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


def find_pictures(argument):
    """Yield (picture, output) for a file, a folder or a pattern; the outputs relative to where they will be.

    In a folder, hidden files and folders and those named output_* are passed over: an earlier run made these.
    """
    if Path(argument).is_dir():
        top = Path(argument)
        into = Path(f"output_{top.resolve().name}")
        for folder, inner, names in os.walk(top):
            inner[:] = sorted(name for name in inner if not name.startswith((".", "output_")))
            for name in sorted(names):
                if Path(name).suffix.lower() in ENDINGS and not name.startswith((".", "output_")):
                    path = Path(folder) / name
                    yield path, writable(into / path.relative_to(top))
    elif Path(argument).exists() or not glob.has_magic(argument):
        yield Path(argument), output_path(argument)
    else:
        for path in sorted(map(Path, glob.glob(argument, recursive=True))):  # noqa: PTH207, takes whole paths
            if path.is_file():
                yield path, output_path(path)


def cell(path):
    """A path as a table's cell that neither a terminal nor a spreadsheet obeys: "=1+1.png" is "./=1+1.png"."""
    text = printable(str(path))
    return f"./{text}" if text.startswith(tuple("=+-@＝＋－＠")) else text


def face_row(number, box, shares, expression=None):
    """A face's part of a row: its number, box int (4,), expression (default: the most probable one), probabilities."""
    expression = shares.argmax() if expression is None else expression
    return [int(number), *map(int, box), EXPRESSIONS[expression],
            *(round(float(share), 4) for share in (shares[expression], *shares))]


@contextlib.contextmanager
def csv_rows(path, columns):
    """Yield a function that adds a row to a new CSV file, or at once to standard output where the path is "-"."""
    if str(path) == "-":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        yield lambda row: writer.writerow(row) and sys.stdout.flush()
        return
    with written_whole(path) as [beside], open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield writer.writerow


@contextlib.contextmanager
def json_rows(path, columns):
    """Yield a function that adds a row to a new JSON file, a list with an object for each."""
    with written_whole(path) as [beside], open(beside, "w", encoding="utf-8") as file:
        between = "["

        def add(row):
            nonlocal between
            file.write(f"{between}\n{json.dumps(dict(zip(columns, row)), ensure_ascii=False)}")
            between = ","

        yield add
        file.write("[]\n" if between == "[" else "\n]\n")


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


def say(args, sentence):
    """Print what was done to standard error, so that standard output holds rows alone, unless --quiet."""
    if not args.quiet:
        print(printable(sentence), file=sys.stderr)


def count(number, thing):
    """"1 face", "2 faces"."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def plan(args):
    """The (picture, output) pairs of the arguments, after a check that nothing would be written over."""
    tasks = []
    for argument in map(str, args.pictures or [portrait()]):
        found = list(find_pictures(argument))
        if not found:
            raise InputError(f"{argument} {'holds' if Path(argument).is_dir() else 'matches'} no picture: "
                             "check the path")
        tasks += found
    if args.output:
        single = len(tasks) == 1 and not Path(args.pictures[0] if args.pictures else tasks[0][0]).is_dir()
        if not single or args.output.is_dir():
            tasks = [(path, args.output / output) for path, output in tasks]
        elif writable(args.output) == args.output:
            tasks = [(tasks[0][0], args.output)]
        else:
            raise InputError(f"{args.output} has no ending that OpenCV writes: end it in .jpg or .png")
    taken = {path.resolve() for path, _ in tasks}
    outputs = [] if args.no_pictures else [output for _, output in tasks]
    for output in [*outputs, *filter(None, (args.csv, args.json))]:
        if output.resolve() in taken:
            raise InputError(f"{output} would be written over another picture or output of this run: "
                             "give --output, or fewer pictures at once")
        taken.add(output.resolve())
    return tasks


def main(argv=None):
    parser = recognition_parser(__doc__)
    parser.add_argument("pictures", nargs="*", help="picture files, folders or patterns (default: a portrait)")
    parser.add_argument("--output", type=Path, help="the file to write, or for several pictures the folder")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a row per face with all seven; - is stdout")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the same as JSON")
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures, only rows")
    parser.add_argument("--show", action="store_true", help="open a window with each picture")
    args = parser.parse_args(argv)
    limit_pixels(args.max_pixels, sys.argv[1:] if argv is None else argv)
    tasks = plan(args)
    recogniser = load_recogniser(args.models, args.keras)
    printed = csv.writer(sys.stdout, lineterminator="\n")
    bad, blank, pictures, faces, without = [], [], 0, 0, 0
    interrupted = False
    with contextlib.ExitStack() as stack:
        adds = [stack.enter_context(table(path, COLUMNS))
                for table, path in ((csv_rows, args.csv), (json_rows, args.json)) if path]
        progress = tasks
        if len(tasks) > 1 and not args.quiet:
            from tqdm import tqdm
            progress = stack.enter_context(tqdm(tasks, unit=" pictures", disable=None))
        try:
            for path, output in progress:
                try:
                    picture = read_picture(path, args.max_pixels)
                except (InputError, OSError) as error:
                    bad.append(str(error))
                    continue
                boxes, probabilities = recognise(picture, recogniser)
                for number, (box, shares) in enumerate(zip(boxes, probabilities), start=1):
                    row = [cell(path), *face_row(number, box, shares)]
                    if str(args.csv) != "-":
                        printed.writerow(row[:8])
                    for add in adds:
                        add(row)
                if args.show or not args.no_pictures:
                    draw_faces(picture, boxes, probabilities)
                if not args.no_pictures:
                    write_picture(output, picture)
                blank += [str(path)] * is_blank(picture)
                pictures, faces, without = pictures + 1, faces + len(boxes), without + (not len(boxes))
                if args.show:
                    show_if_possible(picture, path.name, output)
        except KeyboardInterrupt:  # the rows so far are worth having
            interrupted = True
    if pictures:
        written = [] if args.no_pictures else [str(tasks[0][1]) if len(tasks) == 1 else count(pictures, "picture")]
        written += [str(path) for path in (args.csv, args.json) if path and str(path) != "-"]
        say(args, f"wrote {', '.join(written)}: " * bool(written) + count(faces, "face")
            + f" in {count(pictures, 'picture')}, {without:,} without one" * (len(tasks) > 1))
    if blank:
        say(args, f"{', '.join(blank[:3])}{' and others' * (len(blank) > 3)}: nothing but one flat colour")
    if interrupted:
        raise KeyboardInterrupt(f"{pictures:,} of {count(len(tasks), 'picture')} are done and written; "
                                "run it again for the others")
    if bad:
        raise InputError(*[f"{len(bad):,} of {len(tasks):,} pictures could not be read:"] * (len(bad) > 1), *bad)


if __name__ == "__main__":
    run(main)
