"""Count the faces that several detectors find, miss and imagine in photographs, and how long they take.

Reads a folder of photographs and benchmarks/faces.csv, a row per face: file, x, y, width, height, pose (frontal,
tilted, profile, hidden); a photograph without a face has one row with empty fields.
Prints a row per detector: faces found, faces missed, false ones; the same of the frontal faces alone; CPU seconds for
all photographs. A face is found by a box whose centre lies in its own and whose size is within a factor of two; each
box counts once. The seconds are medians, the runs are in turn.

The photographs come from public repositories, and each name begins with its repository's (the first 14 letters of it):
cleardusk/3DDFA_V2, KwaiVGI/LivePortrait, python-pillow/Pillow, biubug6/Pytorch_Retinaface, OpenTalker/SadTalker,
recurser/exif-orientation-examples, vladmandic/face-api, oarriaga/face_classification, ageitgey/face_recognition,
scikit-image/scikit-image. The boxes were placed by eye, some beginning from what a cascade had found, as large as the
cascade frames a face: from above the eyebrows to the chin.

$ python benchmarks/find_faces.py photographs
$ python benchmarks/find_faces.py photographs --runs 5
"""
import csv
import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions import tracking
from expressions.console import InputError, positive_int, run, script_parser
from expressions.detection import detect_faces, run_detector
from expressions.images import read_image
from expressions.yunet import PATH, YuNet

MAX_SIZE_RATIO = 2  # of the sides of a found box and a true one
CASCADE = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")


# ---- detectors: image uint8 BGR (h, w, 3) → boxes int (n, 4) -----------------------------------

def the_original(image):
    """The original project's call, on the image in full size."""
    return CASCADE.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1.3, 5)


def opencv(image):
    """The same cascade with OpenCV's own defaults: 1.1 and 3."""
    return CASCADE.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def haar(image):
    """The project's cascades, as recognise_image.py has them search."""
    return run_detector(detect_faces, image)[0]


def haar_in_video(image):
    """The same, as recognise_video.py has them search a frame now and then."""
    return run_detector(detect_faces, image, **tracking.HAAR_SETTINGS)[0]


def yunet(image):
    """YuNet, as recognise_image.py has it search; where its file is in models/."""
    return run_detector(_yunet(), image)[0]


def yunet_in_video(image):
    """The same, as recognise_video.py has it search every second frame."""
    return run_detector(_yunet(), image, max_side=tracking.YUNET_SIDE)[0]


_yunet = functools.cache(YuNet)
METHODS = {method.__name__: method for method in (the_original, opencv, haar_in_video, haar)}
if PATH.is_file():
    METHODS |= {method.__name__: method for method in (yunet_in_video, yunet)}


# ---- what they find ----------------------------------------------------------------------------

def pair_boxes(found, true):
    """Return (index of a found box, index of a true one) of the same face, each at most once; the nearest first."""
    candidates = []
    for index, (x, y, width, height) in enumerate(found):
        for true_index, (left, top, wide, high) in enumerate(true):
            centre_x, centre_y = x + width / 2, y + height / 2
            size_ratio = max(width / wide, wide / width)
            if left <= centre_x <= left + wide and top <= centre_y <= top + high and size_ratio <= MAX_SIZE_RATIO:
                distance = (centre_x - left - wide / 2) ** 2 + (centre_y - top - high / 2) ** 2
                candidates.append((distance, index, true_index))
    pairs = []
    for _, index, true_index in sorted(candidates):
        if all(index != i and true_index != t for i, t in pairs):
            pairs.append((index, true_index))
    return pairs


def read_faces(path, folder):
    """Return {photograph: [(box, pose), …]} of faces.csv; all the photographs are in the folder. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path} is not there: check the path")
    faces = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            faces.setdefault(row["file"], [])
            if row["x"]:
                box = tuple(int(row[name]) for name in ("x", "y", "width", "height"))
                faces[row["file"]].append((box, row["pose"]))
    missing = [name for name in faces if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}: --help says where the photographs come from")
    return faces


def run_method(method, folder, names):
    """Return the CPU seconds of a detector on these photographs, and the boxes in each as lists."""
    images = [read_image(folder / name) for name in names]
    method(np.zeros((64, 64, 3), np.uint8))  # loads the cascades
    start = time.process_time()
    found = [method(image) for image in images]
    return time.process_time() - start, [np.reshape(boxes, (-1, 4)).tolist() for boxes in found]


def print_table(faces, found, seconds):
    """Print a row per detector. `found` is {method: boxes in each photograph}, `seconds` {method: of each run}."""
    poses = [pose for true in faces.values() for _, pose in true]
    frontal = poses.count("frontal")
    print(f"{len(faces)} photographs, {len(poses)} faces, {frontal} of them frontal\n"
          "detector        found  missed  false   frontal: found  missed   seconds")
    for method in METHODS:
        hits, n_false = [], 0
        for boxes, true in zip(found[method], faces.values()):
            pairs = pair_boxes(boxes, [box for box, _ in true])
            hits += [true[true_index][1] for _, true_index in pairs]
            n_false += len(boxes) - len(pairs)
        straight = hits.count("frontal")
        print(f"{method:14} {len(hits):6} {len(poses) - len(hits):7} {n_false:6} {straight:16} "
              f"{frontal - straight:7} {statistics.median(seconds[method]):9.2f}")


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="PHOTOGRAPHS", help="where the photographs are")
    parser.add_argument("--boxes", type=Path, default=Path(__file__).with_name("faces.csv"), metavar="FILE",
                        help="the true faces (default: benchmarks/faces.csv)")
    parser.add_argument("--runs", type=positive_int, default=3, help="of each detector (default: %(default)s)")
    parser.add_argument("--method", choices=METHODS, help="run just this one, once, and print what it found as JSON")
    args = parser.parse_args(argv)
    faces = read_faces(args.boxes, args.folder)
    if args.method:
        print(json.dumps(run_method(METHODS[args.method], args.folder, faces)))
        return

    seconds, found = {method: [] for method in METHODS}, {}
    for number in range(args.runs):
        for method in METHODS:
            command = [sys.executable, __file__, args.folder, "--boxes", args.boxes, "--method", method]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            taken, found[method] = json.loads(output)
            seconds[method].append(taken)
            print(f"run {number + 1}: {method:13} {taken:6.2f} s", file=sys.stderr)
    print_table(faces, found, seconds)


if __name__ == "__main__":
    run(main)
