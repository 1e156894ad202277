"""A script at work, in a real window of the virtual display if it has one: what it shows and wrote, keys, signals."""
import csv
import os
import signal
import subprocess
import sys
import time

import av
import cv2
import numpy as np
from conftest import ROOT, screenshot

DEADLINE = 120  # seconds; only a test that fails waits for it, on however busy a machine


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def frames_of(path):
    """(seconds, frame uint8 BGR) of a finished video."""
    with av.open(str(path)) as file:
        return [(float(frame.time), frame.to_ndarray(format="bgr24")) for frame in file.decode(video=0)]


class RunningScript:
    """A script that runs in a folder, in a process of its own."""

    def __init__(self, folder, script, *arguments):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *map(str, arguments)], cwd=folder, text=True, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a background job ignores it

    def wait_until(self, condition):
        """Wait for a condition, and return what it gives; fail if the process ends before."""
        end = time.monotonic() + DEADLINE
        while not (result := condition()):
            assert time.monotonic() < end and self.process.poll() is None, "waited in vain"
            time.sleep(0.05)
        return result

    def wait_for_rows(self, number=3):
        """Wait for faces.csv, which grows row by row."""
        table = self.folder / "faces.csv"
        self.wait_until(lambda: table.exists() and table.read_text().count("\n") > number)

    def finish(self, status=0):
        """Wait for the script to end with this status and no traceback; returns what it wrote to standard error."""
        message = self.process.communicate(timeout=DEADLINE)[1]
        assert self.process.returncode == status and "Traceback" not in message, message
        return message


class ScriptInWindow(RunningScript):
    """A script, once its window shows a piece of an image, `piece`, at (top, left) `place`."""

    def __init__(self, folder, title, piece, place, *command):
        super().__init__(folder, *command)
        self.window = self.wait_until(lambda: next(
            (line.split()[0] for line in os.popen("wmctrl -l") if title in line), None))
        self.piece, self.place = piece, place
        self.wait_to_show(lambda image: True)

    def image(self):
        """What the window shows, uint8 BGR (h, w, 3), and what is right of it and below; None if it is not there."""
        screen = screenshot()
        found = cv2.matchTemplate(screen, self.piece, cv2.TM_CCOEFF_NORMED)
        top, left = np.unravel_index(found.argmax(), found.shape) - np.array(self.place)
        return screen[top:, left:].copy() if found.max() > 0.8 and min(top, left) >= 0 else None

    def wait_to_show(self, condition):
        """Wait for the window to show what the condition on its image asks for; returns the image."""
        return self.wait_until(lambda: [image for image in [self.image()] if image is not None and condition(image)])[0]

    def press(self, key):
        """Press a key, or the X of the window's frame."""
        subprocess.run(["wmctrl", "-i", "-c", self.window] if key == "X" else
                       ["xdotool", "key", "--window", self.window, key])
