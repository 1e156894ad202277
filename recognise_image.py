"""Recognise the expression of every face in pictures.

Reads the pictures given, or with none a portrait that comes with matplotlib, and models/.
Writes output_<name> beside where you stand: the picture with a box and a label on each face.
Prints a row per face, comma-separated: file, face number, x, y, width, height, expression, probability.

$ python recognise_image.py
$ python recognise_image.py party.jpg holiday.png
$ python recognise_image.py party.jpg --output labelled.jpg --show
"""
import csv
import functools
import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np

from confmatrix import show_if_possible
from preprocessing import EXPRESSIONS, FACE_SIZE, InputError, run, script_parser, written_whole
from train_model import MODELS, load_model, model_files, model_stamp

CASCADE = "haarcascade_frontalface_default.xml"  # ships with opencv-python, not with its version 5
SCALE_STEP = 1.1  # between the sizes at which faces are searched
NEIGHBOURS = 6  # detections that must agree on a face
LONGEST_SIDE = 800  # pixels; larger pictures are searched at this size: faster, and fewer things pass for faces
FONT = cv2.FONT_HERSHEY_SIMPLEX
COLOURS = (  # BGR, dark enough for white letters
    (30, 30, 190), (40, 120, 40), (150, 50, 130), (0, 100, 180), (170, 80, 30), (130, 110, 0), (90, 90, 90))


@functools.cache
def _cascade():
    try:
        cascade = cv2.CascadeClassifier(cv2.data.haarcascades + CASCADE)
    except AttributeError:
        raise InputError(f"OpenCV {cv2.__version__} has no CascadeClassifier: "
                         "pip install 'opencv-python>=4.12,<5'") from None
    if cascade.empty():
        raise InputError(f"{cv2.data.haarcascades}{CASCADE} does not load: reinstall opencv-python 4")
    return cascade


def find_faces(grey, longest_side=LONGEST_SIDE, scale_step=SCALE_STEP):
    """Boxes int (n, 4) of the faces in a grey picture uint8 (h, w): x, y, width, height, from left to right.

    OpenCV's frontal cascade (Viola and Jones 2001), on the picture made smaller where it is larger
    than `longest_side`.
    """
    height, width = grey.shape
    zoom = min(1, longest_side / max(height, width))
    if zoom < 1:
        grey = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    found = _cascade().detectMultiScale(grey, scaleFactor=scale_step, minNeighbors=NEIGHBOURS)
    boxes = np.round(np.array(sorted(map(tuple, found))).reshape(-1, 4) / zoom).astype(int)
    boxes[:, 2:] = np.minimum(boxes[:, 2:], (width, height) - boxes[:, :2])  # rounding may cross the border
    return boxes


def crop_faces(grey, boxes):
    """The boxes of a grey picture as the network takes them, uint8 (n, 48, 48, 1)."""
    faces = [cv2.resize(grey[y:y + height, x:x + width], (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)
             for x, y, width, height in boxes]
    return np.array(faces, np.uint8).reshape(-1, FACE_SIZE, FACE_SIZE, 1)


def load_recogniser(models=MODELS, keras=False):
    """The model as a function: grey faces uint8 (n, 48, 48, 1) → probabilities float32 (n, 7).

    OpenCV runs models/model.tflite, ready at once; Keras takes seconds to start and is for
    where that file is missing or was made from another model, or where `keras` asks for it.
    """
    layers, weights = model_files(models)
    tflite, stamp = models / "model.tflite", models / "model.tflite.stamp"
    if not keras and tflite.is_file() and stamp.is_file() and stamp.read_text().strip() == model_stamp(layers, weights):
        try:
            return functools.partial(_predict_with_opencv, cv2.dnn.readNetFromTFLite(str(tflite)))
        except cv2.error:
            raise InputError(f"{tflite} is damaged: train_model.py --export makes it anew") from None
    if not keras:
        print(f"{tflite} is missing or was made from another model, so Keras is loaded, which takes longer: "
              "train_model.py --export makes it anew", file=sys.stderr)
    from test_model import predict

    return functools.partial(predict, load_model(models))


def _predict_with_opencv(network, faces):
    network.setInput(faces.transpose(0, 3, 1, 2).astype(np.float32))  # OpenCV's order: channels before rows
    return network.forward().reshape(len(faces), len(EXPRESSIONS))


def recognise(picture, recogniser, **search):
    """Boxes int (n, 4) and probabilities float32 (n, 7) of all faces in a picture uint8 BGR (h, w, 3).

    `search` goes to find_faces.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    boxes = find_faces(grey, **search)
    if not len(boxes):
        return boxes, np.empty((0, len(EXPRESSIONS)), np.float32)
    return boxes, recogniser(crop_faces(grey, boxes))


def draw_faces(picture, boxes, probabilities):
    """Draw a box and a label, "happy 97%", for each face into the picture, uint8 BGR (h, w, 3)."""
    size = letter_size(picture)
    expressions = probabilities.argmax(axis=1)
    for (x, y, width, height), expression in zip(boxes, expressions):
        cv2.rectangle(picture, (x, y), (x + width - 1, y + height - 1), COLOURS[expression], max(2, round(2.5 * size)))
    taken = []
    for box, expression, shares in zip(boxes, expressions, probabilities):
        taken.append(draw_label(picture, f"{EXPRESSIONS[expression]} {shares.max():.0%}", box, COLOURS[expression],
                                size, taken))


def letter_size(picture):
    """OpenCV's font scale that is legible in a picture of this size."""
    return float(np.clip(min(picture.shape[:2]) / 640, 0.4, 3))


def draw_label(picture, text, box, colour, size, taken):
    """Draw white letters on a coloured ground above the box, or below or in it where there is no room.

    `taken` are the grounds of earlier labels, (x, y, width, height); returns that of this one.
    """
    stroke = max(1, round(1.6 * size))
    pad = stroke + 1
    picture_height, picture_width = picture.shape[:2]
    (width, height), below = cv2.getTextSize(text, FONT, size, stroke)
    if width + 2 * pad > picture_width:
        size *= picture_width / (width + 2 * pad + 1)
        (width, height), below = cv2.getTextSize(text, FONT, size, stroke)
    width, height = width + 2 * pad, height + below + 2 * pad

    def is_free(top):
        return 0 <= top <= picture_height - height and all(
            left >= x + w or left + width <= x or top >= y + h or top + height <= y for x, y, w, h in taken)

    x, y, _, box_height = box
    left = int(np.clip(x, 0, max(0, picture_width - width)))
    inside = y + stroke
    top = int(next(filter(is_free, (y - height, y + box_height, inside, y + box_height - height)), inside))
    cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), colour, cv2.FILLED)
    cv2.putText(picture, text, (left + pad, top + height - pad - below), FONT, size, (255, 255, 255), stroke,
                cv2.LINE_AA)
    return left, top, width, height


def read_picture(path):
    """A picture file as uint8 BGR (h, w, 3), upright as its EXIF orientation says."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the pictures in it")
    if not path.exists():
        raise InputError(f"{path} is not there: check the path")
    encoded = np.fromfile(path, np.uint8)  # imread fails on letters outside Windows's code page
    try:
        picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    except cv2.error:  # more pixels than OpenCV reads
        picture = None
    if picture is None:
        raise InputError(f"{path} is not a picture that OpenCV reads: convert it to JPEG or PNG")
    return picture


def write_picture(path, picture):
    """Write a picture, uint8 BGR (h, w, 3), in the format that the path's ending names."""
    with written_whole(path) as [beside]:
        encoded = cv2.imencode(beside.suffix, picture)[1]
        beside.write_bytes(encoded.tobytes())


def output_path(path):
    """output_<name> where you stand; PNG where OpenCV cannot write the picture's own format."""
    path = Path(f"output_{Path(path).name}")
    return path if cv2.haveImageWriter(path.name) else path.with_name(path.name + ".png")


def portrait():
    """Grace Hopper, as matplotlib ships her; found without importing matplotlib."""
    package = importlib.util.find_spec("matplotlib")
    path = Path(package.origin).parent / "mpl-data/sample_data/grace_hopper.jpg" if package else None
    if path is None or not path.is_file():
        raise InputError("matplotlib's portrait is not installed: give a picture")
    return path


def print_rows(rows, path, boxes, probabilities):
    """Write a row per face to a csv.writer: file, face, x, y, width, height, expression, probability."""
    for number, (box, face) in enumerate(zip(boxes.tolist(), probabilities), start=1):
        rows.writerow([path, number, *box, EXPRESSIONS[face.argmax()], f"{face.max():.4f}"])


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("pictures", nargs="*", type=Path, help="picture files (default: a portrait)")
    parser.add_argument("--output", type=Path, help="the file to write, or for several pictures the folder")
    parser.add_argument("--models", type=Path, metavar="FOLDER", default=MODELS, help="where the model is")
    parser.add_argument("--show", action="store_true", help="open a window with each picture")
    args = parser.parse_args(argv)
    pictures = args.pictures or [portrait()]
    if len(pictures) > 1 or (args.output and args.output.is_dir()):
        outputs = [(args.output or Path()) / output_path(path) for path in pictures]
    else:
        outputs = [args.output or output_path(pictures[0])]
    for path, output in zip(pictures, outputs):
        if not cv2.haveImageWriter(output.name):
            raise InputError(f"{output} has no ending that OpenCV writes: end it in .jpg or .png")
        if outputs.count(output) > 1 or output.resolve() in [path.resolve() for path in pictures]:
            raise InputError(f"{output} would be written over another picture of this run: "
                             "give --output, or fewer pictures at once")

    recogniser = load_recogniser(args.models)
    rows = csv.writer(sys.stdout, lineterminator="\n")
    bad = []
    for path, output in zip(pictures, outputs):
        try:
            picture = read_picture(path)
        except (InputError, OSError) as error:
            bad.append(str(error))
            continue
        boxes, probabilities = recognise(picture, recogniser)
        print_rows(rows, path, boxes, probabilities)
        draw_faces(picture, boxes, probabilities)
        write_picture(output, picture)
        print(f"wrote {output}: {len(boxes)} face{'s' * (len(boxes) != 1)}", file=sys.stderr)
        if args.show:
            show_if_possible(picture, path.name, output)
    if bad:
        raise InputError("; ".join(bad))


if __name__ == "__main__":
    run(main)
