"""Cameras, live streams and windows, without a display: the scripts' tests open real windows."""
import contextlib
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from expressions import camera
from expressions.console import InputError


def watched(monkeypatch, frames, source="0"):
    """What camera.watch yields of these frames."""
    monkeypatch.setattr(camera, "open_camera", lambda _: frames)
    return camera.watch(source)


def test_a_camera_gives_its_frames_until_there_are_none(monkeypatch):
    answers = [(True, np.full((4, 4, 3), number, np.uint8)) for number in range(3)] + [(False, None)]
    capture = SimpleNamespace(isOpened=lambda: True, read=lambda: answers.pop(0))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: capture if number == 1 else None)
    assert [frame[0, 0, 0] for _, frame in camera.open_camera("1")] == [0, 1, 2]


def test_a_file_plays_at_its_own_pace_and_waits_while_paused_and_a_live_source_does_not(monkeypatch):
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)  # which only sleeping moves
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(camera, "time", clock)
    played = camera.in_time(((n / 10, n) for n in range(30)), False, lambda: 101.05 < clock.now < 106.1)
    for number, (seconds, frame) in enumerate(played):
        assert frame == number and seconds == pytest.approx(number / 10)
        assert clock.now - 100 == pytest.approx(number / 10 + 5 * (number > 10), abs=0.03)
    arriving = ((True, clock.sleep(0.3)) for _ in range(3))
    assert [seconds for seconds, _ in camera.in_time(arriving, True, None)] == pytest.approx([0, 0.3, 0.6])


def test_only_the_newest_frame_is_given(monkeypatch):
    go, done = threading.Event(), threading.Event()

    def source():
        yield 0, 0
        go.wait()
        yield from ((0, number) for number in range(1, 6))
        done.set()
    frames = (item[1] for item in watched(monkeypatch, source(), "file") if item is not None)
    assert next(frames) == 0
    go.set()
    done.wait()
    assert list(frames) == [5]


def test_errors_and_silence_are_told_and_the_camera_is_released(monkeypatch):
    go, released = threading.Event(), threading.Event()

    def silent():
        go.wait()
        yield 0, 1
        raise InputError("damaged")

    def endless():
        with contextlib.closing(SimpleNamespace(close=released.set)):
            yield from iter(lambda: (0, 1), None)
    items = watched(monkeypatch, silent(), "file")
    assert next(items) is None  # nothing has come yet
    go.set()
    with pytest.raises(InputError, match="damaged"):
        list(items)
    items = watched(monkeypatch, endless())
    next(items)
    items.close()
    monkeypatch.undo()  # which holds the frames as well
    assert released.wait(60)
    monkeypatch.setattr(camera, "TIMEOUT", 0.1)
    go.clear()
    with pytest.raises(InputError, match="rtsp://host/a gives no images any more"):
        for _ in watched(monkeypatch, silent(), "rtsp://host/a"):
            threading.Timer(0.5, go.set).start()
