"""Each script that writes is killed at 50 random moments, and before each move of a file into its place."""
import contextlib
import csv
import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

from confmatrix import load_predictions
from preprocessing import read_stamp, save_arrays, strangers
from recognise_image import load_recogniser
from recognise_video import open_video
from saved_model import STAMP, save_model
from train_model import build_network, load_dataset, read_checkpoint

import cv2
import numpy as np
import pytest
from conftest import ROOT, csv_text, write_video

KILLS = 50  # at random moments, of each script


@contextlib.contextmanager
def killable(*modules):
    """Yield run(arguments, cwd, seconds=None, moves=None), which runs a script until it is killed: status, seconds."""
    server = subprocess.Popen([sys.executable, str(ROOT / "tests/killable.py"), *modules], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    import threading
    threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
    assert server.stdout.readline() == "ready\n"

    def run(arguments, cwd, seconds=None, moves=None):
        task = {"arguments": list(map(str, arguments)), "cwd": str(cwd), "seconds": seconds, "moves": moves}
        server.stdin.write(json.dumps(task) + "\n")
        server.stdin.flush()
        status, lived = server.stdout.readline().split()
        return int(status), float(lived)

    try:
        yield run
    finally:
        server.kill()
        server.wait()


def kill_again_and_again(run, arguments, cwd, check, kills=KILLS):
    """Kill the script at random moments and before each of its moves; check() after each must find nothing torn.

    `arguments` is called for each run. Prints how often it was killed: pytest -s shows it.
    """
    status, life = run(arguments(), cwd)
    assert status == 0
    check()
    moments = random.Random(0)
    killed = runs = 0
    while killed < kills:
        runs += 1
        assert runs < 2 * kills
        status, _ = run(arguments(), cwd, seconds=moments.uniform(0.001, life))
        assert status in (0, -9)  # now and then it is over before its time
        killed += status == -9
        check()
    for moves in range(1, 100):
        status, _ = run(arguments(), cwd, moves=moves)
        check()
        if status == 0:
            break
        assert status == -9
    assert moves > 1
    status, _ = run(arguments(), cwd)  # and it runs as if nothing had happened
    assert status == 0
    check()
    assert not list(Path(cwd).rglob(".[0-9]*-*"))  # what was begun is cleared away
    print(f"killed at {killed} random moments and before {moves - 1} moves")


def fingerprint(*paths):
    return tuple(hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None for path in paths)


def alternately(*choices):
    """A function that gives one after the other, so that each run writes something else than the one before."""
    turn = 0

    def choose():
        nonlocal turn
        turn += 1
        return choices[turn % len(choices)]

    return choose


def test_preprocessing(small_set, tmp_path):
    faces, labels, usage = small_set
    sets = {"a": small_set, "b": (255 - faces[:63], 6 - labels[:63], usage[:63])}
    for name, content in sets.items():
        (tmp_path / f"{name}.csv").write_text(csv_text(*content))
    choose = alternately("a", "b")
    seen = set()

    def check():
        data = load_dataset(tmp_path / "data")  # whole, or an InputError
        [which] = [name for name, (faces, labels, usage) in sets.items()
                   if len(data[0]) == len(faces) and (data[0] == faces).all()
                   and (data[1].argmax(axis=1) == labels).all() and (data[2] == usage).all()]
        seen.add(which)
        for name in ("samples.png", "dataset_distribution.png"):
            if (tmp_path / "data" / name).exists():
                assert cv2.imread(str(tmp_path / "data" / name)) is not None

    with killable("preprocessing", "pandas", "matplotlib.backends.backend_agg", "matplotlib.figure") as run:
        kill_again_and_again(run, lambda: [tmp_path / f"{choose()}.csv", "--data", tmp_path / "data"], tmp_path, check)
    assert seen == {"a", "b"}


@pytest.fixture(scope="module")
def data(small_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    faces, labels, usage = small_set
    save_arrays({folder / "fdataX.npy": faces, folder / "flabels.npy": np.eye(7, dtype=np.uint8)[labels],
                 folder / "fusage.npy": usage})
    return folder


def test_train_model(data, tmp_path):
    models = tmp_path / "models"
    names = ["model.json", "model.weights.h5", "architecture.png", "model.tflite", "history.csv", "training_curves.png"]
    seeds = iter(range(1000))
    seen = []

    def check():
        assert list(read_stamp(models / STAMP)) == names
        assert not strangers(models / STAMP)
        mark = fingerprint(*(models / name for name in names))
        assert None not in mark
        if not seen or mark != seen[-1]:
            if seen:
                for one in (1, 3, 4, 5):  # all but the layers differ: nothing is left of the run before
                    assert mark[one] != seen[-1][one]
            seen.append(mark)
            load_recogniser(models)
        if (models / "checkpoint.weights.h5").exists():
            settings, history = read_checkpoint(models / "checkpoint.weights.h5")
            assert settings["epochs"] == 2 and len(history) in (1, 2)
        load_dataset(data)
        assert not strangers(data / "modXtest.sha256")

    with killable("train_model", "keras", "tensorflow", "pandas", "tqdm", "matplotlib.backends.backend_agg") as run:
        kill_again_and_again(
            run, lambda: ["--data", data, "--models", models, "--epochs", 2, "--batch-size", 28, "--seed", next(seeds)],
            tmp_path, check)
    assert len(seen) > 3


def test_test_model(data, tmp_path):
    for name in ("a", "b"):
        save_model(build_network(), tmp_path / name)
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    choose = alternately("a", "b")
    paths = [copy / name for name in ("truey.npy", "predy.npy", "predp.npy")]
    seen = set()

    def check():
        load_predictions(copy)
        assert not strangers(copy / "truey.sha256")
        probabilities = np.load(paths[2])
        np.testing.assert_array_equal(np.load(paths[1]), probabilities.argmax(axis=1))
        seen.add(fingerprint(*paths))

    with killable("test_model", "keras", "tensorflow", "tqdm", "pandas", "sklearn.metrics",
                  "matplotlib.backends.backend_agg") as run:
        kill_again_and_again(run, lambda: ["--data", copy, "--models", tmp_path / choose()], tmp_path, check)
    assert len(seen) == 2


def test_confmatrix(tmp_path):
    choose = alternately(0, 3)
    seen = set()

    def arguments():
        np.save(tmp_path / "truey.npy", np.full(5, 3))
        np.save(tmp_path / "predy.npy", np.full(5, choose()))
        return ["--data", tmp_path]

    def check():
        picture = cv2.imread(str(tmp_path / "confusion_matrix.png"))
        assert picture.shape == (700, 1500, 3)
        seen.add(picture.tobytes())

    with killable("confmatrix", "pandas", "sklearn.metrics", "matplotlib.backends.backend_agg") as run:
        kill_again_and_again(run, arguments, tmp_path, check)
    assert len(seen) == 2


def whole_or_old(path, is_whole):
    """Check that a file is the old one, which says so, or one that is whole; put the old one back."""
    if path.read_bytes() != b"old":
        assert is_whole(path)
        path.write_bytes(b"old")
        return 1
    return 0


def rows_of(path):
    return list(csv.reader(path.open(newline="")))


def frames_of(path):
    with open_video(path) as video:
        return sum(1 for _ in video.decode(video=0))


def test_recognise_image(portrait, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"pictures/{number}.jpg"), cv2.resize(portrait[0], (256, 300)))
    outputs = [tmp_path / f"output_pictures/{number}.jpg" for number in range(5)]
    outputs[0].parent.mkdir()
    for path in (*outputs, tmp_path / "rows.csv", tmp_path / "rows.json"):
        path.write_bytes(b"old")
    new = 0

    def check():
        nonlocal new
        new += sum(whole_or_old(path, lambda path: cv2.imread(str(path)).shape == (300, 256, 3)
                                and path.read_bytes().endswith(b"\xff\xd9")) for path in outputs)
        new += whole_or_old(tmp_path / "rows.csv", lambda path: len(rows_of(path)) == 6 and len(rows_of(path)[5]) == 15)
        new += whole_or_old(tmp_path / "rows.json", lambda path: len(json.loads(path.read_text())) == 5)

    with killable("recognise_image", "tqdm") as run:
        kill_again_and_again(run, lambda: ["pictures", "--csv", "rows.csv", "--json", "rows.json"], tmp_path, check)
    assert new > 50


@pytest.fixture
def clip(portrait, tmp_path):
    """Twenty frames, 0.8 seconds, of a face."""
    picture = cv2.resize(portrait[0], (256, 300))
    return write_video(tmp_path / "clip.mp4", [picture] * 20)


def test_recognise_video(clip, tmp_path):
    for name in ("out.mp4", "rows.csv", "plot.png"):
        (tmp_path / name).write_bytes(b"old")
    new = 0

    def check():
        nonlocal new
        new += whole_or_old(tmp_path / "out.mp4", lambda path: frames_of(path) == 20)
        new += whole_or_old(tmp_path / "rows.csv", lambda path: len(rows_of(path)) == 21)
        new += whole_or_old(tmp_path / "plot.png", lambda path: cv2.imread(str(path)).shape[1] == 1400)

    with killable("recognise_video", "av", "tqdm", "matplotlib.backends.backend_agg", "matplotlib.figure") as run:
        kill_again_and_again(run, lambda: [clip, "--output", "out.mp4", "--csv", "rows.csv", "--plot", "plot.png"],
                             tmp_path, check)
    assert new >= 6


def test_webcam_live(clip, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("out.mp4", "rows.csv"):
        (tmp_path / name).write_bytes(b"old")
    new = 0

    def check():
        nonlocal new
        new += whole_or_old(tmp_path / "out.mp4", lambda path: 1 <= frames_of(path) <= 20)
        new += whole_or_old(tmp_path / "rows.csv", lambda path: all(len(row) == 16 for row in rows_of(path)))

    with killable("webcam_live", "av", "tqdm") as run:
        kill_again_and_again(run, lambda: [clip, "--record", "out.mp4", "--csv", "rows.csv"], tmp_path, check)
    assert new >= 4


def test_image_from_camera(clip, tmp_path):
    for name in ("taken.png", "output_taken.png"):
        (tmp_path / name).write_bytes(b"old")
    new = 0

    def check():
        nonlocal new
        for name in ("taken.png", "output_taken.png"):
            new += whole_or_old(tmp_path / name, lambda path: cv2.imread(str(path)).shape == (300, 256, 3)
                                and path.read_bytes().endswith(b"IEND\xaeB`\x82"))

    with killable("image_from_camera", "av") as run:
        kill_again_and_again(run, lambda: [clip, "--now", "--output", "taken.png"], tmp_path, check)
    assert new >= 4
