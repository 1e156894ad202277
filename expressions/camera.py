"""Cameras and live streams, the windows that show them, and recordings of them."""
import argparse
import collections
import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import cv2

from expressions.console import InputError, pluralise, print_status, printable

TIMEOUT = 5  # seconds without an image after which a camera counts as unplugged
MILLISECOND = Fraction(1, 1000)
DEFAULT_RATE = Fraction(30)  # frames a second, where a camera does not tell
CLOSING_KEYS = ("q", "\x1b")  # \x1b is Esc

Camera = collections.namedtuple("Camera", "frames rate")  # what open_camera returns


def open_camera(source):
    """Return a Camera of a camera number, a file or an address.

    Its `frames` is an iterator of (seconds or None, frame uint8 BGR (h, w, 3)) that releases the camera when it ends or
    is closed; `rate` the frames a second to expect, a Fraction. Raises InputError.
    """
    if not is_number(source):
        return _open_with_ffmpeg(source)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the sentence below says more
    capture = cv2.VideoCapture(min(int(source[:10]), 2 ** 31 - 1))
    if not capture.isOpened():
        raise InputError(f"camera {source} does not open: plug it in, close other programs that use it, "
                         "or give another number, a video file or an address")
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = Fraction(rate).limit_denominator(1001) if 1 <= rate <= 240 else DEFAULT_RATE  # some say 0, some 180,000
    return Camera(_read_capture(capture), rate)


def _read_capture(capture):
    try:
        while True:
            arrived, frame = capture.read()
            if not arrived:
                return
            yield None, frame
    finally:
        capture.release()


def _open_with_ffmpeg(source):
    from expressions.video import frame_rate, open_stream, open_video, read_video

    video = open_stream(source) if is_live(source) else open_video(Path(source))
    stream = video.streams.video[0]

    def frames():
        with video:
            yield from read_video(video, stream)
    return Camera(frames(), frame_rate(stream))


def is_number(source):
    """Whether a source is a camera's number."""
    return source.isascii() and source.isdecimal()


def is_live(source):
    """Whether frames come at the pace of the world, from a camera or over the network, not of a file."""
    return is_number(source) or "://" in source


def read_camera(frames, live, playing):
    """Yield (seconds since the first frame, frame) of a Camera's frames until they end.

    A file plays at its own pace, and waits while the threading.Event `playing` is not set.
    """
    start = None
    with contextlib.closing(frames):
        for due, frame in frames:
            start = time.monotonic() if start is None else start
            if not live:
                paused_at = time.monotonic()
                playing.wait()
                start += time.monotonic() - paused_at
                time.sleep(max(0, float(due) - (time.monotonic() - start)))
            yield time.monotonic() - start if live else float(due), frame


def latest(items):
    """Yield the newest item of a generator, which runs on a thread of its own; those in between are dropped.

    Yields None where there was none for a twentieth of a second. Raises what the generator raises.
    """
    slot, arrived, closed, errors = collections.deque(maxlen=1), threading.Event(), threading.Event(), []

    def keep():
        try:
            for item in items:
                slot.append(item)
                arrived.set()
                if closed.is_set():
                    break
            items.close()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=keep, daemon=True)  # a camera that hangs must not hold up the end
    thread.start()
    try:
        while thread.is_alive() or arrived.is_set():
            if not arrived.wait(0.05):
                yield None
                continue
            arrived.clear()
            if slot:  # otherwise it came between the two lines before, and was yielded
                yield slot.pop()
        for error in errors:
            raise error
    finally:
        closed.set()
        thread.join(2)


def seconds_argument(text):
    """argparse type: a number of seconds, 0 or more."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")


def dated_path(name, suffix):
    """Return a path in the current folder that holds the time and does not exist yet: snapshot_20250131_120000.jpg."""
    stem = time.strftime(f"{name}_%Y%m%d_%H%M%S")
    numbers = (f"{stem}{number}{suffix}" for number in ("", *(f"_{count}" for count in range(2, 1000))))
    return next(path for path in map(Path, numbers) if not path.exists())


# ---- windows -----------------------------------------------------------------------------------

def can_show():
    """Whether a window can open. Asked in a process of its own: where none can, OpenCV aborts the one that asks."""
    if not sys.platform.startswith("linux"):
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    attempt = subprocess.run([sys.executable, "-c", "import cv2; cv2.namedWindow('attempt')"], capture_output=True)
    return attempt.returncode == 0


def show(title, image):
    """Show an image uint8 BGR (h, w, 3) in a window, which is opened where there is none, to fit an ordinary screen."""
    if not window_is_open(title):
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        height, width = image.shape[:2]
        zoom = min(1, 1280 / width, 720 / height)
        cv2.resizeWindow(title, round(width * zoom), round(height * zoom))
    cv2.imshow(title, image)


def window_is_open(title):
    """Whether the user has not closed the window."""
    try:
        return cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # with Qt, after the last window was closed
        return False


def pressed_key(title):
    """Return the key that was pressed in a window, lower case, or "": q for all that closes it."""
    key = chr(cv2.waitKey(1) & 0xFF).lower()
    if key in CLOSING_KEYS or not window_is_open(title):
        return "q"
    return key if key.isascii() else ""


def show_image(image, title, path):
    """Show an image uint8 BGR (h, w, 3) until a key is pressed or the window is closed.

    Where there is no display, say which file `path` holds it.
    """
    if not can_show():
        print_status(f"there is no display to show it on: open {path}")
        return
    print_status("press a key in the window to go on")
    title = printable(title)  # OpenCV crashes at letters that are no UTF-8
    show(title, image)
    while cv2.waitKey(50) < 0 and window_is_open(title):
        pass
    cv2.destroyAllWindows()


# ---- recordings --------------------------------------------------------------------------------

class Recording(contextlib.ExitStack):
    """Writes the frames given to it between start() and stop() into an .mp4, at the seconds they come with.

    A context manager: when its block ends with an error, a recording that was not stopped leaves no file.
    """

    def __init__(self, rate, quiet=False):
        super().__init__()
        self.rate, self.quiet, self.path = rate, quiet, None

    def start(self, path):
        """Begin a recording; its file is opened at the first frame."""
        self.path, self.n_frames = path, 0

    def write(self, frame, seconds):
        """Add a frame uint8 BGR (h, w, 3)."""
        from expressions.video import video_writer

        if not self.n_frames:
            self.began = seconds
            self.writer = self.enter_context(video_writer(self.path, self.rate, MILLISECOND))
        self.writer.write(frame, seconds - self.began)
        self.n_frames += 1

    def stop(self):
        """Finish the recording, if there is one."""
        if self.path and self.n_frames:
            self.close()
            print_status(f"wrote {self.path}: {pluralise(self.n_frames, 'frame')}", self.quiet)
        self.path = None
