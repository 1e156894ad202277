"""Take a picture with the camera and recognise the expression of every face in it.

Reads camera 0, or the camera number, video file or address given, and models/.
Shows what the camera sees, mirrored, and counts down; space takes the picture at once, q or Esc quits. With --now, or
where there is no display, the picture is taken as soon as the camera's exposure has settled.
Writes camera_<date>_<time>.jpg, the image as it was taken, and output_camera_<date>_<time>.jpg with a box and a label
on each face, into the current folder. Prints a row per face like recognise_image.py.

$ python image_from_camera.py
$ python image_from_camera.py 1 --now --output me.jpg --show
"""
import contextlib
import csv
import math
import sys
import threading
import time
from pathlib import Path

import cv2

from expressions import camera
from expressions.artifacts import refuse_overwriting
from expressions.console import InputError, pluralise, print_status, run, script_parser
from expressions.drawing import draw_countdown, draw_faces
from expressions.images import is_uniform, output_path, with_writable_suffix, write_image
from expressions.recognition import add_detector_arguments, face_row, recogniser_of
from expressions.tables import safe_cell

TITLE = "space takes the picture - q quits"
WARMUP_FRAMES = 30  # that a camera takes to get exposure and white balance right: about a second


def parse_arguments(argv):
    parser = script_parser(__doc__)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video file or address (default: 0)")
    parser.add_argument("--now", action="store_true", help="take the picture without preview and countdown")
    parser.add_argument("--countdown", type=camera.seconds_argument, default=3, metavar="SECONDS",
                        help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="the image to write; output_<name> is written beside it")
    parser.add_argument("--show", action="store_true", help="open a window with the recognised image")
    add_detector_arguments(parser)
    args = parser.parse_args(argv)
    args.output = args.output or camera.dated_path("camera", ".jpg")
    if with_writable_suffix(args.output) != args.output:
        raise InputError(f"{args.output} has no ending that OpenCV writes: end it in .jpg or .png")
    args.recognised = args.output.parent / output_path(args.output)
    refuse_overwriting([args.output, args.recognised], [args.source])
    return args


def take_now(frames):
    """Return the frame after the camera has settled, or the last one of a shorter video; None if there is none."""
    image = None
    for number, (_, frame) in enumerate(frames):
        image = frame
        if number == WARMUP_FRAMES:
            break
    return image


def take_after_countdown(items, seconds):
    """Return the frame at the end of a countdown in a window, at a press of space, or a shorter video's last one.

    `items` are what camera.latest yields. Returns the frame, or None if there is none, and whether the user quit.
    """
    image, end = None, math.inf
    for item in items:
        if item:
            end = time.monotonic() + seconds if image is None else end
            image = item[1]
        if image is None:
            continue
        seconds_left = end - time.monotonic()
        mirrored = cv2.flip(image, 1)
        draw_countdown(mirrored, math.ceil(seconds_left))
        camera.show(TITLE, mirrored)
        key = camera.pressed_key(TITLE)
        if key == "q":
            return image, True
        if key == " " or seconds_left <= 0:
            break
    return image, False


def take_picture(args):
    """Open the camera and take the picture; None if the user quits. Raises InputError."""
    with_window = not args.now and camera.can_show()
    if not args.now and not with_window:
        print_status("there is no display for a preview: taking the picture now", args.quiet)
    frames, has_quit = camera.open_camera(args.source).frames, False
    if with_window:
        playing = threading.Event()
        playing.set()
        frames = camera.latest(camera.read_camera(frames, camera.is_live(args.source), playing))
    with contextlib.closing(frames):
        if with_window:
            image, has_quit = take_after_countdown(frames, args.countdown)
            cv2.destroyAllWindows()
        else:
            image = take_now(frames)
    if has_quit:
        return None
    if image is None:
        raise InputError(f"{args.source} opens but gives no image: close other programs that use it, or check the file")
    if is_uniform(image):
        raise InputError(f"{args.source} gives nothing but one flat colour: uncover the lens, or make some light")
    return image


def main(argv=None):
    args = parse_arguments(argv)
    recogniser = recogniser_of(args)  # says at once if it cannot be loaded
    image = take_picture(args)
    if image is None:
        print_status("no picture was taken", args.quiet)
        return
    write_image(args.output, image)
    faces = recogniser(image)
    table = csv.writer(sys.stdout, lineterminator="\n")
    for number, face in enumerate(faces, start=1):
        table.writerow([safe_cell(args.output), *face_row(number, face)[:7]])
    draw_faces(image, faces)
    write_image(args.recognised, image)
    print_status(f"wrote {args.output} and {args.recognised}: {pluralise(len(faces), 'face')}", args.quiet)
    if args.show:
        camera.show_image(image, args.output.name, args.recognised)


if __name__ == "__main__":
    run(main)
