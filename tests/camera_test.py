"""Cameras, live streams, windows and recordings, without a display: the scripts' tests open real windows."""
import argparse
import threading
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import write_video

from expressions import camera
from expressions.console import InputError


class Capture:
    """Stands in for cv2.VideoCapture of a camera that gives three frames."""

    def __init__(self, rate):
        self.rate, self.n_read, self.is_released = rate, 0, False

    def isOpened(self):
        return True

    def get(self, _):
        return self.rate

    def read(self):
        self.n_read += 1
        return self.n_read <= 3, np.full((4, 4, 3), self.n_read, np.uint8)

    def release(self):
        self.is_released = True


@pytest.mark.parametrize(("told", "rate"), [(25, 25), (29.97, Fraction(30000, 1001)), (0, 30), (180_000, 30)])
def test_a_camera_gives_its_frames_and_is_released(monkeypatch, told, rate):
    capture = Capture(told)
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: capture if number == 1 else None)
    source = camera.open_camera("1")
    assert float(source.rate) == pytest.approx(float(rate), rel=1e-4)
    assert [(seconds, frame[0, 0, 0]) for seconds, frame in source.frames] == [(None, 1), (None, 2), (None, 3)]
    assert capture.is_released
    capture = Capture(25)
    frames = camera.open_camera("1").frames
    next(frames)
    frames.close()
    assert capture.is_released


def test_what_a_source_is():
    assert [camera.is_live(source) for source in ("0", "rtsp://host/a", "clip.mp4", "7.mp4", "²")] == [
        True, True, False, False, False]


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves, in place of the time module."""
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(camera, "time", clock)
    return clock


def test_a_file_plays_at_its_own_pace_and_waits_while_paused(clock):
    playing = SimpleNamespace(wait=lambda: None)
    frames = camera.read_camera(((Fraction(number, 10), number) for number in range(30)), False, playing)
    for number, (seconds, frame) in enumerate(frames):
        assert frame == number and seconds == pytest.approx(number / 10)
        if number <= 10:
            assert clock.now - 100 == pytest.approx(number / 10)
        if number == 10:
            playing.wait = lambda: clock.sleep(5)
        if number == 11:
            playing.wait = lambda: None
        if number >= 11:
            assert clock.now - 100 == pytest.approx(number / 10 + 5)


def test_a_live_source_has_the_times_at_which_its_frames_come(clock):
    def arriving():
        for number in range(3):
            clock.sleep(0.3)
            yield None, number
    assert [(round(seconds, 6), frame) for seconds, frame in camera.read_camera(arriving(), True, None)] == [
        (0, 0), (0.3, 1), (0.6, 2)]


def test_only_the_latest_frame_is_given():
    go, done, end = threading.Event(), threading.Event(), threading.Event()

    def source():
        yield 0
        go.wait()
        yield from range(1, 6)
        done.set()
        end.wait()
        yield 6
    items = (item for item in camera.latest(source()) if item is not None)
    assert next(items) == 0
    go.set()
    done.wait()
    assert next(items) == 5
    end.set()
    assert list(items) == [6]


def test_latest_says_that_nothing_comes_passes_errors_on_and_closes_its_source():
    go, closed = threading.Event(), threading.Event()

    def silent():
        try:
            go.wait()
            yield 1
            raise InputError("damaged")
        finally:
            closed.set()
    items = camera.latest(silent())
    assert next(items) is None
    go.set()
    with pytest.raises(InputError, match="damaged"):
        assert set(items) <= {None, 1}

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.set()
    closed.clear()
    items = camera.latest(endless())
    next(items)
    items.close()
    assert closed.wait(60)


def test_dated_names_are_never_taken_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(camera.time, "strftime", lambda form: form.replace("%Y%m%d_%H%M%S", "20250131_120000"))
    names = []
    for _ in range(3):
        names.append(camera.dated_path("snapshot", ".jpg"))
        names[-1].touch()
    assert [path.name for path in names] == [f"snapshot_20250131_120000{suffix}.jpg" for suffix in ("", "_2", "_3")]


def test_seconds_are_finite_and_not_negative():
    assert camera.seconds_argument("0") == 0 and camera.seconds_argument("2.5") == 2.5
    for text in ("inf", "nan", "-1", "soon", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a number of seconds"):
            camera.seconds_argument(text)


def test_without_a_window_none_is_open_and_an_image_is_left_to_its_file(no_display, capsys):
    assert not camera.can_show()
    camera.show_image(np.zeros((4, 4, 3), np.uint8), "title", "output_a.jpg")
    assert "no display to show it on: open output_a.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("error", [cv2.error("NULL guiReceiver"), None])
def test_a_window_that_was_closed_is_not_open(monkeypatch, error):
    def get(*_):
        if error:
            raise error
        return -1.0
    monkeypatch.setattr(cv2, "getWindowProperty", get)
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    assert not camera.window_is_open("title") and camera.pressed_key("title") == "q"


@pytest.mark.parametrize(("code", "key"), [(ord("q"), "q"), (27, "q"), (ord("S"), "s"), (ord(" "), " "), (-1, "")])
def test_keys(monkeypatch, code, key):
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "waitKey", lambda _: code)
    assert camera.pressed_key("title") == key


def test_a_recording_begins_at_its_first_frame_and_may_be_followed_by_another(tmp_path, capsys):
    frame = np.zeros((64, 64, 3), np.uint8)
    with camera.Recording(25) as recording:
        for name, times in (("one.mp4", (7.0, 7.25)), ("two.mp4", (9.0, 9.04, 9.08))):
            recording.start(tmp_path / name)
            for seconds in times:
                recording.write(frame, seconds)
            recording.stop()
            frames = list(camera.open_camera(str(tmp_path / name)).frames)
            assert [float(seconds) for seconds, _ in frames] == pytest.approx([time - times[0] for time in times])
    assert "one.mp4: 2 frames" in capsys.readouterr().err
    with pytest.raises(RuntimeError), camera.Recording(25) as recording:
        recording.start(tmp_path / "three.mp4")
        recording.write(frame, 0)
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]


def test_a_file_is_read_as_a_video(tmp_path):
    path = write_video(tmp_path / "clip.mp4", [np.full((64, 64, 3), 10 * number, np.uint8) for number in range(5)])
    source = camera.open_camera(str(path))
    assert source.rate == 25 and [float(seconds) for seconds, _ in source.frames] == [0, 0.04, 0.08, 0.12, 0.16]
