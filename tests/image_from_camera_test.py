import csv
import io
import os
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, assert_refused, press, run_script, screenshot, wait_for_window


@pytest.fixture
def camera(portrait, tmp_path):
    """A video that is dark at first, as from a camera whose exposure settles, and then shows the portrait."""
    path = tmp_path / "camera.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 512, 600, "bgr0"
        for number in range(40):
            frame = portrait[0] if number >= 25 else portrait[0] // 8
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    return path


def test_it_takes_the_picture_after_the_camera_has_settled(camera, portrait, tmp_path):
    process = run_script("image_from_camera.py", camera, "--now", "--output", "me.png", cwd=tmp_path, env=NO_DISPLAY)
    assert process.returncode == 0, process.stderr
    taken, drawn = cv2.imread(str(tmp_path / "me.png")), cv2.imread(str(tmp_path / "output_me.png"))
    assert np.abs(taken.astype(int) - portrait[0]).mean() < 1
    [row] = csv.reader(io.StringIO(process.stdout))
    assert row[:2] == ["me.png", "1"] and abs(int(row[2]) + int(row[4]) / 2 - 268) < 20
    assert 1000 < (np.abs(drawn.astype(int) - taken).max(axis=2) > 60).sum() < 30000


@pytest.mark.parametrize("key", [None, "space", "q"])
def test_a_window_counts_down_and_takes_the_picture(portrait, tmp_path, display, key):
    path = tmp_path / "camera.mkv"
    with av.open(str(path), "w") as file:  # the top left corner tells the tenth of a second
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 512, 600, "bgr0"
        for number in range(200):
            frame = portrait[0].copy()
            frame[:20, :20] = number
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    command = [sys.executable, str(ROOT / "image_from_camera.py"), str(path), "--output", "me.png", "--countdown", "8"]
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **display}, stderr=subprocess.PIPE, text=True)
    window = wait_for_window(display, "space takes")
    shown = screenshot(display)[:600, :512]
    found = cv2.matchTemplate(shown, portrait[0][150:300, ::-1][:, 160:330], cv2.TM_CCOEFF_NORMED)
    assert found.max() > 0.9  # her face, mirrored
    number = shown[20:160, 200:312]
    assert (number > 240).all(axis=2).mean() > 0.05 and (number < 15).all(axis=2).mean() > 0.05  # white, edged in black
    if key:
        press(display, window, key)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "Traceback" not in message, message
    if key == "q":
        assert "no picture was taken" in message and [path.name for path in tmp_path.glob("*.png")] == []
        return
    taken = cv2.imread(str(tmp_path / "me.png"))
    assert np.abs(taken[20:].astype(int) - portrait[0][20:]).mean() < 1  # not mirrored
    moment = taken[:20, :20].mean() / 10  # seconds
    assert (7.5 < moment < 10) if key is None else (0.5 < moment < 7.5)


def test_each_picture_gets_a_name_of_its_own_and_the_source_is_kept(camera, tmp_path):
    before = camera.read_bytes()
    assert run_script("image_from_camera.py", camera, "--show", cwd=tmp_path, env=NO_DISPLAY).returncode == 0
    assert sorted(path.name[:15] for path in tmp_path.glob("*.jpg")) == sorted(
        [path.name[:15] for path in tmp_path.glob("camera_2*.jpg")] + ["output_camera_2"])
    assert_refused(run_script("image_from_camera.py", camera, "--output", "me.txt", cwd=tmp_path), "me.txt")
    assert camera.read_bytes() == before
