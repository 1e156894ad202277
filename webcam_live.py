"""Recognise expressions live, from a camera.

Reads camera 0, or the camera number, video file or URL given, and models/.
Shows a window with a box and a label on each face and the probabilities of the largest one;
q quits. With --record also writes what the window shows, as an .mp4.

$ python webcam_live.py
$ python webcam_live.py 1 --record me.mp4
$ python webcam_live.py rtsp://camera.example/stream
"""
import contextlib
import sys
import time
from fractions import Fraction
from pathlib import Path

import cv2

from confmatrix import can_show, open_window, window_is_open
from preprocessing import EXPRESSIONS, InputError, run, script_parser
from recognise_image import COLOURS, FONT, load_recogniser
from recognise_video import recognise_frames, video_writer
from train_model import MODELS

TITLE = "expressions - q quits"
MILLISECOND = Fraction(1, 1000)


def open_camera(source):
    """A cv2.VideoCapture of a camera number, a file or a URL, which the caller releases."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the sentences below say more
    camera = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not camera.isOpened():
        if source.isdigit():
            raise InputError(f"camera {source} does not open: plug it in, close other programs that use it, "
                             "or give another number, a video file or a URL")
        raise InputError(f"{source} does not open as a video: check the path or the URL")
    return camera


def is_live(source):
    """Whether frames come at the pace of the world, from a camera or over the network, not of a file."""
    return source.isdigit() or "://" in source


def read_camera(camera, live):
    """Yield (milliseconds since the first frame, frame uint8 BGR (h, w, 3)) until the source ends."""
    start = time.monotonic()
    while True:
        arrived, frame = camera.read()
        if not arrived:
            return
        yield round((time.monotonic() - start) * 1000 if live else camera.get(cv2.CAP_PROP_POS_MSEC)), frame


def draw_bars(frame, shares):
    """Draw the probabilities (7,) of a face as bars into the lower left corner of a frame, uint8 BGR (h, w, 3)."""
    height, width = frame.shape[:2]
    unit = min(height / 26, width / 24)  # of a row
    size, rows, left = unit / 32, len(shares), round(unit / 2)
    top = height - round((rows + 0.5) * unit)
    right = left + round(10 * unit)
    panel = frame[top - left // 2:height - left // 2, left // 2:right + left]
    panel[:] = panel // 3  # so that letters stand out from whatever is behind them
    for row, (expression, share, colour) in enumerate(zip(EXPRESSIONS, shares, COLOURS)):
        base = top + round((row + 0.75) * unit)
        cv2.putText(frame, expression, (left, base), FONT, size, (255, 255, 255),
                    max(1, round(2 * size)), cv2.LINE_AA)
        bar = left + round(4.6 * unit)
        brighter = tuple(min(255, 60 + level) for level in colour)
        cv2.rectangle(frame, (bar, base - round(0.5 * unit)), (bar + round(share * (right - bar)), base), brighter,
                      cv2.FILLED)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video file or URL (default: 0)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="also write an .mp4")
    parser.add_argument("--models", type=Path, metavar="FOLDER", default=MODELS, help="where the model is")
    args = parser.parse_args(argv)
    if args.record and args.record.suffix.lower() != ".mp4":
        raise InputError(f"{args.record} is not an .mp4: end the name in .mp4")
    if args.record and args.record.resolve() == Path(args.source).resolve():
        raise InputError(f"{args.record} would be written over: give --record another name")
    window = can_show()
    if not window and not args.record:
        raise InputError("there is no display to open a window on: give --record FILE.mp4 and look at the file later")
    recogniser = load_recogniser(args.models)

    camera = open_camera(args.source)
    number = 0
    interrupted = False
    with contextlib.ExitStack() as stack:
        if window:
            stack.callback(cv2.destroyAllWindows)
        stack.callback(camera.release)
        if args.record:
            rate = Fraction(camera.get(cv2.CAP_PROP_FPS) or 25).limit_denominator(1001)
            write, _ = stack.enter_context(video_writer(args.record, rate, MILLISECOND))
        frames = read_camera(camera, is_live(args.source))
        try:
            for milliseconds, frame, boxes, probabilities in recognise_frames(frames, recogniser):
                number += 1
                if len(boxes):
                    draw_bars(frame, probabilities[boxes[:, 2].argmax()])
                if args.record:
                    write(frame, milliseconds)
                if window:
                    if number == 1:
                        open_window(TITLE, frame)
                    cv2.imshow(TITLE, frame)
                    if cv2.waitKey(1) in (ord("q"), ord("Q")) or not window_is_open(TITLE):
                        break
        except KeyboardInterrupt:  # the recording is worth having
            interrupted = True
        if not number:
            raise InputError(f"{args.source} opens but gives no picture: close other programs that use it, "
                             "or check the file")
    if args.record:
        print(f"wrote {args.record}: {number:,} frames", file=sys.stderr)
    if interrupted:
        raise KeyboardInterrupt


if __name__ == "__main__":
    run(main)
