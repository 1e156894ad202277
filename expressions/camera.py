"""Cameras and live streams, and the windows that show them."""
import collections
import datetime
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2

from expressions.console import InputError, print_status, printable
from expressions.images import is_remote

TIMEOUT = 5  # seconds without an image after which a camera counts as unplugged


def open_camera(source):
    """Return the frames of a camera number, a video file or an address, which is closed when nothing holds them.

    They are an iterator of (seconds, frame uint8 BGR (h, w, 3)), the seconds only right for files. Raises InputError.
    """
    if not source.isdecimal():
        from expressions.video import open_video, read_video
        return read_video(open_video(source, is_remote(source)))
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the sentence below says more
    capture = cv2.VideoCapture(int(source[:9]))  # as many digits as OpenCV takes
    if not capture.isOpened():
        raise InputError(f"camera {source} does not open: plug it in, close what else uses it, or give another source")
    return iter(capture.read, (False, None))  # read gives (True, frame) until none comes


def in_time(frames, is_live, is_paused):
    """Yield (seconds since the first, frame): of a live source as they come, of a file at its pace while not paused."""
    start = None
    for seconds, frame in frames:
        start = time.monotonic() if start is None else start
        if not is_live:
            time.sleep(max(0, start + seconds - time.monotonic()))
            while is_paused():
                time.sleep(0.02)
                start = time.monotonic() - seconds
        yield time.monotonic() - start if is_live else seconds, frame


def watch(source, is_paused=lambda: False):
    """Yield the newest (seconds, frame) of open_camera and in_time, which run on a thread; others are dropped.

    Yields None where none came for a twentieth of a second. Raises InputError, also where the source falls silent.
    """
    frames = open_camera(source)  # not on the thread: macOS asks here whether the user allows it
    is_live = source.isdecimal() or is_remote(source)
    newest, errors, arrived, closed = collections.deque(maxlen=1), [], threading.Event(), threading.Event()

    def take():
        try:
            for item in in_time(frames, is_live, lambda: is_paused() and not closed.is_set()):
                newest.append(item)
                arrived.set()
                if closed.is_set():
                    break
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=take, daemon=True)  # a camera that hangs must not hold up the end
    thread.start()
    last_time = time.monotonic()
    try:
        while thread.is_alive() or newest:
            arrived.wait(0.05)
            arrived.clear()
            item = newest.pop() if newest else None
            last_time = time.monotonic() if item else last_time
            if is_live and time.monotonic() - last_time > TIMEOUT:
                break
            yield item
        for error in errors:
            raise error
        if thread.is_alive() or source.isdecimal():  # it is silent, or a camera ended, which has no end
            raise InputError(f"{source} gives no images any more: plug it in, or close other programs that use it")
    finally:
        closed.set()
        thread.join(2)


def dated_path(name, suffix):
    """Return a path in the current folder that holds the time: snapshot_20250131_120000_123456.jpg."""
    return Path(f"{name}_{datetime.datetime.now():%Y%m%d_%H%M%S_%f}{suffix}")


def can_show():
    """Whether a window can open. Asked in a process of its own: where none can, OpenCV aborts the one that asks."""
    command = [sys.executable, "-c", "import cv2; cv2.namedWindow('attempt')"]
    return not sys.platform.startswith("linux") or subprocess.run(command, capture_output=True).returncode == 0


def show(title, image, milliseconds=1):
    """Show an image uint8 BGR (h, w, 3) in a window, which is opened to fit an ordinary screen where there is none.

    Waits so long for a key, and returns it in lower case, or "": "q" for all that closes the window.
    """
    if not window_is_open(title):
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        height, width = image.shape[:2]
        zoom = min(1, 1280 / width, 720 / height)
        cv2.resizeWindow(title, round(width * zoom), round(height * zoom))
    cv2.imshow(title, image)
    code = cv2.waitKey(milliseconds)
    if code & 0xFF == 27 or not window_is_open(title):  # 27 is Esc
        return "q"
    return chr(code & 0xFF).lower() if code >= 0 else ""


def window_is_open(title):
    """Whether the user has not closed the window."""
    try:
        return cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:  # with Qt, after the last window was closed
        return False


def show_image(image, title, path):
    """Show an image uint8 BGR (h, w, 3) until a key or X is pressed; without a display say that `path` holds it."""
    if not can_show():
        print_status(f"there is no display to show it on: open {path}")
        return
    print_status("press a key in the window to go on")
    while not show(printable(title), image, 50):  # OpenCV crashes at letters that are no UTF-8
        pass
    cv2.destroyAllWindows()
