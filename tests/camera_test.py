"""Cameras, live streams and windows, without a display: the scripts' tests open real windows."""
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import write_video

from expressions import camera
from expressions.console import InputError


def is_playing():
    playing = threading.Event()
    playing.set()
    return playing


def watched(monkeypatch, frames, source="0", playing=None):
    """What camera.watch yields of these frames, and an event: the camera is released."""
    released = threading.Event()
    monkeypatch.setattr(camera, "open_camera", lambda _: (frames, released.set))
    return camera.watch(source, playing or is_playing()), released


def test_a_camera_gives_its_frames_until_it_is_unplugged(monkeypatch):
    answers = [(True, np.full((4, 4, 3), number, np.uint8)) for number in range(3)] + [(False, None)]
    capture = SimpleNamespace(isOpened=lambda: True, read=lambda: answers.pop(0), release="release")
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: capture if number == 1 else None)
    frames, release = camera.open_camera("1")
    assert [frame[0, 0, 0] for _, frame in frames] == [0, 1, 2] and release == "release"
    items, released = watched(monkeypatch, iter([(True, 1)]))
    with pytest.raises(InputError, match="0 gives no images any more"):
        list(items)
    assert released.wait(60)


def test_a_file_is_read_as_a_video(tmp_path):
    path = write_video(tmp_path / "clip.mp4", [np.full((64, 64, 3), 10 * number, np.uint8) for number in range(5)])
    frames, _ = camera.open_camera(str(path))
    assert [seconds for seconds, _ in frames] == [0, 0.04, 0.08, 0.12, 0.16]


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves, in place of the time module."""
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(camera, "time", clock)
    return clock


def test_a_file_plays_at_its_own_pace_and_waits_while_paused(clock):
    playing = SimpleNamespace(is_set=lambda: number != 10, wait=lambda: clock.sleep(5))
    number = 0
    for number, (seconds, frame) in enumerate(camera.in_time(((n / 10, n) for n in range(30)), False, playing)):
        assert frame == number and seconds == pytest.approx(number / 10)
        assert clock.now - 100 == pytest.approx(number / 10 + 5 * (number > 10))


def test_a_live_source_has_the_times_at_which_its_frames_come(clock):
    def arriving():
        for number in range(3):
            clock.sleep(0.3)
            yield True, number
    assert [(round(seconds, 6), frame) for seconds, frame in camera.in_time(arriving(), True, None)] == [
        (0, 0), (0.3, 1), (0.6, 2)]


def test_only_the_newest_frame_is_given(monkeypatch):
    go, done, end = threading.Event(), threading.Event(), threading.Event()

    def source():
        yield 0, 0
        go.wait()
        yield from ((0, number) for number in range(1, 6))
        done.set()
        end.wait()
        yield 0, 6
    items, _ = watched(monkeypatch, source(), "file")
    frames = (item[1] for item in items if item is not None)
    assert next(frames) == 0
    go.set()
    done.wait()
    assert next(frames) == 5
    end.set()
    assert list(frames) == [6]


def test_errors_and_silence_are_told_and_the_camera_is_released(monkeypatch):
    go = threading.Event()

    def silent():
        go.wait()
        yield 0, 1
        raise InputError("damaged")
    items, released = watched(monkeypatch, silent(), "file")
    assert next(items) is None  # nothing has come yet
    go.set()
    with pytest.raises(InputError, match="damaged"):
        list(items)
    assert released.wait(60)
    items, released = watched(monkeypatch, iter(lambda: (0, 1), None))
    next(items)
    items.close()
    assert released.wait(60)
    monkeypatch.setattr(camera, "TIMEOUT", 0.1)
    go.clear()
    items, _ = watched(monkeypatch, silent(), "rtsp://host/a")
    with pytest.raises(InputError, match="rtsp://host/a gives no images any more"):
        for _ in items:
            threading.Timer(0.5, go.set).start()


def test_without_a_window_none_is_open_and_an_image_is_left_to_its_file(no_display, capsys):
    assert not camera.can_show()
    camera.show_image(np.zeros((4, 4, 3), np.uint8), "title", "output_a.jpg")
    assert "no display to show it on: open output_a.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "visible", "key"), [
    (ord("q"), 1, "q"), (27, 1, "q"), (ord("S"), 1, "s"), (ord(" "), 1, " "), (-1, 1, ""), (-1, -1, "q"),
    (-1, cv2.error("NULL guiReceiver"), "q")])
def test_keys_and_a_closed_window(monkeypatch, code, visible, key):
    def get(*_):
        if isinstance(visible, cv2.error):
            raise visible
        return visible
    for name in ("namedWindow", "resizeWindow", "imshow"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "getWindowProperty", get)
    monkeypatch.setattr(cv2, "waitKey", lambda _: code)
    assert camera.show("title", np.zeros((4, 4, 3), np.uint8)) == key
