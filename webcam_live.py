"""Recognise expressions live, from a camera.

Reads camera 0, or the camera number, video file or URL given, and models/.
Shows a mirrored window with a box and a label on each face, the probabilities of the largest one and the
frames per second. Keys: q quits, s keeps a snapshot, r starts and stops a recording, space pauses, h lists them.
With --record what the window shows is recorded from the start, with --csv a row per face and look is written.

$ python webcam_live.py
$ python webcam_live.py 1 --record me.mp4
$ python webcam_live.py rtsp://camera.example/stream --csv faces.csv
"""
import collections
import concurrent.futures
import contextlib
import os
import threading
import time
from fractions import Fraction
from itertools import count as counting
from pathlib import Path

from confmatrix import can_show, open_window, window_is_open
from preprocessing import EXPRESSIONS, MAX_PIXELS, InputError, run
from recognise_image import (
    COLOURS,
    FONT,
    count,
    draw_faces,
    face_row,
    is_blank,
    letter_size,
    load_recogniser,
    recognition_parser,
    say,
    write_picture,
)
from recognise_video import COLUMNS, recognise_next, refuse_playlist, video_writer
from tables import csv_rows

import cv2
import numpy as np

TITLE = "expressions - h lists the keys"
KEYS = ("q  quit", "s  snapshot", "r  record, and stop", "space  pause", "h  these keys")
SEARCH_EVERY = 0.3  # seconds until a new face is seen; sooner than in a file, where it is followed back
BLANK = "one flat colour: is the lens covered?"
PATIENCE = 5  # seconds without a picture after which a camera counts as unplugged
MILLISECOND = Fraction(1, 1000)


def open_camera(source, most=MAX_PIXELS):
    """A cv2.VideoCapture of a camera number, a file or a URL, which the caller releases.

    Its frames have at most `most` pixels.
    """
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the sentences below say more
    if Path(source).is_file():
        refuse_playlist(source)
    # As bytes, for OpenCV crashes at a str whose letters are no UTF-8.
    camera = cv2.VideoCapture(int(source) if source.isdigit() else os.fsencode(source))
    if not camera.isOpened():
        if source.isdigit():
            raise InputError(f"camera {source} does not open: plug it in, close other programs that use it, "
                             "or give another number, a video file or a URL")
        raise InputError(f"{source} does not open as a video: check the path or the URL")
    width, height = (int(camera.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > most:
        raise InputError(f"{source} has frames of {width} x {height}, more than {most:,} pixels: "
                         "make it smaller, or give --max-pixels a larger number")
    return camera


def is_live(source):
    """Whether frames come at the pace of the world, from a camera or over the network, not of a file."""
    return source.isdigit() or "://" in source


def read_camera(camera, live, running):
    """Yield (seconds since the first frame, frame uint8 BGR (h, w, 3)) until the source ends.

    A file plays at its own pace, and waits while the threading.Event `running` is not set.
    """
    start = time.monotonic()
    while True:
        if not live and not running.is_set():
            stopped = time.monotonic()
            running.wait()
            start += time.monotonic() - stopped
        arrived, frame = camera.read()
        if not arrived:
            return
        seconds = time.monotonic() - start
        if not live:
            early = camera.get(cv2.CAP_PROP_POS_MSEC) / 1000 - seconds
            seconds += early
            time.sleep(max(0, early))
        yield seconds, frame


def newest(items):
    """Yield the newest item of an iterator, which runs on a thread of its own; those in between are dropped.

    Yields None where there was none for a twentieth of a second.
    """
    slot, arrived, closed = collections.deque(maxlen=1), threading.Event(), threading.Event()

    def keep():
        for item in items:
            slot.append(item)
            arrived.set()
            if closed.is_set():
                return

    thread = threading.Thread(target=keep, daemon=True)  # a camera that hangs must not hold up the end
    thread.start()
    try:
        while thread.is_alive() or arrived.is_set():
            if not arrived.wait(0.05):
                yield None
                continue
            arrived.clear()
            if slot:  # or it came between the two lines before, and has been seen
                yield slot.pop()
    finally:
        closed.set()
        thread.join(2)


def live_recogniser(recogniser):
    """A function look(seconds, frame uint8 BGR (h, w, 3)) that follows faces and returns what recognise_next does."""
    faces, numbers, searched = [], counting(1), -np.inf

    def look(seconds, frame):
        nonlocal searched
        due = seconds - searched >= SEARCH_EVERY
        searched = seconds if due else searched
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        return recognise_next(faces, [grey], [seconds], numbers, recogniser, (0,) if due else ())[0]

    return look


class Recording:
    """Writes the frames given to it between start() and stop() into an .mp4, at the seconds they come with."""

    def __init__(self, rate, args):
        self.rate, self.args, self.path = rate, args, None
        self.open = contextlib.ExitStack()

    def start(self, path):
        self.path, self.frames = path, 0

    def write(self, frame, seconds):
        if not self.path:
            return
        if not self.frames:
            self.began = seconds
            self.add, _ = self.open.enter_context(video_writer(self.path, self.rate, MILLISECOND))
        self.add(frame, seconds - self.began)
        self.frames += 1

    def stop(self):
        if self.path and self.frames:
            self.open.close()
            say(self.args, f"wrote {self.path}: {count(self.frames, 'frame')}")
        self.path = None


def draw_bars(frame, shares):
    """Draw the probabilities (7,) of a face as bars into the lower left corner of a frame, uint8 BGR (h, w, 3)."""
    height, width = frame.shape[:2]
    unit = min(height / 26, width / 24)  # of a row
    size, rows, left = unit / 32, len(shares), round(unit / 2)
    top = height - round((rows + 0.5) * unit)
    right = left + round(10 * unit)
    darken(frame, left // 2, top - left // 2, right + left, height - left // 2)
    for row, (expression, share, colour) in enumerate(zip(EXPRESSIONS, shares, COLOURS)):
        base = top + round((row + 0.75) * unit)
        cv2.putText(frame, expression, (left, base), FONT, size, (255, 255, 255),
                    max(1, round(2 * size)), cv2.LINE_AA)
        bar = left + round(4.6 * unit)
        brighter = tuple(min(255, 60 + level) for level in colour)
        cv2.rectangle(frame, (bar, base - round(0.5 * unit)), (bar + round(share * (right - bar)), base), brighter,
                      cv2.FILLED)


def darken(frame, left, top, right, bottom):
    """Darken a part of a frame, so that letters stand out from whatever is behind them."""
    part = frame[top:bottom, left:right]
    part[:] = part // 5


def draw_notes(frame, lines):
    """Draw lines of text into the upper left corner of a frame, uint8 BGR (h, w, 3)."""
    size = 0.8 * letter_size(frame)
    stroke = max(1, round(1.6 * size))
    widths, heights = zip(*(cv2.getTextSize(line, FONT, size, stroke)[0] for line in lines))
    step = round(1.7 * max(heights))
    darken(frame, 0, 0, max(widths) + step, step * len(lines) + step // 2)
    for row, line in enumerate(lines, start=1):
        cv2.putText(frame, line, (step // 2, row * step), FONT, size, (255, 255, 255), stroke, cv2.LINE_AA)


def main(argv=None):
    parser = recognition_parser(__doc__)
    parser.add_argument("source", nargs="?", default="0", help="camera number, video file or URL (default: 0)")
    parser.add_argument("--record", type=Path, metavar="FILE", help="record an .mp4 from the start")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row per face and look; - is stdout")
    parser.add_argument("--no-mirror", action="store_true", help="show the picture as the camera sees it")
    args = parser.parse_args(argv)
    if args.record and args.record.suffix.lower() != ".mp4":
        raise InputError(f"{args.record} is not an .mp4: end the name in .mp4")
    for path in filter(None, (args.record, args.csv)):
        if path.resolve() == Path(args.source).resolve():
            raise InputError(f"{path} would be written over: give another name")
    window = can_show()
    if not window and not (args.record or args.csv):
        raise InputError("there is no display to open a window on: give --record FILE.mp4 or --csv FILE "
                         "and look at the file later")
    look = live_recogniser(load_recogniser(args.models, args.keras))
    camera = open_camera(args.source, args.max_pixels)
    live = is_live(args.source)
    rate = camera.get(cv2.CAP_PROP_FPS)
    rate = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 240 else 30  # some cameras say 0, some 180,000
    recording = Recording(rate, args)
    running = threading.Event()  # cleared while paused
    running.set()

    number, looking, shown, view = 0, None, None, None
    moments = collections.deque([time.monotonic()], maxlen=30)  # at which frames were shown
    listed = interrupted = unplugged = False
    with contextlib.ExitStack() as stack:
        add = stack.enter_context(csv_rows(args.csv, COLUMNS)) if args.csv else None
        stack.enter_context(recording.open)
        if args.record:
            recording.start(args.record)
        if window:
            stack.callback(cv2.destroyAllWindows)
        thread = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
        frames = stack.enter_context(contextlib.closing(newest(read_camera(camera, live, running))))
        stack.callback(running.set)

        def take(looking):
            """What a look has shown, after its rows are written."""
            at, seconds, future = looking
            identities, boxes, probabilities, expressions = future.result()
            if add:
                for face in zip(identities, boxes, probabilities, expressions):
                    add([at, f"{seconds:.3f}", *face_row(*face)])
            return boxes, probabilities, expressions, identities

        try:
            for item in frames:
                if item and running.is_set():
                    seconds, frame = item
                    if not args.no_mirror:
                        frame = cv2.flip(frame, 1)
                    if looking and looking[-1].done():
                        shown, looking = take(looking), None
                    if not looking:  # the display does not wait for it
                        looking = number, seconds, thread.submit(look, seconds, frame)
                    view = frame.copy()
                    if shown and len(shown[0]):
                        draw_faces(view, *shown)
                        draw_bars(view, shown[1][shown[0][:, 2].argmax()])
                    recording.write(view, seconds)
                    number += 1
                    moments.append(time.monotonic())
                elif live and time.monotonic() - moments[-1] > PATIENCE and running.is_set():
                    unplugged = True
                    break
                if not window or view is None:
                    continue
                noted = view.copy()
                speed = (len(moments) - 1) / max(moments[-1] - moments[0], 1e-3)
                draw_notes(noted, [f"{speed:.0f} frames a second", *["recording"] * bool(recording.path),
                                   *["paused"] * (not running.is_set()), *[BLANK] * is_blank(view),
                                   *(KEYS if listed else ())])
                if number == 1:
                    open_window(TITLE, noted)
                cv2.imshow(TITLE, noted)
                key = chr(cv2.waitKey(1) & 0xFF).lower()
                if key == "q" or not window_is_open(TITLE):
                    break
                if key == "h":
                    listed = not listed
                elif key == " ":
                    (running.clear if running.is_set() else running.set)()
                    moments.append(time.monotonic())
                elif key == "s":
                    path = Path(time.strftime("snapshot_%Y%m%d_%H%M%S.jpg"))
                    write_picture(path, view)
                    say(args, f"wrote {path}")
                elif key == "r" and recording.path:
                    recording.stop()
                elif key == "r":
                    recording.start(Path(time.strftime("recording_%Y%m%d_%H%M%S.mp4")))
            else:
                unplugged = args.source.isdigit()
        except KeyboardInterrupt:  # the recording is worth having
            interrupted = True
        if looking:
            take(looking)
        recording.stop()
        if interrupted and not number:
            raise KeyboardInterrupt
        if not number:
            raise InputError(f"{args.source} opens but gives no picture: close other programs that use it, "
                             "or check the file")
    if args.csv and str(args.csv) != "-":
        say(args, f"wrote {args.csv}")
    if interrupted:
        raise KeyboardInterrupt("what was recorded and the rows so far are whole; run it again to go on")
    if unplugged:
        raise InputError(f"{args.source} gives no more pictures: plug it in again; what was recorded is whole")


if __name__ == "__main__":
    run(main)
