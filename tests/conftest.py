"""What several tests need: small data sets and models, real images and videos, a real display."""
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from expressions import yunet

ROOT = Path(__file__).resolve().parent.parent
YUNET = "face_detection_yunet_2023mar.onnx"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
yunet.PATH = Path("nowhere") / YUNET  # the cascades are the default detector, as in a fresh clone


def run_script(name, *arguments, cwd=None, env=None):
    """Run a script as a user does, in a process of its own; return the finished process with its text."""
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True)


def write_video(path, frames, rate=25):
    """Write frames, uint8 BGR of even sizes, as an H.264 video."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        (stream.height, stream.width), stream.pix_fmt = frames[0].shape[:2], "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    return path


def csv_text(faces, labels, splits, header="emotion,pixels,Usage"):
    """FER2013's CSV layout, made by plain Python: the columns in the order of the header."""
    names = ("Training", "PublicTest", "PrivateTest")
    rows = [header]
    for face, label, split in zip(faces, labels, splits):
        fields = {"emotion": str(label), "pixels": " ".join(str(int(value)) for value in face.ravel()),
                  "usage": names[split]}
        rows.append(",".join(fields[column.strip().lower()] for column in header.split(",")))
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="session")
def small_set():
    """70 random faces uint8 (70, 48, 48, 1), labels and splits uint8 (70,): ten of each expression, 8 + 1 + 1."""
    faces = np.random.default_rng(7).integers(0, 256, (70, 48, 48, 1), np.uint8)
    labels = np.repeat(np.arange(7, dtype=np.uint8), 10)
    splits = np.tile(np.array([0] * 8 + [1, 2], np.uint8), 7)
    return faces, labels, splits


def make_training_small(patch):
    """Have train_model.py train a network of a few filters on small faces: seconds instead of an hour."""
    from expressions import training

    patch.setattr(training, "FULL", training.TrainingConfig(2, 0.5, ((1, 16),), 0.1, 1, (2, 2, 4, 4),
                                                            "GlobalMaxPooling2D"))
    patch.setattr(training, "QUICK", training.TrainingConfig(3, 0, ((0.5, 16), (1, 48)), 0.1, 0.7, (2, 2, 4, 6),
                                                             "GlobalAveragePooling2D"))


@pytest.fixture
def small_training(monkeypatch):
    """A training of seconds."""
    make_training_small(monkeypatch)


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """A data folder in which the four scripts were run on drawn faces, and what each printed: (folder, texts)."""
    import io

    import confmatrix
    import preprocessing
    import test_model
    import train_model
    from expressions import sample

    folder, texts = tmp_path_factory.mktemp("chain"), {}
    sample.write_sample(folder / "faces.csv", count=10)
    with pytest.MonkeyPatch.context() as patch:
        make_training_small(patch)
        for script, arguments in ((preprocessing, [str(folder / "faces.csv")]), (train_model, ["--batch-size", "16"]),
                                  (test_model, []), (confmatrix, [])):
            with contextlib.redirect_stdout(io.StringIO()) as text:
                script.main([*arguments, "--data", str(folder)])
            texts[script.__name__] = text.getvalue()
    return folder, texts


@pytest.fixture(scope="session")
def shipped():
    """The shipped models/ folder."""
    return ROOT / "models"


@pytest.fixture(autouse=True)
def without_yunet(monkeypatch, tmp_path):
    """A place of its own for each test, where YuNet's file is not."""
    monkeypatch.setattr(yunet, "PATH", tmp_path / yunet.PATH.name)


@pytest.fixture(scope="session")
def yunet_path():
    """YuNet's file, for those who have it."""
    for path in (ROOT / "models" / YUNET, ROOT.parent / "shared" / "detectors" / YUNET):
        if path.exists():
            return path
    pytest.skip(f"needs YuNet's file: put {YUNET} into models/")


@pytest.fixture(scope="session")
def portrait():
    """Grace Hopper's portrait, uint8 BGR (600, 512, 3), and the path of matplotlib's file."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return cv2.imread(str(path)), path


@pytest.fixture
def no_display(monkeypatch):
    """A machine without a display."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture
def display(monkeypatch, tmp_path):
    """A virtual display with a window manager; $DISPLAY names it and $FRAMEBUFFER the file that holds its pixels."""
    for program in ("Xvfb", "xdotool", "openbox", "wmctrl"):
        if not shutil.which(program):
            pytest.skip(f"needs {program} for a real window: apt install xvfb xdotool openbox wmctrl")
    folder = tmp_path / "display"
    folder.mkdir()
    read, write = os.pipe()
    server = subprocess.Popen(["Xvfb", "-noreset", "-displayfd", str(write), "-screen", "0", "1280x800x24", "-fbdir",
                               str(folder)], pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        monkeypatch.setenv("DISPLAY", f":{answer.readline().strip()}")
    monkeypatch.setenv("FRAMEBUFFER", str(folder / "Xvfb_screen0"))
    manager = subprocess.Popen(["openbox"], stderr=subprocess.DEVNULL)
    while subprocess.run(["wmctrl", "-m"], capture_output=True).returncode:
        assert manager.poll() is None
    yield
    manager.terminate()
    server.terminate()
    manager.wait()
    server.wait()


def screenshot():
    """What the virtual display shows, uint8 BGR (h, w, 3), from the XWD file that Xvfb keeps it in."""
    data = Path(os.environ["FRAMEBUFFER"]).read_bytes()
    header = np.frombuffer(data[:100], ">u4")
    width, height, bytes_per_line = header[4], header[5], header[12]
    pixels = np.frombuffer(data, np.uint8, offset=header[0] + 12 * header[19])[:height * bytes_per_line]
    return pixels.reshape(height, -1, 4)[:, :width, :3]


def kill(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # it and those that it has started
    process.wait()


@pytest.fixture
def dask(tmp_path, monkeypatch):
    """The address of a Dask cluster, and a function that starts its scheduler or a worker in a process of its own."""
    pytest.importorskip("distributed", reason="pip install -r requirements-cluster.txt")
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
    folder, processes = tmp_path / "cluster", []
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    address = f"tcp://{host}:{port}"

    def start(kind):
        words = {"scheduler": ["--host", host, "--port", str(port)],
                 "worker": [address, "--nthreads", "1", "--memory-limit", "450MB"]}[kind]
        processes.append(subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{kind}", *words,
                                           "--no-dashboard"], cwd=folder, start_new_session=True))
        while kind == "scheduler":
            with contextlib.suppress(OSError), socket.create_connection((host, port)):
                break
        return processes[-1]

    yield address, start
    for process in processes:
        kill(process)
