import csv
import functools
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time

from webcam_live import draw_bars, newest

import av
import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, assert_refused, heed_ctrl_c, press, run_script, screenshot, wait_for_window


@pytest.fixture(scope="module")
def endless(portrait, tmp_path_factory):
    """A video of 40 seconds, longer than any test, of the portrait beside a strip whose grey tells the frame number."""
    path = tmp_path_factory.mktemp("camera") / "portrait.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 560, 600, "yuv420p"
        for number in range(1000):
            frame = np.full((600, 560, 3), 16 + 2 * (number % 100), np.uint8)
            frame[:, :512] = portrait[0]
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    return path


def frame_count(path):
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


@pytest.fixture
def live(endless, tmp_path, display):
    """webcam_live.py in a real window: the process, a function that presses a key, and one that looks at the window."""
    process = subprocess.Popen([sys.executable, str(ROOT / "webcam_live.py"), str(endless), "--csv", "faces.csv"],
                               cwd=tmp_path, env={**os.environ, **display}, stderr=subprocess.PIPE, text=True)
    window = wait_for_window(display, "expressions")

    def key(name):
        press(display, window, name)
        time.sleep(0.7)
    yield process, key, lambda: screenshot(display)[:600, :560].copy()
    process.kill()
    process.communicate()


def test_a_real_window_shows_the_mirrored_labelled_face_and_q_quits(live, portrait, tmp_path):
    process, key, look = live
    shown = look()
    mirrored = portrait[0][:, ::-1]
    found = cv2.matchTemplate(shown, mirrored[150:300, 160:330], cv2.TM_CCOEFF_NORMED)
    assert found.max() > 0.8  # her face, in a window of the picture's own size
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert abs(y - 150) < 5 and abs(x - (48 + 160)) < 5
    differs = np.abs(shown[:, 48:].astype(int) - mirrored).max(axis=2) > 60
    assert 2000 < differs.sum() < 90000  # box, label, bars and the frames per second
    time.sleep(2)
    key("q")
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "Traceback" not in message, message
    rows = list(csv.reader(open(tmp_path / "faces.csv", newline="")))[1:]
    times = np.array([float(row[1]) for row in rows])
    assert len(rows) > 20 and {row[2] for row in rows} == {"1"} and (np.diff(times) > 0).all()
    centres = np.array([[float(row[3]) + float(row[5]) / 2] for row in rows])
    np.testing.assert_allclose(centres, 48 + 512 - 268, atol=20)


def test_the_keys_do_what_h_says(live, portrait, tmp_path):
    process, key, look = live
    before = look()
    key("h")
    listed = look()
    assert (np.abs(listed[30:130, :150].astype(int) - before[30:130, :150]).max(axis=2) > 60).mean() > 0.2
    key("r")
    began = time.monotonic()
    time.sleep(2)
    key("r")
    lasted = time.monotonic() - began
    [recorded] = tmp_path.glob("recording_*.mp4")
    with av.open(str(recorded)) as file:
        frames = [(frame.time, frame.to_ndarray(format="bgr24")) for frame in file.decode(video=0)]
    assert frames[0][0] == 0 and abs(frames[-1][0] - lasted) < 1.2  # as long as it took
    assert np.median(np.diff([seconds for seconds, _ in frames])) == pytest.approx(0.04, abs=0.01)
    strips = [frame[300, 20, 0] for _, frame in frames]  # the strip is on the left, as it is mirrored
    assert len(set(strips)) > 30
    key("space")
    paused = look()
    time.sleep(0.5)
    assert (look() == paused).all()
    key("s")
    [snapshot] = tmp_path.glob("snapshot_*.jpg")
    kept = cv2.imread(str(snapshot)).astype(int)
    assert np.abs(kept[140:, :] - paused[140:600]).mean() < 8  # what stands there, without the notes above
    key("space")
    assert (look() != paused).any()
    key("q")
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "Traceback" not in message, message
    assert f"wrote {recorded.name}: {len(frames)} frames" in message and f"wrote {snapshot.name}" in message


def test_only_the_newest_frame_is_looked_at():
    def camera():
        for number in range(50):
            time.sleep(0.01)
            yield number
    seen = []
    for number in newest(camera()):
        if number is not None:
            seen.append(number)
            time.sleep(0.1)
    assert 3 <= len(seen) <= 12 and np.diff(seen[:-1]).min() >= 5 and seen[-1] == 49
    assert threading.active_count() == 1 or not any("keep" in thread.name for thread in threading.enumerate())


def test_a_stream_over_http_is_recorded_until_it_ends(endless, tmp_path):
    copy_start(endless, tmp_path / "short.ts", 50)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        process = run_script("webcam_live.py", f"http://127.0.0.1:{server.server_port}/short.ts", "--record",
                             "live.mp4", "--csv", "-", cwd=tmp_path, env=NO_DISPLAY)
        server.shutdown()
    assert process.returncode == 0, process.stderr
    assert 0 < frame_count(tmp_path / "live.mp4") <= 50
    assert process.stdout.startswith("frame,time,face,x,")


def test_a_camera_that_falls_silent_ends_with_a_sentence_and_a_whole_recording(tmp_path):
    with av.open(str(tmp_path / "noise.ts"), "w") as file:  # megabytes, more than is read before the first frame
        stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        random = np.random.default_rng(0)
        for _ in range(120):
            noise = random.integers(0, 256, (480, 640, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="bgr24")))
        file.mux(stream.encode(None))
    half = (tmp_path / "noise.ts").read_bytes()
    half = half[:len(half) // 2]
    over = threading.Event()

    class Silent(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(half)
            over.wait(60)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        process = run_script("webcam_live.py", f"http://127.0.0.1:{server.server_port}/camera.ts", "--record",
                             "live.mp4", cwd=tmp_path, env=NO_DISPLAY)
        over.set()
        server.shutdown()
    assert_refused(process, "gives no more pictures")
    assert frame_count(tmp_path / "live.mp4") > 10


def copy_start(source, target, frames):
    with av.open(str(source)) as video, av.open(str(target), "w") as file:
        stream = file.add_stream_from_template(video.streams.video[0])
        for number, packet in enumerate(video.demux(video=0)):
            if number == frames or packet.dts is None:
                break
            packet.stream = stream
            file.mux(packet)


def test_without_a_display_it_records_at_the_true_pace_until_the_source_ends(endless, tmp_path):
    short = tmp_path / "short.mp4"
    copy_start(endless, short, 60)
    assert_refused(run_script("webcam_live.py", short, cwd=tmp_path, env=NO_DISPLAY), "no display", "--record", "--csv")
    process = run_script("webcam_live.py", short, "--record", "live.mp4", cwd=tmp_path, env=NO_DISPLAY)
    assert process.returncode == 0, process.stderr
    recorded = frame_count(tmp_path / "live.mp4")
    assert re.search(rf"wrote live.mp4: {recorded} frames", process.stderr)
    assert 40 <= recorded <= 60  # the newest ones, where the machine was too busy for all
    with av.open(str(tmp_path / "live.mp4")) as file:
        times = np.array([float(frame.time) for frame in file.decode(video=0)])
    assert times[-1] == pytest.approx(59 / 25, abs=0.1)
    np.testing.assert_allclose(times * 25, np.round(times * 25), atol=0.03)  # multiples of a 25th of a second


def test_the_live_picture_is_mirrored_unless_told_otherwise(endless, portrait, tmp_path):
    copy_start(endless, tmp_path / "short.mp4", 10)
    for options, expected in (([], portrait[0][:, ::-1]), (["--no-mirror"], portrait[0])):
        process = run_script("webcam_live.py", "short.mp4", "--record", "live.mp4", *options, cwd=tmp_path,
                             env=NO_DISPLAY)
        assert process.returncode == 0, process.stderr
        first = cv2.VideoCapture(str(tmp_path / "live.mp4")).read()[1]  # nothing is drawn into it yet
        part = first[:, :512] if options else first[:, 48:]
        assert np.abs(part.astype(int) - expected).mean() < 8


def test_ctrl_c_leaves_a_playable_recording(endless, tmp_path):
    process = subprocess.Popen([sys.executable, str(ROOT / "webcam_live.py"), str(endless), "--record", "live.mp4"],
                               cwd=tmp_path, env={**os.environ, **NO_DISPLAY}, stderr=subprocess.PIPE, text=True,
                               preexec_fn=heed_ctrl_c)
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
