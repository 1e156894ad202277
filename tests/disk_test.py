"""A full disk, a folder that cannot be written to: one sentence, and what was there before is still there."""
import contextlib
import os
import shutil
import subprocess
import sys

from preprocessing import save_arrays
from saved_model import save_model
from train_model import build_network

import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, assert_refused, csv_text, run_script, write_video


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a disk of so many kilobytes, and the folder it makes; remount(read_only) changes it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)],
                              capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
        return folder

    if not shutil.which("mount"):
        pytest.skip("needs the command mount for a small disk")
    yield mount
    subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(folder, leave):
    """Fill a disk until `leave` bytes are free."""
    free = shutil.disk_usage(folder).free
    (folder / "filling").write_bytes(bytes(max(0, free - leave)))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_arrays(small_set, folder):
    faces, labels, usage = small_set
    save_arrays({folder / "fdataX.npy": faces, folder / "flabels.npy": np.eye(7, dtype=np.uint8)[labels],
                 folder / "fusage.npy": usage})


@pytest.fixture
def clip(portrait, tmp_path):
    picture = cv2.resize(portrait[0], (256, 300))
    return write_video(tmp_path / "clip.mp4", [cv2.add(picture, (shade,) * 4) for shade in range(25)])


SCRIPTS = ["preprocessing", "train_model", "train_model_at_its_end", "test_model", "confmatrix", "recognise_image",
           "recognise_image_csv", "recognise_video", "recognise_video_csv", "webcam_live", "image_from_camera"]


@pytest.fixture
def command(small_set, clip, portrait, shipped, tmp_path):
    """A function of a script and a disk: what it needs is put there and elsewhere; how it is called."""
    def prepare(script, disk):
        if script == "preprocessing":
            (tmp_path / "fer2013.csv").write_text(csv_text(*small_set))
            return "preprocessing.py", tmp_path / "fer2013.csv", "--data", disk
        if script.startswith("train_model"):
            write_arrays(small_set, tmp_path / "data")
            return ("train_model.py", "--data", tmp_path / "data", "--models", disk, "--epochs", 1, "--batch-size", 28)
        if script == "test_model":
            write_arrays(small_set, disk)
            save_model(build_network(), tmp_path / "models")
            assert not run_script("test_model.py", "--data", disk, "--models", tmp_path / "models").returncode
            save_model(build_network(), tmp_path / "models")
            return "test_model.py", "--data", disk, "--models", tmp_path / "models"
        if script == "confmatrix":
            np.save(disk / "truey.npy", np.array([0, 1, 2]))
            np.save(disk / "predy.npy", np.array([0, 1, 3]))
            return "confmatrix.py", "--data", disk
        if script == "recognise_image":
            return "recognise_image.py", portrait[1], "--output", disk / "out.png"
        if script == "recognise_image_csv":
            return "recognise_image.py", *[portrait[1]] * 40, "--no-pictures", "--csv", disk / "rows.csv"
        if script == "recognise_video":
            return "recognise_video.py", clip, "--output", disk / "out.mp4"
        if script == "recognise_video_csv":
            return "recognise_video.py", clip, "--output", tmp_path / "out.mp4", "--csv", disk / "rows.csv"
        if script == "webcam_live":
            return "webcam_live.py", clip, "--record", disk / "out.mp4"
        return "image_from_camera.py", clip, "--now", "--output", disk / "taken.png"

    return prepare


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_full_disk_is_said_and_leaves_what_was_there(script, command, small_disk):
    disk = small_disk("size=12m")
    name, *arguments = command(script, disk)
    for old in ("out.png", "out.mp4", "rows.csv", "taken.png", "output_taken.png", "model.json", "fdataX.npy",
                "confusion_matrix.png"):
        if not (disk / old).exists():
            (disk / old).write_bytes(b"old")
    fill(disk, {"train_model_at_its_end": 9_500_000, "preprocessing": 100_000}.get(script, 0))
    before = contents(disk)
    process = run_script(name, *arguments, env=NO_DISPLAY)
    sentence = assert_refused(process, disk, "No space left on device")
    assert "make room" in sentence or "check the path and the disk" in sentence
    after = contents(disk)
    after.pop("checkpoint.weights.h5", None)
    assert {path: content for path, content in after.items() if path in before} == before
    assert not list(disk.glob(".*"))


@pytest.mark.parametrize("script", [script for script in SCRIPTS if not script.endswith("end")])
def test_a_read_only_disk_is_said(script, command, small_disk):
    disk = small_disk("size=12m")
    name, *arguments = command(script, disk)
    before = contents(disk)
    small_disk("remount", "ro")
    assert_refused(run_script(name, *arguments, env=NO_DISPLAY), disk, "Read-only file system")
    assert contents(disk) == before


@contextlib.contextmanager
def as_nobody(folder):
    """The command's beginning that runs it as somebody without rights to a folder."""
    if os.getuid():
        folder.chmod(0o500)
        yield []
        folder.chmod(0o700)
    elif shutil.which("setpriv"):
        yield ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    else:
        pytest.skip("needs the command setpriv to run as somebody else than root")


@pytest.mark.parametrize("script", ["recognise_image", "recognise_video", "confmatrix"])
def test_a_folder_without_permission_is_said(script, command, tmp_path):
    for folder in (tmp_path, *tmp_path.parents[:2]):  # the way there is open, but for writing
        folder.chmod(0o755)
    disk = tmp_path / "theirs"
    disk.mkdir(mode=0o755)
    name, *arguments = command(script, disk)
    before = contents(disk)
    with as_nobody(disk) as beginning:
        if beginning and subprocess.run([*beginning, sys.executable, "-c", f"import cv2; open({str(ROOT / name)!r})"],
                                        capture_output=True).returncode:
            pytest.skip("the project or its packages are in a folder that others cannot read")
        process = subprocess.run([*beginning, sys.executable, str(ROOT / name), *map(str, arguments)], cwd=tmp_path,
                                 capture_output=True, text=True, env={**os.environ, **NO_DISPLAY})
    assert_refused(process, disk, "Permission denied")
    assert contents(disk) == before


def test_a_full_standard_output_is_said(portrait, tmp_path):
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, str(ROOT / "recognise_image.py"), str(portrait[1])], cwd=tmp_path,
                                 stdout=full, stderr=subprocess.PIPE, text=True)
    assert_refused(process, "standard output", "No space left on device")


def test_a_folder_in_place_of_a_file_is_said(portrait, tmp_path):
    (tmp_path / "rows.csv").mkdir()
    assert_refused(run_script("recognise_image.py", portrait[1], "--csv", tmp_path / "rows.csv", cwd=tmp_path),
                   tmp_path / "rows.csv", "is a folder")
