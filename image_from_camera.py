"""Take a picture with the camera and recognise the expression of every face in it.

Reads camera 0, or the camera number, video file or URL given, and models/.
Shows what the camera sees, mirrored, and counts down; space takes the picture at once, q quits. With --now,
or where there is no display, it takes the picture as soon as the camera has settled.
Writes camera_<date>_<time>.jpg, the picture as it was taken, and output_camera_<date>_<time>.jpg
with a box and a label on each face, where you stand. Prints a row per face like recognise_image.py.

$ python image_from_camera.py
$ python image_from_camera.py 1 --now --output me.jpg --show
"""
import csv
import math
import sys
import threading
import time
from pathlib import Path

from confmatrix import can_show, open_window, show_if_possible, window_is_open
from preprocessing import InputError, run
from recognise_image import (
    FONT,
    count,
    draw_faces,
    face_row,
    is_blank,
    load_recogniser,
    output_path,
    recognise,
    recognition_parser,
    say,
    writable,
    write_picture,
)
from tables import cell
from webcam_live import is_live, newest, open_camera, read_camera

import cv2

TITLE = "space takes the picture - q quits"
NO_PICTURE = "the camera opens but gives no picture: close other programs that use it, or check the file"
SETTLING = 30  # frames a camera takes to get exposure and white balance right: about a second


def take_picture(camera):
    """The frame after the camera has settled, or the last one of a shorter video."""
    picture = None
    for _ in range(SETTLING + 1):
        arrived, frame = camera.read()
        if not arrived:
            break
        picture = frame
    if picture is None:
        raise InputError(NO_PICTURE)
    return picture


def take_after_countdown(camera, live, seconds):
    """The frame at the end of a countdown in a window, at a press of space, or of a shorter video the last one.

    None where the user quits.
    """
    running = threading.Event()
    running.set()
    picture, end = None, math.inf
    for item in newest(read_camera(camera, live, running)):
        if item:
            if picture is None:
                end = time.monotonic() + seconds
                open_window(TITLE, item[1])
            picture = item[1]
        if picture is None:
            continue
        left = end - time.monotonic()
        mirrored = cv2.flip(picture, 1)
        draw_number(mirrored, math.ceil(left))
        cv2.imshow(TITLE, mirrored)
        key = chr(cv2.waitKey(1) & 0xFF).lower()
        if key == "q" or not window_is_open(TITLE):
            return None
        if key == " " or left <= 0:
            break
    if picture is None:
        raise InputError(NO_PICTURE)
    return picture


def draw_number(frame, number):
    """Draw a large number at the top of a frame, uint8 BGR (h, w, 3)."""
    height, width = frame.shape[:2]
    size = height / 120
    (wide, high), _ = cv2.getTextSize(str(number), FONT, size, 1)
    for colour, stroke in (((0, 0, 0), 6 * size), ((255, 255, 255), 2.5 * size)):  # legible on whatever is behind it
        cv2.putText(frame, str(number), ((width - wide) // 2, height // 20 + high), FONT, size, colour,
                    max(1, round(stroke)), cv2.LINE_AA)


def main(argv=None):
    parser = recognition_parser(__doc__)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video file or URL (default: 0)")
    parser.add_argument("--now", action="store_true", help="take the picture without preview and countdown")
    parser.add_argument("--countdown", type=float, default=3, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="the picture to write; output_<name> is written beside it")
    parser.add_argument("--show", action="store_true", help="open a window with the recognised picture")
    args = parser.parse_args(argv)
    taken = args.output or Path(time.strftime("camera_%Y%m%d_%H%M%S.jpg"))
    if writable(taken) != taken:
        raise InputError(f"{taken} has no ending that OpenCV writes: end it in .jpg or .png")
    if taken.resolve() == Path(args.source).resolve():
        raise InputError(f"{taken} would be written over: give --output another name")
    recogniser = load_recogniser(args.models, args.keras)

    camera = open_camera(args.source, args.max_pixels)
    if not args.now and not can_show():
        say(args, "there is no display for a preview: taking the picture now")
        args.now = True
    if args.now:
        picture = take_picture(camera)
    else:
        picture = take_after_countdown(camera, is_live(args.source), args.countdown)
        cv2.destroyAllWindows()
    if picture is None:
        say(args, "no picture was taken")
        return
    if is_blank(picture):
        raise InputError(f"{args.source} gives nothing but one flat colour: uncover the lens, or make some light")
    write_picture(taken, picture)
    boxes, probabilities = recognise(picture, recogniser)
    printed = csv.writer(sys.stdout, lineterminator="\n")
    for number, (box, shares) in enumerate(zip(boxes, probabilities), start=1):
        printed.writerow([cell(taken), *face_row(number, box, shares)[:7]])
    draw_faces(picture, boxes, probabilities)
    recognised = taken.parent / output_path(taken)
    write_picture(recognised, picture)
    say(args, f"wrote {taken} and {recognised}: {count(len(boxes), 'face')}")
    if args.show:
        show_if_possible(picture, taken.name, recognised)


if __name__ == "__main__":
    run(main)
