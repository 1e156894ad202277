"""What several tests need: a small FER2013, a small model, a portrait, and scripts run for real."""
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


PATIENCE = 60  # seconds for the process to end when all tests are done


def pytest_sessionfinish(session, exitstatus):
    session.config.status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """Where threads of the libraries keep the process from ending, say where they stand, and end it as the tests did.

    The scripts have processes of their own, which are to end by themselves.
    """
    def end():
        faulthandler.dump_traceback(file=sys.__stderr__)
        os._exit(getattr(config, "status", 1))

    timer = threading.Timer(PATIENCE, end)
    timer.daemon = True
    timer.start()


def run_script(name, *arguments, cwd=None, env=None):
    """Run a script as a user does; the finished process with its text."""
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True,
                          timeout=600)


def write_video(path, frames):
    """Write frames, uint8 BGR of even sizes, as a video with 25 of them a second."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        (stream.height, stream.width), stream.pix_fmt = frames[0].shape[:2], "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    return path


def heed_ctrl_c():
    """For Popen's preexec_fn: what a shell starts in the background ignores SIGINT, and so would the script."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def assert_refused(process, *words):
    """The script ended with status 2 and one sentence that has these words, and no traceback."""
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    sentence = process.stderr.strip().splitlines()[-1]
    for word in words:
        assert str(word) in sentence
    return sentence


def csv_text(faces, labels, usage, header="emotion,pixels,Usage"):
    """FER2013's CSV layout, made by plain Python: the columns in the order of the header."""
    names = ("Training", "PublicTest", "PrivateTest")
    rows = [header]
    for face, label, split in zip(faces, labels, usage):
        fields = {"emotion": str(label), "pixels": " ".join(str(int(value)) for value in face.ravel()),
                  "usage": names[split]}
        rows.append(",".join(fields[column.strip().lower()] for column in header.split(",")))
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="session")
def small_set():
    """70 random faces uint8 (70, 48, 48, 1), labels and usage uint8 (70,): ten of each expression, 8 + 1 + 1."""
    random = np.random.default_rng(7)
    faces = random.integers(0, 256, (70, 48, 48, 1), np.uint8)
    labels = np.repeat(np.arange(7, dtype=np.uint8), 10)
    usage = np.tile(np.array([0] * 8 + [1, 2], np.uint8), 7)
    return faces, labels, usage


@pytest.fixture
def small_csv(small_set, tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text(*small_set))
    return path


@pytest.fixture(scope="session")
def shipped():
    """The shipped models/ folder."""
    return ROOT / "models"


@pytest.fixture(scope="session")
def genuine_csv():
    """The genuine fer2013.csv, for those who have it."""
    path = ROOT / "data" / "fer2013.csv"
    if not path.exists():
        pytest.skip("data/fer2013.csv is not there; the README says where to get it")
    return path


@pytest.fixture(scope="session")
def portrait():
    """Grace Hopper's portrait, uint8 BGR (600, 512, 3), and the path of matplotlib's file."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return cv2.imread(str(path)), path


@pytest.fixture
def display(tmp_path):
    """The environment of a virtual display, where Xvfb and xdotool are installed."""
    if not (shutil.which("Xvfb") and shutil.which("xdotool")):
        pytest.skip("needs Xvfb and xdotool (Debian packages xvfb and xdotool) for a real window")
    framebuffer = tmp_path / "display"
    framebuffer.mkdir()
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-noreset", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-fbdir",
                               str(framebuffer)], pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    yield {"DISPLAY": f":{number}", "FRAMEBUFFER": str(framebuffer / "Xvfb_screen0")}
    server.terminate()
    server.wait()


def screenshot(display):
    """What the virtual display shows, uint8 BGR (h, w, 3), from the XWD file that Xvfb keeps it in."""
    data = Path(display["FRAMEBUFFER"]).read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    width, height, bytes_per_line = header[4], header[5], header[12]
    pixels = np.frombuffer(data, np.uint8, offset=header[0] + 12 * header[19])[:height * bytes_per_line]
    return pixels.reshape(height, -1, 4)[:, :width, :3]


def wait_for_window(display, name, seconds=60):
    """The number of the window whose title has this name, once it is painted.

    Without a window manager Qt sometimes misses that its window has come to the screen and never paints
    it; where that happens the window is taken off and put back, as a manager would.
    """
    def xdotool(*words):
        return subprocess.run(["xdotool", *words], env={**os.environ, **display}, capture_output=True, text=True).stdout

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = xdotool("search", "--name", name).split()
        patience = time.monotonic() + 3
        while found and time.monotonic() < patience:
            if screenshot(display).mean() > 5:
                time.sleep(1)  # so that faces are drawn, too
                return found[0]
            time.sleep(0.1)
        if found:
            xdotool("windowunmap", found[0])
            xdotool("windowmap", found[0])
        time.sleep(0.2)
    raise AssertionError(f"no window {name!r} in {seconds} s")


def press(display, window, key):
    subprocess.run(["xdotool", "key", "--window", window, key], env={**os.environ, **display}, check=True,
                   capture_output=True)


NO_DISPLAY = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
