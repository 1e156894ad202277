import csv
import signal
import subprocess
import sys
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from conftest import ROOT, assert_refused, run_script

from recognise_video import COLUMNS

MILLISECOND = Fraction(1, 1000)


@pytest.fixture(scope="session")
def frames(portrait):
    """30 frames uint8 BGR (30, 300, 401, 3): black ones without a face first, then the portrait moving to the right."""
    small = cv2.resize(portrait[0], (256, 300), interpolation=cv2.INTER_AREA)
    moving = np.zeros((30, 300, 401, 3), np.uint8)
    for number in range(5, 30):
        moving[number, :, 4 * number:4 * number + 256] = small
    return moving


@pytest.fixture(scope="session")
def clip(frames, tmp_path_factory):
    """An MKV of these frames at uneven times, with a second and a half of a tone that AAC cannot be copied from."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with av.open(str(path), "w") as file:
        picture = file.add_stream("ffv1", rate=20)  # lossless, and of an odd width
        picture.width, picture.height, picture.pix_fmt = 401, 300, "bgr0"
        picture.codec_context.time_base = MILLISECOND
        sound = file.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number, (frame, milliseconds) in enumerate(zip(frames, times())):
            packed = av.VideoFrame.from_ndarray(frame, format="bgr24")
            packed.pts, packed.time_base = milliseconds, MILLISECOND
            file.mux(picture.encode(packed))
            tone = np.sin(2 * np.pi * 440 * (np.arange(800) + 800 * number) / 16000) * 20000
            samples = av.AudioFrame.from_ndarray(tone.astype(np.int16)[None], format="s16", layout="mono")
            samples.rate, samples.pts, samples.time_base = 16000, 800 * number, Fraction(1, 16000)
            file.mux(sound.encode(samples))
        file.mux(picture.encode(None))
        file.mux(sound.encode(None))
    return path


def times():
    """Milliseconds of the 30 frames, every third one late."""
    return [50 * number + (15 if number % 3 == 0 and number else 0) for number in range(30)]


def read_with_opencv(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        arrived, frame = capture.read()
        if not arrived:
            return frames
        frames.append(frame)


def milliseconds(path):
    with av.open(str(path)) as file:
        return [round(frame.time * 1000) for frame in file.decode(video=0)]


def test_every_frame_is_there_at_its_time_with_its_face_and_its_sound(clip, frames, tmp_path):
    process = run_script("recognise_video.py", clip, "--csv", "faces.csv", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    output = tmp_path / "clip_recognised.mp4"
    assert "clip_recognised.mp4: 30 frames" in process.stderr

    seen = read_with_opencv(output)
    assert len(seen) == 30 and seen[0].shape == (300, 402, 3)
    for number in range(30):  # each frame is its own: the portrait has moved on
        difference = np.abs(seen[number][:, :401].astype(int) - frames[number]).max(axis=2) > 40
        assert difference.mean() < 0.15, number
    assert milliseconds(output) == milliseconds(clip)

    with av.open(str(output)) as file:
        video, sound = file.streams.video[0].codec_context, file.streams.audio[0]
        assert (video.name, video.pix_fmt) == ("h264", "yuv420p") and sound.codec_context.name == "aac"
        heard = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(sound)])
    assert abs(len(heard) - 24000) < 3000
    spectrum = np.abs(np.fft.rfft(heard[4000:20000]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    head = output.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # fast start: plays while it downloads

    rows = list(csv.reader(open(tmp_path / "faces.csv", newline="")))
    assert rows[0] == list(COLUMNS)
    table = np.array([[float(value) for value in row[:7]] for row in rows[1:]])
    assert len(table) >= 23 and table[:, 0].min() >= 5  # nothing in the black frames
    np.testing.assert_allclose(table[:, 1] * 1000, np.array(times())[table[:, 0].astype(int)], atol=1)
    np.testing.assert_allclose(table[:, 3] + table[:, 5] / 2, 4 * table[:, 0] + 134, atol=15)
    for row in rows[1:]:
        shares = [float(value) for value in row[9:]]
        assert sum(shares) == pytest.approx(1, abs=1e-3) and float(row[8]) == max(shares)
        assert COLUMNS[9 + int(np.argmax(shares))] == row[7]


def test_sound_that_mp4_holds_is_copied_bit_for_bit(clip, tmp_path):
    first = run_script("recognise_video.py", clip, "--output", tmp_path / "one.mp4")
    again = run_script("recognise_video.py", tmp_path / "one.mp4", "--output", tmp_path / "two.mp4")
    assert first.returncode == again.returncode == 0

    def packets(path):
        with av.open(str(path)) as file:
            return [bytes(packet) for packet in file.demux(audio=0) if packet.size]
    assert packets(tmp_path / "two.mp4") == packets(tmp_path / "one.mp4")
    assert len(read_with_opencv(tmp_path / "two.mp4")) == 30


def test_ctrl_c_leaves_a_playable_video_of_what_was_done(portrait, tmp_path):
    long = tmp_path / "long.mp4"
    with av.open(str(long), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 512, 600, "yuv420p"
        random = np.random.default_rng(0)
        for _ in range(400):
            frame = portrait[0].copy()
            frame[400:] = random.integers(0, 256, (200, 512, 3))  # noise, so that what is written soon fills a buffer
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    process = subprocess.Popen([sys.executable, str(ROOT / "recognise_video.py"), str(long)], cwd=tmp_path,
                               stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not any(path.stat().st_size > 48 for path in tmp_path.glob(".*long_recognised.mp4")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in message, message
    assert 0 < len(read_with_opencv(tmp_path / "long_recognised.mp4")) < 400
    assert not list(tmp_path.glob(".*"))


def test_what_is_no_video_is_refused(portrait, clip, tmp_path):
    text, empty, short, sound = (tmp_path / name for name in ("text.mp4", "empty.mp4", "short.mp4", "sound.wav"))
    text.write_text("not a video\n" * 100)
    empty.touch()
    assert run_script("recognise_video.py", clip, "--output", tmp_path / "whole.mp4").returncode == 0
    with av.open(str(tmp_path / "plain.mp4"), "w") as file:  # the index comes last, and is cut off
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="bgr24")))
        file.mux(stream.encode(None))
    short.write_bytes((tmp_path / "plain.mp4").read_bytes()[:-200])
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        samples.rate = 8000
        file.mux(stream.encode(samples))
    for path, word in ((text, "not a video"), (empty, "not a video"), (short, "not a video"),
                       (tmp_path / "none.mp4", "not a file"), (portrait[1], "a picture"), (sound, "only sound")):
        assert_refused(run_script("recognise_video.py", path, "--output", tmp_path / "out.mp4"), path, word)
        assert not (tmp_path / "out.mp4").exists()
    whole = tmp_path / "whole.mp4"
    before = whole.read_bytes()
    assert_refused(run_script("recognise_video.py", whole, "--output", whole), whole, "written over")
    assert_refused(run_script("recognise_video.py", whole, "--csv", whole), whole, "written over")
    assert_refused(run_script("recognise_video.py", whole, "--output", tmp_path / "x.avi"), "x.avi", ".mp4")
    assert whole.read_bytes() == before


def test_a_title_in_another_encoding_does_no_harm(tmp_path):
    path = tmp_path / "titled.mp4"
    with av.open(str(path), "w") as file:
        file.metadata["title"] = "Grüße"
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="bgr24")))
        file.mux(stream.encode(None))
    data = path.read_bytes()
    assert "üß".encode() in data
    path.write_bytes(data.replace("üß".encode(), "üßüß".encode("latin-1")))
    process = run_script("recognise_video.py", path, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert len(read_with_opencv(tmp_path / "titled_recognised.mp4")) == 1


def test_a_damaged_video_is_refused_and_the_old_output_kept(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    random = np.random.default_rng(0)
    for place in random.integers(len(data) // 2, len(data) - 5000, 400):
        data[place] ^= 255
    (tmp_path / "bad.mkv").write_bytes(data)
    (tmp_path / "old.mp4").write_text("old")
    process = run_script("recognise_video.py", tmp_path / "bad.mkv", "--output", tmp_path / "old.mp4")
    if process.returncode:  # FFmpeg may also conceal all the damage
        assert_refused(process, "bad.mkv is damaged after frame")
        assert (tmp_path / "old.mp4").read_text() == "old"
    else:
        assert len(read_with_opencv(tmp_path / "old.mp4")) > 10
    assert not list(tmp_path.glob(".*"))
