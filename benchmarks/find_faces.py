"""Count the faces that several searches find, miss and imagine in photographs, and how long they take.

Reads a folder of photographs and benchmarks/faces.csv, a row per face: file, x, y, width, height, pose
(frontal, tilted, profile, hidden); a photograph without a face has one row with empty fields.
Prints a row per search: faces found, faces missed, false ones; the same of the frontal faces alone;
seconds of processor time for all photographs. A face is found by a box whose intersection over union
with its own is at least 0.4; every box counts once. The seconds are medians, the runs are in turn.

The photographs come from public repositories, and each name begins with its repository's (the first 14
letters of it): cleardusk/3DDFA_V2, KwaiVGI/LivePortrait, python-pillow/Pillow, biubug6/Pytorch_Retinaface,
OpenTalker/SadTalker, recurser/exif-orientation-examples, vladmandic/face-api, oarriaga/face_classification,
ageitgey/face_recognition, scikit-image/scikit-image. The boxes were placed by eye, some beginning from
what a cascade had found, as large as the cascade frames a face: from above the eyebrows to the chin.

$ python benchmarks/find_faces.py photographs
$ python benchmarks/find_faces.py photographs --runs 5
"""
import csv
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import recognise_video  # noqa: E402
from preprocessing import EXPRESSIONS, InputError, run, script_parser  # noqa: E402
from recognise_image import find_faces, overlap, read_picture, recognise  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402

SAME = 0.4  # intersection over union from which on two boxes are of one face
CASCADE = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")


def the_original(picture):
    """The original project's call, on the picture in full size."""
    return CASCADE.detectMultiScale(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), 1.3, 5)


def opencv(picture):
    """The same cascade with OpenCV's own defaults: 1.1 and 3."""
    return CASCADE.detectMultiScale(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


def ours_in_video(picture):
    """A search of a whole frame, as recognise_video.py makes it now and then."""
    return find_faces(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), recognise_video.LONGEST_SIDE,
                      recognise_video.SCALE_STEP, recognise_video.NEIGHBOURS)


def ours(picture):
    """find_faces as it is."""
    return find_faces(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))


def ours_turned(picture):
    """As recognise_image.py does it: where there is no face, copies that are turned are searched, too."""
    return recognise(picture, lambda faces: np.zeros((len(faces), len(EXPRESSIONS)), np.float32))[0]


WAYS = {way.__name__: way for way in (the_original, opencv, ours_in_video, ours, ours_turned)}


def pair_boxes(found, true):
    """(index of a found box, index of a true one) of the same face, each at most once; the likeliest first."""
    overlaps = sorted(((overlap(box, other), index, number) for index, box in enumerate(found)
                       for number, other in enumerate(true)), reverse=True)
    pairs = []
    for common, index, number in overlaps:
        if common >= SAME and all(index != i and number != n for i, n in pairs):
            pairs.append((index, number))
    return pairs


def read_faces(path, folder):
    """{photograph: [(box, pose), …]} of faces.csv; all the photographs are in the folder."""
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


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="PICTURES_FOLDER", help="where the photographs are")
    parser.add_argument("--boxes", type=Path, default=Path(__file__).with_name("faces.csv"), metavar="FILE",
                        help="the true faces (default: benchmarks/faces.csv)")
    parser.add_argument("--runs", type=int, default=3, help="of each way (default: %(default)s)")
    parser.add_argument("--way", choices=WAYS, help="run just this one way, once, and print what it found as JSON")
    args = parser.parse_args(argv)
    faces = read_faces(args.boxes, args.folder)

    if args.way:
        pictures = [read_picture(args.folder / name) for name in faces]
        WAYS[args.way](np.zeros((64, 64, 3), np.uint8))  # loads the cascades
        start = time.process_time()
        found = [WAYS[args.way](picture) for picture in pictures]
        seconds = time.process_time() - start
        print(json.dumps([seconds, [np.reshape(boxes, (-1, 4)).tolist() for boxes in found]]))
        return

    seconds, found = {way: [] for way in WAYS}, {}
    for number in range(args.runs):
        for way in WAYS:
            output = subprocess.run([sys.executable, __file__, args.folder, "--boxes", args.boxes, "--way", way],
                                    check=True, stdout=subprocess.PIPE, text=True).stdout
            taken, found[way] = json.loads(output)
            seconds[way].append(taken)
            print(f"run {number + 1}: {way:13} {taken:6.2f} s", file=sys.stderr)

    poses = [pose for true in faces.values() for _, pose in true]
    frontal = poses.count("frontal")
    print(f"{len(faces)} photographs, {len(poses)} faces, {frontal} of them frontal\n"
          "search          found  missed  false   frontal: found  missed   seconds")
    for way in WAYS:
        hits, imagined = [], 0
        for boxes, true in zip(found[way], faces.values()):
            pairs = pair_boxes(boxes, [box for box, _ in true])
            hits += [true[number][1] for _, number in pairs]
            imagined += len(boxes) - len(pairs)
        straight = hits.count("frontal")
        print(f"{way:14} {len(hits):6} {len(poses) - len(hits):7} {imagined:6} {straight:16} "
              f"{frontal - straight:7} {statistics.median(seconds[way]):9.2f}")


if __name__ == "__main__":
    run(main)
