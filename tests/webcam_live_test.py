import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, assert_refused, press, run_script, screenshot, wait_for_window

from webcam_live import draw_bars


@pytest.fixture(scope="module")
def endless(portrait, tmp_path_factory):
    """A video of 1,000 frames of the portrait, which takes longer to show than any test."""
    import av

    path = tmp_path_factory.mktemp("camera") / "portrait.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 512, 600, "yuv420p"
        for _ in range(1000):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(portrait[0], format="bgr24")))
        file.mux(stream.encode(None))
    return path


def frame_count(path):
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


def test_a_real_window_shows_the_labelled_face_and_q_quits(endless, portrait, tmp_path, display):
    process = subprocess.Popen([sys.executable, str(ROOT / "webcam_live.py"), str(endless), "--record", "live.mp4"],
                               cwd=tmp_path, env={**os.environ, **display}, stderr=subprocess.PIPE, text=True)
    window = wait_for_window(display, "expressions")
    shown = screenshot(display)
    press(display, window, "q")
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "Traceback" not in message, message
    found = cv2.matchTemplate(shown, portrait[0][150:300, 180:360], cv2.TM_CCOEFF_NORMED)
    assert found.max() > 0.8  # her face, in a window of the picture's own size
    y, x = np.unravel_index(found.argmax(), found.shape)
    differs = np.abs(shown[y - 150:y + 400, x - 180:x + 330].astype(int) - portrait[0][:550, :510]).max(axis=2) > 60
    assert 1000 < differs.sum() < 80000  # box, label and bars
    assert 0 < frame_count(tmp_path / "live.mp4") < 1000
    assert f"{frame_count(tmp_path / 'live.mp4')} frames" in message


def test_without_a_display_it_records_until_the_source_ends(endless, tmp_path):
    short = tmp_path / "short.mp4"
    import av
    with av.open(str(endless)) as source, av.open(str(short), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number == 20 or packet.dts is None:
                break
            packet.stream = stream
            file.mux(packet)
    assert_refused(run_script("webcam_live.py", short, cwd=tmp_path, env=NO_DISPLAY), "no display", "--record")
    process = run_script("webcam_live.py", short, "--record", "live.mp4", cwd=tmp_path, env=NO_DISPLAY)
    assert process.returncode == 0, process.stderr
    assert frame_count(tmp_path / "live.mp4") == frame_count(short) > 10
    with av.open(str(tmp_path / "live.mp4")) as file:
        times = [float(frame.time) for frame in file.decode(video=0)]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=0.002)  # the file's 25 frames a second


def test_ctrl_c_leaves_a_playable_recording(endless, tmp_path):
    process = subprocess.Popen([sys.executable, str(ROOT / "webcam_live.py"), str(endless), "--record", "live.mp4"],
                               cwd=tmp_path, env={**os.environ, **NO_DISPLAY}, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".*live.mp4")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    time.sleep(2)  # some frames
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in message, message
    assert 0 < frame_count(tmp_path / "live.mp4") < 1000
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("script", ["webcam_live.py", "image_from_camera.py"])
def test_a_camera_or_file_that_is_not_there_is_refused(script, tmp_path):
    arguments = ["--record", "live.mp4"] if script == "webcam_live.py" else []
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    for source, word in (("97", "camera 97 does not open"), ("none.mp4", "none.mp4 does not open"),
                         ("text.mp4", "text.mp4 does not open"),
                         ("rtsp://127.0.0.1:9/none", "does not open")):
        assert_refused(run_script(script, source, *arguments, cwd=tmp_path, env=NO_DISPLAY), word)
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_the_bars_are_as_long_as_the_probabilities():
    frame = np.full((480, 640, 3), 255, np.uint8)
    draw_bars(frame, np.array([0.5, 0, 0, 0.25, 0, 0, 0.25], np.float32))
    assert (frame[:250] == 255).all()  # only in its corner
    lengths = [(np.abs(frame.astype(int) - np.minimum(255, np.array(colour) + 60)).max(axis=2) == 0).sum(axis=1).max()
               for colour in ((30, 30, 190), (0, 100, 180), (90, 90, 90))]
    assert lengths[1] == pytest.approx(lengths[0] / 2, abs=2) and lengths[2] == pytest.approx(lengths[1], abs=2)
    assert lengths[0] > 30
