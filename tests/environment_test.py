import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

from preprocessing import PRIVATE_TEST
from recognise_image import load_recogniser

import av
import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, assert_refused, run_script, write_video

ODD = "Gesichter & Ausdrücke 表情"  # blanks, a sign that shells obey, letters that one or no code page has
SCRIPTS = ("preprocessing.py", "saved_model.py", "train_model.py", "test_model.py", "confmatrix.py", "tables.py",
           "workers.py", "recognise_image.py", "recognise_video.py", "webcam_live.py", "image_from_camera.py")
FRAMES = 25  # of the clip: a second, as webcam_live.py plays it at its own pace
CONFIGURED = ("KERAS_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")  # what would stand in for HOME


def copy_project(folder):
    """A copy of what a user has: the scripts and the model, no data."""
    shutil.copytree(ROOT / "models", folder / "models")
    for name in SCRIPTS:
        shutil.copy(ROOT / name, folder)
    return folder


def call(inside, script, *arguments, cwd, env=None):
    """Run a script, by its path, within the command `inside`, unshare for one; the finished process with its text."""
    bare = {name: value for name, value in os.environ.items() if name not in CONFIGURED}
    return subprocess.run([*inside, sys.executable, str(script), *map(str, arguments)], cwd=cwd, capture_output=True,
                          env={**bare, **NO_DISPLAY, **(env or {})}, text=True, timeout=600)


def run_chain(project, source, data, models, inside=(), **how):
    """The four scripts on a small CSV, an epoch of training; what the last one printed."""
    for script, *arguments in (("preprocessing.py", source), ("train_model.py", "--models", models, "--epochs", 1),
                               ("test_model.py", "--models", models), ("confmatrix.py",)):
        process = call(inside, project / script, *arguments, "--data", data, **how)
        assert process.returncode == 0, process.stderr
    return process.stdout


def assert_chain(small_set, data, models, said):
    """Each step has written what it should, as far as other code can tell."""
    faces, labels, usage = small_set
    test = usage == PRIVATE_TEST
    np.testing.assert_array_equal(np.load(data / "fdataX.npy"), faces)
    np.testing.assert_array_equal(np.load(data / "flabels.npy").argmax(axis=1), labels)
    np.testing.assert_array_equal(np.load(data / "fusage.npy"), usage)
    np.testing.assert_array_equal(np.load(data / "modXtest.npy"), faces[test])
    truey, predy, predp = (np.load(data / name) for name in ("truey.npy", "predy.npy", "predp.npy"))
    np.testing.assert_array_equal(truey, labels[test])
    np.testing.assert_array_equal(predy, predp.argmax(axis=1))
    np.testing.assert_allclose(load_recogniser(models)(faces[test]), predp, atol=1e-3)  # OpenCV and Keras agree
    assert len(list(csv.reader(open(models / "history.csv", newline="")))) == 2
    for path in (data / "dataset_distribution.png", data / "samples.png", data / "confusion_matrix.png",
                 models / "training_curves.png"):
        assert picture_size(path) > (400, 600)
    assert f"{(truey == predy).sum()} of 7 faces recognised" in said


def recognise_all(project, portrait, clip, outputs, inside=(), **how):
    """All four scripts that recognise, their outputs in a new folder; the rows, all but the files' names.

    Of webcam_live.py, which looks when it has time, those of one picture may be there more or less often.
    """
    outputs.mkdir()
    rows = {}
    for name, script, *arguments in (
            ("picture", "recognise_image.py", portrait, "--output", outputs / portrait.name),
            ("video", "recognise_video.py", clip, "--output", outputs / clip.name, "--plot",
             outputs / f"{clip.stem}.png"),
            ("live", "webcam_live.py", clip, "--record", outputs / f"live {clip.name}")):
        table = outputs / f"{clip.stem} {name}.csv"
        process = call(inside, project / script, *arguments, "--csv", table, **how)
        assert process.returncode == 0, process.stderr
        rows[name] = list(csv.reader(open(table, newline="", encoding="utf-8")))[1:]
    for row in rows["picture"]:
        assert row.pop(0) == str(portrait)
    process = call(inside, project / "image_from_camera.py", clip, "--now", "--output", outputs / "me.png", **how)
    assert process.returncode == 0, process.stderr
    rows["camera"] = [row[1:] for row in csv.reader(process.stdout.splitlines())]
    for name in (portrait.name, f"{clip.stem}.png", "me.png", "output_me.png"):
        assert picture_size(outputs / name) >= (240, 200)
    assert frame_count(outputs / clip.name) == FRAMES
    assert 5 < frame_count(outputs / f"live {clip.name}") <= FRAMES
    return rows


def assert_same(rows, expected):
    for name in ("picture", "video", "camera"):
        assert rows[name] == expected[name]
    assert rows["live"] and {row[2] for row in rows["live"]} == {"1"}
    for one, other in zip(rows["live"], expected["live"]):  # a face that stands still
        np.testing.assert_allclose(np.array(one[3:7], int), np.array(other[3:7], int), atol=12)


def picture_size(path):
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR).shape[:2]


def frame_count(path):
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


@pytest.fixture(scope="module")
def seen(portrait, tmp_path_factory):
    """A picture, a clip of it and what all scripts make of them where nothing is odd."""
    folder = tmp_path_factory.mktemp("ordinary")
    picture, clip = folder / "portrait.png", folder / "clip.mp4"
    small = cv2.resize(portrait[0], (204, 240), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(picture), small)
    write_video(clip, [small] * FRAMES)
    rows = recognise_all(ROOT, picture, clip, folder / "outputs", cwd=folder)
    assert [len(rows[name]) for name in ("picture", "video", "camera")] == [1, FRAMES, 1]
    return picture, clip, rows


def test_blanks_and_letters_of_all_kinds_in_every_path(small_set, small_csv, seen, tmp_path):
    picture, clip, rows = seen
    place = tmp_path / ODD
    project, here = copy_project(place / f"Projekt {ODD}"), place / f"hier {ODD}"
    here.mkdir()
    how = {"cwd": here, "env": {"HOME": str(here), "TMPDIR": str(here)}}
    said = run_chain(project, small_csv.rename(place / f"{ODD}.csv"), Path("..") / f"Daten {ODD}",
                     Path(f"Modell {ODD}"), **how)  # relative to the current folder
    assert_chain(small_set, place / f"Daten {ODD}", here / f"Modell {ODD}", said)

    odd_picture, odd_clip = shutil.copy(picture, place / f"{ODD}.png"), shutil.copy(clip, place / f"{ODD}.mp4")
    assert_same(recognise_all(project, odd_picture, odd_clip, place / f"Ausgaben {ODD}", **how), rows)
    process = call((), project / "recognise_image.py", odd_picture, "--models", f"Modell {ODD}", "--keras", **how)
    assert process.returncode == 0 and process.stdout.startswith(str(odd_picture)), process.stderr
    assert (here / f"output_{ODD}.png").is_file()


@pytest.fixture
def read_only(tmp_path):
    """A folder to make read-only: a function that does so and gives the command within which it is, for root, too."""
    folder = tmp_path / "read-only"

    def lock():
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        inside = ()
        if os.access(folder, os.W_OK):  # root heeds no modes, as long as it has its capabilities
            inside = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
            if not shutil.which("setpriv"):
                pytest.skip("needs setpriv (Debian package util-linux), or a user other than root")
        attempt = [*inside, sys.executable, "-c", "import sys; open(sys.argv[1], 'w')", str(folder / "attempt")]
        if b"PermissionError" not in subprocess.run(attempt, capture_output=True).stderr:
            pytest.skip("needs a system on which a folder can be made read-only")
        return inside

    yield folder, lock
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


def test_the_project_and_the_home_may_be_read_only(small_set, small_csv, seen, read_only, tmp_path):
    picture, clip, rows = seen
    folder, lock = read_only
    project, home = copy_project(folder / "project"), folder / "home"
    home.mkdir()
    inside, before = lock(), contents(folder)
    how = {"inside": inside, "cwd": tmp_path, "env": {"HOME": str(home)}}
    assert_same(recognise_all(project, picture, clip, tmp_path / "outputs", **how), rows)
    said = run_chain(project, small_csv, tmp_path / "data", tmp_path / "models", **how)
    assert_chain(small_set, tmp_path / "data", tmp_path / "models", said)
    assert_refused(call(inside, project / "preprocessing.py", small_csv, cwd=tmp_path), project / "data")
    assert contents(folder) == before


WATCHER = """import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        with open(os.environ["ATTEMPTS"], "a") as file:
            print(sys.argv, event, arguments, file=file)

sys.addaudithook(watch)
"""


@pytest.fixture
def no_network(tmp_path):
    """The command within which there is no network, an environment that tells, and the file of what was tried."""
    inside = ["unshare", "--user", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("needs unshare (Debian package util-linux) and the right to make a network namespace")
    watcher, attempts = tmp_path / "watcher", tmp_path / "attempts.txt"
    watcher.mkdir()
    (watcher / "sitecustomize.py").write_text(WATCHER)
    env = {"PYTHONPATH": str(watcher), "ATTEMPTS": str(attempts)}
    attempt = "import socket; socket.create_connection(('192.0.2.1', 80))"
    failed = subprocess.run([*inside, sys.executable, "-c", attempt], env={**os.environ, **env}, capture_output=True)
    assert b"unreachable" in failed.stderr and "192.0.2.1" in attempts.read_text()  # so it would be noticed
    attempts.unlink()
    return inside, env, attempts


def test_nothing_needs_or_tries_the_network(small_set, small_csv, seen, no_network, tmp_path):
    picture, clip, rows = seen
    inside, env, attempts = no_network
    home = tmp_path / "home"  # empty: nothing that was downloaded before
    home.mkdir()
    how = {"inside": inside, "cwd": tmp_path, "env": {**env, "HOME": str(home)}}
    assert_same(recognise_all(ROOT, picture, clip, tmp_path / "outputs", **how), rows)
    said = run_chain(ROOT, small_csv, tmp_path / "data", tmp_path / "models", **how)
    assert_chain(small_set, tmp_path / "data", tmp_path / "models", said)
    assert not attempts.exists(), attempts.read_text()


@pytest.mark.parametrize("env", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C"},
                                 {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
                         ids=["ascii", "C", "C without UTF-8"])
def test_a_terminal_that_lacks_the_letters_gets_the_rows_all_the_same(seen, small_csv, tmp_path, env):
    picture, clip, rows = seen
    portrait, film = shutil.copy(picture, tmp_path / f"{ODD}.png"), shutil.copy(clip, tmp_path / f"{ODD}.mp4")
    process = call((), ROOT / "recognise_image.py", portrait.name, "--csv", f"{ODD}.csv", cwd=tmp_path, env=env)
    assert process.returncode == 0, process.stderr
    [row] = csv.reader(process.stdout.splitlines())
    assert row[0].startswith("Gesichter & Ausdr") and row[0].endswith(".png") and row[1:] == rows["picture"][0][:7]
    assert row[0].isascii() or row[0] == portrait.name
    [_, kept] = csv.reader(open(tmp_path / f"{ODD}.csv", newline="", encoding="utf-8"))
    assert kept[1:] == rows["picture"][0]
    assert picture_size(tmp_path / f"output_{ODD}.png") == (240, 204)

    process = call((), ROOT / "image_from_camera.py", film.name, "--now", "--output", f"ü{ODD}.png", cwd=tmp_path,
                   env=env)
    assert process.returncode == 0, process.stderr
    assert [row[1:] for row in csv.reader(process.stdout.splitlines())] == rows["camera"]
    process = call((), ROOT / "recognise_video.py", film.name, "--csv", "-", cwd=tmp_path, env=env)
    assert process.returncode == 0, process.stderr
    assert list(csv.reader(process.stdout.splitlines()))[1:] == rows["video"]
    assert frame_count(tmp_path / f"{ODD}_recognised.mp4") == FRAMES
    process = call((), ROOT / "preprocessing.py", small_csv, "--data", ODD, cwd=tmp_path, env=env)
    assert process.returncode == 0 and "(70 faces)" in process.stdout, process.stderr
    assert (tmp_path / ODD / "fdataX.npy").is_file()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere names are letters, not bytes")
def test_a_name_that_is_no_utf8_is_no_reason_to_crash(seen, tmp_path):
    picture, clip, rows = seen
    name = os.fsdecode(b"Ausdr\xfccke")
    portrait, film = shutil.copy(picture, tmp_path / f"{name}.png"), shutil.copy(clip, tmp_path / f"{name}.mp4")
    process = run_script("recognise_image.py", portrait, "--csv", f"{name}.csv", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert [row[1:] for row in csv.reader(process.stdout.splitlines())] == [rows["picture"][0][:7]]
    assert picture_size(tmp_path / f"output_{name}.png") == (240, 204)
    process = run_script("image_from_camera.py", film, "--now", "--output", f"{name}.jpg", "--show", cwd=tmp_path,
                         env=NO_DISPLAY)
    assert process.returncode == 0 and len(process.stdout.splitlines()) == 1, process.stderr
    process = run_script("webcam_live.py", film, "--record", f"live {name}.mp4", cwd=tmp_path, env=NO_DISPLAY)
    assert process.returncode == 0 and frame_count(tmp_path / f"live {name}.mp4") > 5, process.stderr


def test_recognition_alone_needs_the_same_versions():
    small, whole = ([line for line in (ROOT / name).read_text("utf-8").splitlines() if not line.startswith("#")]
                    for name in ("requirements-recognise.txt", "requirements.txt"))
    assert len(small) == 4 and set(small) < set(whole)
