"""A script in a real window of the virtual display: what it shows, its keys, and how a user closes it."""
import subprocess
import sys
import time

import cv2
import numpy as np
from conftest import ROOT, screenshot

DEADLINE = 120  # seconds; only a test that fails waits for it, on however busy a machine


def wait_until(condition, process=None):
    """Wait for a condition, and return what it gives; fail if the process ends before."""
    end = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < end and (process is None or process.poll() is None), "waited in vain"
        time.sleep(0.05)
    return result


class ScriptInWindow:
    """A script that runs in a folder, once its window shows a piece of an image, `piece`, at (top, left) `place`."""

    def __init__(self, folder, title, piece, place, *command):
        script, *arguments = map(str, command)
        self.process = subprocess.Popen([sys.executable, str(ROOT / script), *arguments], cwd=folder, text=True,
                                        stderr=subprocess.PIPE)
        self.window = wait_until(lambda: next(
            (line.split()[0] for line in output_of("wmctrl", "-l").splitlines() if title in line), None), self.process)
        self.piece, self.place = piece, place
        self.wait_until(lambda image: True)

    def image(self):
        """What the window shows, uint8 BGR (h, w, 3), and what is right of it and below; None if it is not there."""
        screen = screenshot()
        found = cv2.matchTemplate(screen, self.piece, cv2.TM_CCOEFF_NORMED)
        top, left = np.unravel_index(found.argmax(), found.shape) - np.array(self.place)
        return screen[top:, left:].copy() if found.max() > 0.8 and min(top, left) >= 0 else None

    def wait_until(self, condition):
        """Wait for the window to show what the condition on its image asks for; returns the image."""
        def shown():
            image = self.image()
            return [image] if image is not None and condition(image) else None
        return wait_until(shown, self.process)[0]

    def press(self, key):
        output_of("xdotool", "key", "--window", self.window, key)

    def close(self):
        """Close it as the X of its frame does."""
        output_of("wmctrl", "-i", "-c", self.window)

    def finish(self):
        """Wait for the script to end; returns its status and what it wrote to standard error."""
        message = self.process.communicate(timeout=DEADLINE)[1]
        return self.process.returncode, message


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout
