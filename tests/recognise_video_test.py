import csv
import math
import signal
import struct
import subprocess
import sys
import threading
import time
from fractions import Fraction

import recognise_video
from preprocessing import InputError
from recognise_image import load_recogniser
from recognise_video import (
    COLUMNS,
    Face,
    ahead,
    bridge,
    draw_timeline,
    recognise_frames,
    smooth,
    track,
    video_writer,
)

import av
import cv2
import numpy as np
import pytest
from conftest import ROOT, assert_refused, heed_ctrl_c, run_script

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
    assert "clip_recognised.mp4, faces.csv: 30 frames, 25 times a face" in process.stderr

    seen = read_with_opencv(output)
    assert len(seen) == 30 and seen[0].shape == (300, 402, 3)
    for number in range(30):  # each frame is its own: the portrait has moved on
        difference = np.abs(seen[number][:, :401].astype(int) - frames[number]).max(axis=2) > 40
        assert difference.mean() < 0.15, number
    assert milliseconds(output) == milliseconds(clip)

    with av.open(str(output)) as file:
        assert [stream.type for stream in file.streams] == ["video", "audio"]
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
    assert table[:, 0].tolist() == list(range(5, 30))  # each with her face, and nothing in the black frames
    assert set(table[:, 2]) == {1}  # one and the same
    np.testing.assert_allclose(table[:, 1] * 1000, np.array(times())[table[:, 0].astype(int)], atol=1)
    np.testing.assert_allclose(table[:, 3] + table[:, 5] / 2, 4 * table[:, 0] + 134, atol=15)
    for row in rows[1:]:
        shares = [float(value) for value in row[9:]]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        assert float(row[8]) == shares[COLUMNS[9:].index(row[7])] > max(shares) - 0.2


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
                               stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c)
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


def appearing(portrait, frame_count, places, rate=30, size=(360, 640)):
    """Yield (seconds, frame) with her face where places(number) says: a list of (left, top, flipped)."""
    small = cv2.resize(portrait[0], (154, 180), interpolation=cv2.INTER_AREA)
    random = np.random.default_rng(0)
    for number in range(frame_count):
        frame = np.full((*size, 3), 100, np.uint8)
        for left, top, flipped in places(number):
            frame[top:top + 180, left:left + 154] = small[:, ::-1] if flipped else small
        noise = random.normal(0, 6, frame.shape)
        yield Fraction(number, rate), np.clip(frame + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def recogniser():
    return load_recogniser()


def test_faces_keep_their_identity_from_their_first_frame_to_their_last(portrait, recogniser):
    def places(number):
        first = [(20 + number, 20, False)]
        second = [(460 - number // 2, 160, True)] if number >= 17 else []  # between two searches
        return (first if not 40 <= number < 62 else []) + second  # the first is away for a while
    seen = [(dict(zip(identities.tolist(), boxes.tolist()))) for _, _, (identities, boxes, _, _) in
            recognise_frames(appearing(portrait, 90, places), recogniser)]
    assert set().union(*seen) == {1, 2}
    for number, boxes in enumerate(seen):
        expected = [1] * (not 40 <= number < 62) + [2] * (number >= 17)
        missing = set(expected) ^ set(boxes)
        assert not missing or (missing == {1} and (40 <= number < 48 or 62 <= number < 66)), number  # held, found again
        for identity, (x, y, width, _) in boxes.items():
            left, top = (460 - number // 2, 160) if identity == 2 else (20 + number, 20)
            middle = 154 * (0.523 if identity == 1 else 0.477)  # hers is 268 of 512 pixels from the left
            assert abs(x + width / 2 - left - middle) < 14 and abs(y + width / 2 - top - 64) < 14
    assert sum(2 in boxes for boxes in seen) >= 70


def test_each_face_keeps_its_own_probabilities(portrait):
    def half_dark():
        for seconds, frame in appearing(portrait, 20, lambda number: [(60, 90, False), (400, 90, True)]):
            frame[:, 320:] //= 2
            yield seconds, frame

    def brightness(faces):
        return np.repeat(faces.mean(axis=(1, 2, 3))[:, None], 7, axis=1).astype(np.float32)

    seen = [(identities.tolist(), boxes[:, 0], shares[:, 0]) for _, _, (identities, boxes, shares, _) in
            recognise_frames(half_dark(), brightness)]
    assert len(seen) == 20
    for identities, lefts, shares in seen:
        assert identities == [1, 2]
        bright, dark = lefts.argmin(), lefts.argmax()
        assert shares[bright] > 1.6 * shares[dark]


def test_a_new_scene_has_new_faces(portrait, recogniser):
    frames = list(appearing(portrait, 24, lambda number: [(100, 100, False)]))
    frames[12:] = [(seconds, 255 - np.uint8(0.5 * frame) if number < 16 else frame)
                   for number, (seconds, frame) in enumerate(frames[12:], start=12)]
    seen = [identities.tolist() for _, _, (identities, *_) in recognise_frames(iter(frames), recogniser)]
    assert seen[:12] == [[1]] * 12 and seen[16:] == [[2]] * 8


def test_the_label_of_a_still_face_does_not_flicker(portrait, recogniser):
    shown = [(expressions.tolist(), boxes[0].tolist()) for _, _, (_, boxes, _, expressions) in
             recognise_frames(appearing(portrait, 300, lambda number: [(200, 90, False)]), recogniser)]
    assert len(shown) == 300 and len({tuple(expressions) for expressions, _ in shown}) == 1  # ten seconds
    assert np.std([box for _, box in shown], axis=0).max() < 3  # nor does the box shake


@pytest.mark.parametrize("rate", [5, 30])
def test_a_change_of_expression_shows_within_half_a_second(rate):
    face, random = Face(1, np.zeros(4), 0), np.random.default_rng(0)
    named = []
    for number in range(4 * rate):
        strength = np.full(7, 0.4)
        strength[3 if number < 2 * rate else 5] = 2.0  # happy, from the third second on surprise
        shares = np.exp(strength + random.normal(0, 0.15, 7)).astype(np.float32)
        smooth(face, shares / shares.sum(), number / rate)
        named.append(face.expression)
    assert named[:2 * rate] == [3] * 2 * rate
    assert named[2 * rate + (rate + 1) // 2:] == [5] * (4 * rate - 2 * rate - (rate + 1) // 2)
    assert face.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_an_expression_that_hardly_leads_is_not_named():
    face = Face(1, np.zeros(4), 0)
    for number in range(100):
        more = 0.08 * (-1) ** (number // 10)
        smooth(face, np.array([0.41 + more, 0, 0, 0.41 - more, 0, 0, 0.18], np.float32), number / 10)
        assert face.expression == 0


def test_a_box_at_the_border_that_grows_stays_in_the_frame(monkeypatch):
    grey = np.zeros((160, 200), np.uint8)
    for box, found in (((0, 10, 100, 100), (0, 5, 140, 140)), ((100, 60, 100, 100), (60, 20, 140, 140))):
        monkeypatch.setattr("recognise_video.look_closer", lambda *_, found=found: (np.array(found), 5.0))
        x, y, width, height = track(grey, np.array(box, float))
        assert x >= 0 and y >= 0 and x + width <= 200 and y + height <= 160
        assert 125 < width <= 140 and 125 < height <= 140  # and has grown


def test_a_face_that_was_missed_between_two_looks_is_where_it_must_have_been():
    places = [{7: np.array([0, 0, 10, 10.0])}, {}, {8: np.ones(4)}, {7: np.array([30, 60, 16, 16.0])}]
    bridge(places)
    np.testing.assert_allclose([places[1][7], places[2][7]], [[10, 20, 12, 12], [20, 40, 14, 14]])
    assert [sorted(boxes) for boxes in places] == [[7], [7], [7, 8], [7]]


def test_frames_are_made_ahead_in_order_and_errors_arrive():
    made = []

    def numbers():
        for number in range(6):
            made.append((number, threading.current_thread() is threading.main_thread()))
            yield number
        raise InputError("the end is damaged")
    arrived = []
    with pytest.raises(InputError, match="damaged"):
        for number in ahead(numbers(), 3):
            arrived.append(number)
            time.sleep(0.05)
            assert len(made) - len(arrived) <= 3
    assert arrived == [0, 1, 2, 3, 4, 5] and not any(main for _, main in made)
    before = threading.active_count()
    stopped = ahead(iter(range(10 ** 9)), 3)
    assert next(stopped) == 0
    stopped.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("size", [(240, 320), (720, 1280)])
def test_colours_are_kept(tmp_path, size):
    bgr = [(200, 40, 40), (40, 180, 60), (30, 50, 210), (120, 120, 120)]
    frame = np.concatenate([np.full((size[0], size[1] // 4, 3), colour, np.uint8) for colour in bgr], axis=1)
    with video_writer(tmp_path / "out.mp4", 25, Fraction(1, 25)) as (write, _):
        write(frame, 0)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].codec_context.colorspace == 6  # BT.601, said in the file
        planes = next(file.decode(video=0)).to_ndarray().astype(float)  # Y, U and V, one below the other
    height, width = size
    y = planes[:height]
    u = planes[height:height + height // 4].reshape(height // 2, width // 2)
    v = planes[height + height // 4:].reshape(height // 2, width // 2)
    for number, (blue, green, red) in enumerate(bgr):  # ITU-R BT.601-7, 2.5.1 to 2.5.3, in 8 bits
        luma = (0.299 * red + 0.587 * green + 0.114 * blue) / 255
        column = width // 8 * (2 * number + 1)
        expected = (16 + 219 * luma, 128 + 224 * (blue / 255 - luma) / 1.772, 128 + 224 * (red / 255 - luma) / 1.402)
        seen = y[height // 2, column], u[height // 4, column // 2], v[height // 4, column // 2]
        np.testing.assert_allclose(seen, expected, atol=4)


def test_the_timeline_shows_each_face_while_it_was_there(clip, tmp_path):
    timeline = {1: np.ravel([(second / 10, 0.5, 0, 0, 0.25, 0, 0, 0.25) for second in range(30)]),
                4: np.ravel([(second / 10, *[0] * 6, 1) for second in (*range(5), *range(20, 25))])}
    figure = draw_timeline(timeline)
    assert [axes.get_ylabel() for axes in figure.axes] == ["face 1", "face 4"]
    areas = [[area.get_paths()[0].get_extents() for area in axes.collections] for axes in figure.axes]
    assert len(areas[0]) == 7 and len(areas[1]) == 14  # she was away for a while
    angry, happy = areas[0][0], areas[0][3]
    np.testing.assert_allclose([angry.ymin, angry.ymax, happy.ymin, happy.ymax, happy.xmax], [0, 0.5, 0.5, 0.75, 2.9])
    assert areas[1][6].xmax == pytest.approx(0.4) and areas[1][13].xmin == pytest.approx(2)

    process = run_script("recognise_video.py", clip, "--plot", "faces.png", "--quiet", "--csv", "-", cwd=tmp_path)
    assert process.returncode == 0 and process.stderr == ""
    assert process.stdout.startswith(",".join(COLUMNS)) and len(process.stdout.splitlines()) == 26
    picture = cv2.imread(str(tmp_path / "faces.png"))
    assert picture.shape[1] == 1400 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    assert_refused(run_script("recognise_video.py", clip, "--plot", "x.jpg", cwd=tmp_path), "x.jpg")


def test_a_video_held_upright_is_upright(portrait, recogniser, tmp_path):
    """As telephones store it: lying, and a matrix in the track header says how to turn it (ISO 14496-12, 8.3.2)."""
    path = tmp_path / "telephone.mp4"
    lying = np.ascontiguousarray(np.rot90(portrait[0]))  # against the clock, so that a turn clockwise mends it
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 600, 512, "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(lying, format="bgr24")))
        file.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    assert struct.unpack(">9i", data[matrix:matrix + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data[matrix:matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 512 << 16, 0, 1 << 30)
    path.write_bytes(data)
    process = run_script("recognise_video.py", path, "--csv", "faces.csv", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    seen = read_with_opencv(tmp_path / "telephone_recognised.mp4")
    assert seen[0].shape == (600, 512, 3)
    assert np.abs(seen[0][420:].astype(int) - portrait[0][420:]).mean() < 8
    rows = list(csv.DictReader(open(tmp_path / "faces.csv", newline="")))
    assert len(rows) == 5 and abs(int(rows[0]["x"]) + int(rows[0]["width"]) / 2 - 268) < 20


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


def places_over_seams(number):
    """Where faces are in the twelve seconds below: at second 4 one is away for a while, before 6 another one comes."""
    first = [] if 115 <= number < 128 else [(20 + number // 3, 20, False)]
    return first + [(460 - number // 6, 160, True)] * (number >= 175)


@pytest.fixture(scope="module", params=["mp4", "ts", "avi"])
def long_video(portrait, tmp_path_factory, request):
    path = tmp_path_factory.mktemp("long") / f"long.{request.param}"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4" if request.param == "avi" else "libx264", rate=30, options={"g": "25"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 360, "yuv420p", 4_000_000
        for _, frame in appearing(portrait, 360, places_over_seams):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    return path


def rows_of(path):
    """{(frame, face): (x, y, width, expression)} of a table, and its times."""
    rows = list(csv.DictReader(open(path, newline="")))
    return {(int(row["frame"]), int(row["face"])): (int(row["x"]), int(row["y"]), int(row["width"]), row["expression"])
            for row in rows}, {row["frame"]: row["time"] for row in rows}


def test_a_long_video_is_recognised_in_parts_without_a_seam(long_video, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recognise_video.main([str(long_video), "--no-video", "--csv", "whole.csv", "--quiet"])
    monkeypatch.setattr(recognise_video, "PART", 2)
    recognise_video.main([str(long_video), "--no-video", "--csv", "parts.csv", "--plot", "parts.png", "--quiet",
                          "--jobs", "2"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.csv", "parts.png", "whole.csv"]
    (whole, times), (parts, times_of_parts) = rows_of("whole.csv"), rows_of("parts.csv")
    assert parts.keys() == whole.keys() and times_of_parts == times
    assert {face for _, face in parts} == {1, 2} and len(times) > 345
    assert [face for frame, face in parts if frame == 300] == [1, 2]
    for (frame, face), (x, y, width, _) in parts.items():
        left, top = (460 - frame // 6, 160) if face == 2 else (20 + frame // 3, 20)
        middle = 154 * (0.523 if face == 1 else 0.477)
        assert abs(x + width / 2 - left - middle) < 14 and abs(y + width / 2 - top - 64) < 14, frame
    assert np.mean([parts[key][3] == whole[key][3] for key in whole]) > 0.85
    for seam in (60, 120, 180, 240, 300):
        for face in (1, 2):
            if (seam, face) in parts and (seam - 1, face) in parts:
                (x, y, width, expression), (before_x, before_y, _, before) = parts[seam, face], parts[seam - 1, face]
                assert max(abs(x - before_x), abs(y - before_y)) < 0.06 * width
                assert expression == before or whole[seam + 15, face][3] != whole[seam - 15, face][3]


def test_parts_are_joined_by_where_faces_are():
    def frame(second, *faces):
        numbers, lefts = zip(*faces)
        boxes = np.array([(left, 10, 50, 50) for left in lefts])
        return Fraction(second), (np.array(numbers), boxes, np.eye(7, dtype=np.float32)[np.array(lefts) % 7],
                                  np.array(lefts) % 7)

    one = [frame(0, (1, 10), (2, 200)), frame(1, (1, 11), (2, 201)), frame(2, (1, 12), (2, 202), (3, 400)),
           frame(3, (1, 13), (2, 203), (3, 400))]
    two = [frame(1, (1, 201)), frame(2, (1, 202), (2, 12), (3, 400)), frame(3, (1, 203), (2, 13), (3, 400), (4, 600))]
    joined = list(recognise_video.join([((0, 2), one), ((2, math.inf), two)]))
    assert [(int(seconds), nothing, numbers.tolist(), boxes[:, 0].tolist(), expressions.tolist())
            for seconds, nothing, (numbers, boxes, _, expressions) in joined] == [
        (0, None, [1, 2], [10, 200], [3, 4]), (1, None, [1, 2], [11, 201], [4, 5]),
        (2, None, [1, 2, 3], [12, 202, 400], [5, 6, 1]), (3, None, [1, 2, 3, 4], [13, 203, 400, 600], [6, 0, 1, 5])]


def test_reading_may_begin_anywhere(long_video):
    with recognise_video.open_video(long_video) as video:
        everything = [(seconds, frame) for seconds, frame in recognise_video.read_video(video, video.streams.video[0])]
    for begin in (1, 5.05, 11.9):
        with recognise_video.open_video(long_video) as video:
            part = list(recognise_video.read_video(video, video.streams.video[0], begin=begin))
        expected = [(seconds, frame) for seconds, frame in everything if seconds >= begin]
        assert [seconds for seconds, _ in part] == [seconds for seconds, _ in expected] and part
        for (_, frame), (_, same) in zip(part, expected):
            np.testing.assert_array_equal(frame, same)
