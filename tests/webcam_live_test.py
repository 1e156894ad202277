"""webcam_live.py: in a real window, without a display, and however it ends."""
import datetime
import re
import signal
import time

import cv2
import numpy as np
import pytest
from conftest import write_video
from windows import ScriptInWindow, frames_of, rows_of

import webcam_live
from expressions import camera, drawing
from expressions.console import InputError
from expressions.labels import EXPRESSIONS


def small_portrait(portrait):
    return cv2.resize(portrait[0], (256, 300), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def endless(portrait, tmp_path_factory):
    """A video of five minutes of the portrait beside a strip on the right, whose grey changes with every frame."""
    frames = np.empty((25, 300, 300, 3), np.uint8)
    frames[:] = np.arange(20, 220, 8).reshape(25, 1, 1, 1)
    frames[:, :, :256] = small_portrait(portrait)
    return write_video(tmp_path_factory.mktemp("camera") / "portrait.mp4", [*frames] * 120, rate=10)


@pytest.fixture
def short(portrait, tmp_path, monkeypatch, no_display):
    """A video of two seconds in the current folder, where there is no display."""
    monkeypatch.chdir(tmp_path)
    return write_video("short.mp4", [small_portrait(portrait)] * 50)


@pytest.fixture
def live(endless, portrait, tmp_path, display):
    """webcam_live.py in a window that shows the endless video mirrored, with a table and a recording."""
    piece = small_portrait(portrait)[75:150, 80:165][:, ::-1]
    session = ScriptInWindow(tmp_path, webcam_live.TITLE, piece, (75, 300 - 165), "webcam_live.py", endless,
                             "--table", "faces.csv", "--record", "live.mp4")
    yield session
    session.process.kill()


def strip_of(image):
    """The grey of the strip, which is on the left of the mirrored window."""
    return int(image[200, 20, 0])


def shows(text):
    """A condition: the window has this line of text in its upper left corner."""
    frame = np.zeros((300, 300, 3), np.uint8)
    drawing.draw_overlay(frame, [text])
    x, y, width, height = cv2.boundingRect(frame.max(axis=2))
    piece = frame[y:y + height, x:x + width]
    return lambda image: cv2.matchTemplate(image[:150, :150], piece, cv2.TM_CCOEFF_NORMED).max() > 0.7


def test_the_window_is_mirrored_and_files_are_not_and_keys_do_what_h_says(live, tmp_path):
    live.wait_for_rows()
    live.press("h")
    for line in webcam_live.KEYS:
        live.wait_to_show(shows(line))
    live.press("h")  # "pause" among the keys looks like "paused"
    live.wait_to_show(lambda image: not shows(webcam_live.KEYS[-1])(image))
    live.press("r")  # ends the recording that --record began
    live.wait_until((tmp_path / "live.mp4").exists)
    live.press("r")
    strip = strip_of(live.wait_to_show(shows("recording")))
    live.wait_to_show(lambda image: abs(strip_of(image) - strip) > 20)
    live.press("r")
    [recording] = live.wait_until(lambda: list(tmp_path.glob("recording_*.mp4")))

    live.press("space")
    live.wait_to_show(shows("paused"))
    live.press("S")
    [snapshot] = live.wait_until(lambda: list(tmp_path.glob("snapshot_*.jpg")))
    strip = int(cv2.imread(str(snapshot))[200, 280, 0])
    live.wait_to_show(lambda image: abs(strip_of(image) - strip) < 6)  # in the file it is on the right
    live.press("space")
    live.wait_to_show(lambda image: abs(strip_of(image) - strip) > 20)
    live.press("Escape")
    message = live.finish()
    assert f"wrote {snapshot.name}" in message and "wrote live.mp4" in message

    frames = frames_of(tmp_path / recording.name)
    assert f"wrote {recording.name}" in message and frames[0][0] == 0 and len(frames) > 1
    for _, frame in frames:
        assert frame[60:200, 262:296].std() < 6 < frame[60:200, 4:38].std()  # the strip is on the right
    rows = rows_of(tmp_path / "faces.csv")
    clocks = [datetime.datetime.fromisoformat(row["clock"]) for row in rows]
    assert clocks == sorted(clocks) and abs(clocks[-1].timestamp() - time.time()) < 600
    assert {row["face"] for row in rows} == {"1"} and (np.diff([float(row["time"]) for row in rows]) > 0).all()
    for row in rows:
        assert abs(float(row["x"]) + float(row["width"]) / 2 - 134) < 12  # where she is, not her mirror image


@pytest.mark.parametrize("how", ["X", "SIGTERM"])
def test_a_closed_window_or_a_signal_leaves_a_whole_recording_and_table(live, tmp_path, how):
    live.wait_for_rows()
    if how == "X":
        live.press("X")
        live.finish()
    else:
        live.process.send_signal(signal.SIGTERM)
        assert "whole" in live.finish(status=130)
    assert len(frames_of(tmp_path / "live.mp4")) > 2 and len(rows_of(tmp_path / "faces.csv")) >= 3
    assert {path.name for path in tmp_path.iterdir()} == {"display", "faces.csv", "live.mp4"}


def test_without_a_display_it_records_until_the_seconds_are_over(short, capsys):
    with pytest.raises(InputError, match=r"no display.*--record.*--table"):
        webcam_live.main([str(short)])
    webcam_live.main([str(short), "--record", "live.mp4", "--table", "faces.json", "--seconds", "1"])
    times = np.array([seconds for seconds, _ in frames_of("live.mp4")])
    said = capsys.readouterr().err
    shares = {name: int(share) for name, share in re.findall(r"(\w+) (\d+)%", said)}
    assert f"{len(times)} frames in " in said and set(shares) <= set(EXPRESSIONS) and 98 <= sum(shares.values()) <= 102
    assert "wrote live.mp4" in said and 0 < len(times) <= 25 and times[-1] <= 24 / 25 + 1e-3
    np.testing.assert_allclose(times * 25, np.round(times * 25), atol=0.03)  # the file's own times


def test_a_camera_that_is_unplugged_ends_with_a_sentence_and_a_whole_recording(short, monkeypatch):
    frames = ((True, np.full((64, 64, 3), number, np.uint8)) for number in range(5))
    monkeypatch.setattr(camera, "open_camera", lambda _: frames)
    with pytest.raises(InputError, match=r"0 gives no images any more: plug it in.*whole"):
        webcam_live.main(["0", "--record", "live.mp4", "--quiet"])
    assert 0 < len(frames_of("live.mp4")) <= 5


@pytest.mark.parametrize(("arguments", "words"), [
    (["97"], "camera 97 does not open"), (["none.mp4"], "none.mp4 does not open"),
    (["text.mp4"], "text.mp4 does not open"), (["rtsp://127.0.0.1:9/none"], "does not open"),
    (["short.mp4", "--record", "short.mp4"], "written over"), (["short.mp4", "--record", "live.avi"], ".mp4")])
def test_what_cannot_be_is_refused(short, arguments, words):
    with open("text.mp4", "w") as file:
        file.write("not a video")
    with pytest.raises(InputError, match=words):
        webcam_live.main(["--record", "live.mp4", *arguments])
    assert not camera.Path("live.mp4").exists()
