import csv
import io

import av
import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, assert_refused, run_script


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
    process = run_script("image_from_camera.py", camera, "--output", "me.png", cwd=tmp_path, env=NO_DISPLAY)
    assert process.returncode == 0, process.stderr
    taken, drawn = cv2.imread(str(tmp_path / "me.png")), cv2.imread(str(tmp_path / "output_me.png"))
    assert np.abs(taken.astype(int) - portrait[0]).mean() < 1
    [row] = csv.reader(io.StringIO(process.stdout))
    assert row[:2] == ["me.png", "1"] and abs(int(row[2]) + int(row[4]) / 2 - 268) < 20
    assert 1000 < (np.abs(drawn.astype(int) - taken).max(axis=2) > 60).sum() < 30000


def test_each_picture_gets_a_name_of_its_own_and_the_source_is_kept(camera, tmp_path):
    before = camera.read_bytes()
    assert run_script("image_from_camera.py", camera, "--show", cwd=tmp_path, env=NO_DISPLAY).returncode == 0
    assert sorted(path.name[:15] for path in tmp_path.glob("*.jpg")) == sorted(
        [path.name[:15] for path in tmp_path.glob("camera_2*.jpg")] + ["output_camera_2"])
    assert_refused(run_script("image_from_camera.py", camera, "--output", "me.txt", cwd=tmp_path), "me.txt")
    assert camera.read_bytes() == before
