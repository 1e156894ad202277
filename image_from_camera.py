"""Take a picture with the camera and recognise the expression of every face in it.

Reads camera 0, or the camera number, video file or URL given, and models/.
Writes camera_<date>_<time>.jpg, the picture as it was taken, and output_camera_<date>_<time>.jpg
with a box and a label on each face, where you stand. Prints a row per face like recognise_image.py.

$ python image_from_camera.py
$ python image_from_camera.py 1 --output me.jpg --show
"""
import collections
import csv
import itertools
import sys
import time
from pathlib import Path

import cv2

from confmatrix import show_if_possible
from preprocessing import InputError, run, script_parser
from recognise_image import draw_faces, load_recogniser, output_path, print_rows, recognise, write_picture
from train_model import MODELS
from webcam_live import open_camera, read_camera

SETTLING = 30  # frames a camera takes to get exposure and white balance right: about a second


def take_picture(camera):
    """The frame after the camera has settled, or the last one of a shorter video; None if there is none."""
    last = collections.deque(itertools.islice(read_camera(camera, live=True), SETTLING + 1), maxlen=1)
    return last[0][1] if last else None


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video file or URL (default: 0)")
    parser.add_argument("--output", type=Path, help="the picture to write; output_<name> is written beside it")
    parser.add_argument("--models", type=Path, metavar="FOLDER", default=MODELS, help="where the model is")
    parser.add_argument("--show", action="store_true", help="open a window with the recognised picture")
    args = parser.parse_args(argv)
    taken = args.output or Path(time.strftime("camera_%Y%m%d_%H%M%S.jpg"))
    if not cv2.haveImageWriter(taken.name):
        raise InputError(f"{taken} has no ending that OpenCV writes: end it in .jpg or .png")
    if taken.resolve() == Path(args.source).resolve():
        raise InputError(f"{taken} would be written over: give --output another name")
    recogniser = load_recogniser(args.models)

    camera = open_camera(args.source)
    try:
        picture = take_picture(camera)
    finally:
        camera.release()
    if picture is None:
        raise InputError(f"{args.source} opens but gives no picture: close other programs that use it, "
                         "or check the file")
    write_picture(taken, picture)
    boxes, probabilities = recognise(picture, recogniser)
    print_rows(csv.writer(sys.stdout, lineterminator="\n"), taken, boxes, probabilities)
    draw_faces(picture, boxes, probabilities)
    recognised = taken.parent / output_path(taken)
    write_picture(recognised, picture)
    print(f"wrote {taken} and {recognised}: {len(boxes)} face{'s' * (len(boxes) != 1)}", file=sys.stderr)
    if args.show:
        show_if_possible(picture, taken.name, recognised)


if __name__ == "__main__":
    run(main)
