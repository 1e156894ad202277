"""image_from_camera.py: the picture after the camera has settled, or at the end of a countdown in a real window."""
import csv
import io

import cv2
import numpy as np
import pytest
from conftest import run_script, write_video
from windows import ScriptInWindow

import image_from_camera
from expressions.console import InputError


@pytest.fixture
def dark_at_first(portrait, tmp_path, monkeypatch):
    """A video in the current folder that is dark at first, as from a camera whose exposure settles."""
    monkeypatch.chdir(tmp_path)
    return write_video(tmp_path / "camera.mp4", [portrait[0] // 8] * 25 + [portrait[0]] * 15)


def test_the_picture_is_taken_after_the_camera_has_settled(dark_at_first, portrait, tmp_path, capsys):
    image_from_camera.main([str(dark_at_first), "--now", "--output", "me.png", "--table", "me.csv"])
    taken, drawn = cv2.imread("me.png"), cv2.imread("output_me.png")
    assert np.abs(taken.astype(int) - portrait[0]).mean() < 8
    assert 1000 < (np.abs(drawn.astype(int) - taken).max(axis=2) > 60).sum() < 30000
    output = capsys.readouterr()
    [row] = csv.reader(io.StringIO(output.out))
    assert row[:2] == ["me.png", "1"] and abs(int(row[2]) + int(row[4]) / 2 - 268) < 20 and len(row) == 8
    assert [cells[:8] for cells in csv.reader((tmp_path / "me.csv").open())][1:] == [row]
    assert "wrote me.png and output_me.png: 1 face" in output.err


def test_without_a_display_each_picture_gets_a_name_of_its_own(dark_at_first, tmp_path, no_display, capsys):
    for _ in range(2):
        image_from_camera.main([str(dark_at_first), "--show"])
    assert "no display for a preview" in capsys.readouterr().err
    assert len(list(tmp_path.glob("camera_2*.jpg"))) == len(list(tmp_path.glob("output_camera_2*.jpg"))) == 2


def test_what_cannot_be_is_refused(dark_at_first, tmp_path, no_display):
    write_video("black.mp4", [np.zeros((64, 64, 3), np.uint8)] * 5)
    for arguments, words in ((["camera.mp4", "--output", "me.txt"], "me.txt has no ending"),
                             (["black.mp4"], r"one flat colour.*lens"), (["97"], "camera 97 does not open"),
                             (["none.mp4"], "none.mp4 does not open")):
        with pytest.raises(InputError, match=words):
            image_from_camera.main(arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["black.mp4", "camera.mp4"]


def test_a_countdown_takes_the_picture_at_its_end(portrait, tmp_path, display):
    frames = [np.concatenate([portrait[0][:540], np.full((60, 512, 3), 10 * number, np.uint8)]) for number in range(20)]
    path = write_video(tmp_path / "camera.mp4", frames, rate=10)
    process = run_script("image_from_camera.py", path, "--output", "me.png", "--countdown", "1", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    taken = cv2.imread(str(tmp_path / "me.png"))
    assert taken[550:].mean() > 10 * 9  # tenths of a second
    assert np.abs(taken[:530].astype(int) - portrait[0][:530]).mean() < 8  # not mirrored, nothing drawn


@pytest.mark.parametrize("how", ["space", "q", "X"])
def test_a_window_shows_a_mirrored_preview_with_the_seconds_left(portrait, tmp_path, display, how):
    path = write_video(tmp_path / "camera.mp4", [portrait[0]] * 200, rate=1)
    piece = portrait[0][150:300, ::-1][:, 160:330]
    script = ScriptInWindow(tmp_path, image_from_camera.TITLE, piece, (150, 160), "image_from_camera.py", path,
                            "--output", "me.png", "--countdown", "10000")

    def has_number(image):  # white, with a black edge
        number = image[20:160, :512]
        return (number > 240).all(axis=2).mean() > 0.02 and (number < 15).all(axis=2).mean() > 0.02
    script.wait_to_show(has_number)
    script.press(how)
    message = script.finish()
    if how == "space":
        assert np.abs(cv2.imread(str(tmp_path / "me.png")).astype(int) - portrait[0]).mean() < 8
    else:
        assert "no picture was taken" in message and not list(tmp_path.glob("*.png"))
