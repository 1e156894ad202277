"""Take a picture with the camera and recognise the expression of every face in it.

Reads camera 0, or the camera number, video file or address given, and models/.
Shows what the camera sees, mirrored, and counts down; space takes the picture at once, q or Esc quits. With --now, or
where there is no display, the picture is taken as soon as the camera's exposure has settled.
Writes camera_<date>_<time>.jpg, the image as it was taken, and output_camera_<date>_<time>.jpg with a box and a label
on each face, into the current folder. Prints a row per face and writes a table like recognise_image.py.

$ python image_from_camera.py
$ python image_from_camera.py 1 --now --output me.jpg --show
"""
import contextlib
import csv
import math
import sys
from pathlib import Path

import cv2

from expressions import camera
from expressions.artifacts import refuse_overwriting
from expressions.console import InputError, pluralise, positive_int, print_status, run, script_parser
from expressions.drawing import draw_countdown, draw_faces
from expressions.images import is_uniform, output_path, with_writable_suffix, write_image
from expressions.recognition import Recogniser, add_detector_arguments, face_row
from expressions.tables import FACE_COLUMNS, IMAGE_COLUMNS, STDOUT, add_table_argument, open_table, safe_cell

TITLE = "space takes the picture - q quits"
SETTLING = 1.2  # seconds that a camera takes to get exposure and white balance right


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video file or address (default: 0)")
    parser.add_argument("--now", action="store_true", help="take the picture without preview and countdown")
    parser.add_argument("--countdown", type=positive_int, default=3, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="the image to write; output_<name> is written beside it")
    add_table_argument(parser, "per face")
    parser.add_argument("--show", action="store_true", help="open a window with the recognised image")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    args.output = args.output or camera.dated_path("camera", ".jpg")
    if with_writable_suffix(args.output) != args.output:
        raise InputError(f"{args.output} has no ending that OpenCV writes: end it in .jpg or .png")
    args.recognised = args.output.parent / output_path(args.output)
    refuse_overwriting([args.output, args.recognised, *filter(None, [args.table])], [args.source])
    return args


def take_picture(source, seconds, has_window):
    """Return the frame at a countdown's end, at a space, or a video's last; None after q. Raises InputError."""
    image, key, seconds_left = None, "", seconds
    with contextlib.closing(camera.watch(source)) as items:
        for item in items:
            if item:
                seconds_left, image = seconds - item[0], item[1]
            if image is not None and has_window:
                preview = cv2.flip(image, 1)
                draw_countdown(preview, math.ceil(seconds_left))
                key = camera.show(TITLE, preview)
            if key == "q":
                return None
            if key == " " or seconds_left <= 0:
                break
    if image is None or is_uniform(image):
        raise InputError(f"{source} gives nothing but one flat colour, or no image: uncover the lens, make some light")
    return image


def main(argv=None):
    args = parse_arguments(argv)
    recogniser = Recogniser(args.models, args.detector, args.min_score, args.min_probability)  # fails at once
    has_window = not args.now and camera.can_show()
    if not args.now and not has_window:
        print_status("there is no display for a preview: taking the picture now", args.quiet)
    image = take_picture(args.source, args.countdown if has_window else SETTLING, has_window)
    if has_window:
        cv2.destroyAllWindows()
    if image is None:
        print_status("no picture was taken", args.quiet)
        return
    write_image(args.output, image)
    faces = recogniser(image)
    rows = [[safe_cell(args.output), *face_row(number, face), ""] for number, face in enumerate(faces, start=1)]
    if args.table:
        with open_table(args.table, IMAGE_COLUMNS) as table:
            table.add(*(rows or [[safe_cell(args.output), 0, *[""] * len(FACE_COLUMNS)]]))
    if args.table != STDOUT:
        csv.writer(sys.stdout, lineterminator="\n").writerows(row[:8] for row in rows)
    draw_faces(image, faces)
    write_image(args.recognised, image)
    print_status(f"wrote {args.output} and {args.recognised}: {pluralise(len(faces), 'face')}", args.quiet)
    if args.show:
        camera.show_image(image, args.output.name, args.recognised)


if __name__ == "__main__":
    run(main)
