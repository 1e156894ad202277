"""Videos: what is read as one, frames at their times and upright, and MP4 files whose colours are right."""
import contextlib
import functools
import http.server
import signal
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import av
import numpy as np
import pytest
from conftest import write_video

from expressions import video
from expressions.console import InputError
from expressions.video import open_video, prefetch, read_video, video_writer


def read(path):
    with open_video(path) as file:
        return list(read_video(file))


@pytest.fixture
def clip(tmp_path):
    """A video of ten frames, each brighter than the one before."""
    return write_video(tmp_path / "clip.mp4", [np.full((64, 96, 3), 20 * number, np.uint8) for number in range(10)])


def test_frames_come_at_their_times_unless_they_are_too_large(clip, monkeypatch):
    frames = read(clip)
    assert [seconds for seconds, _ in frames] == [number / 25 for number in range(10)]
    levels = [frame.mean() for _, frame in frames]
    np.testing.assert_allclose(levels, 20 * np.arange(10), atol=4)
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 96 - 1)
    with pytest.raises(InputError, match="more than 6,143 pixels"):
        open_video(clip)


def test_a_video_held_upright_is_upright(portrait, tmp_path):
    """As telephones store it: lying, and a matrix in the track header says how to turn it (ISO 14496-12, 8.3.2)."""
    lying = np.ascontiguousarray(np.rot90(portrait[0]))  # against the clock, so that a turn clockwise mends it
    path = write_video(tmp_path / "telephone.mp4", [lying] * 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    assert struct.unpack(">9i", data[matrix:matrix + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data[matrix:matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 512 << 16, 0, 1 << 30)
    path.write_bytes(data)
    for _, frame in read(path):
        assert frame.shape == (600, 512, 3) and np.abs(frame.astype(int) - portrait[0]).mean() < 8


@pytest.mark.parametrize(("name", "content"), [
    ("text.mp4", b"not a video\n" * 100), ("list.mp4", b"ffconcat version 1.0\nfile clip.mp4\n"),
    ("list.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nclip.mp4\n#EXT-X-ENDLIST\n"),
    ("session.mp4", b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n")])
def test_what_is_no_video_is_refused_in_a_sentence(clip, name, content):
    path = clip.with_name(name)
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{path} does not open as a video .*no list of other files.*image.py$"):
        open_video(path)


def test_a_damaged_video_gives_the_frames_before_the_damage_and_a_sentence(clip):
    def decode_error():
        raise av.error.InvalidDataError(1, "Invalid data found")
    with open_video(clip) as file:
        stream, frames = file.streams.video[0], []
        packets = [*file.demux(stream), SimpleNamespace(stream=stream, decode=decode_error, time_base=stream.time_base)]
        damaged = SimpleNamespace(start_time=0, name="clip.mp4", demux=lambda _: packets, streams=file.streams)
        with pytest.raises(InputError, match=r"clip.mp4 is damaged or breaks off after frame 10 \(.*convert it"):
            frames.extend(read_video(damaged))
    assert len(frames) == 10


def test_a_stream_is_read_but_no_file_that_it_names(clip):
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    write_video(clip.with_suffix(".ts"), [np.zeros((64, 64, 3), np.uint8)] * 10)
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    clip.with_name("live.m3u8").write_text(playlist.format("clip.ts"))
    clip.with_name("thief.m3u8").write_text(playlist.format(f"file://{clip.with_suffix('.ts')}"))
    (clip.parent / "film.mp4").write_text(playlist.format("secret.ts"))
    handler = functools.partial(Handler, directory=clip.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for name in ("clip.ts", "live.m3u8?token=1"):
            with open_video(f"{address}/{name}", is_stream=True) as file:
                assert len(list(read_video(file))) == 10
        (clip.parent / "list.mp4").write_text(f"ffconcat version 1.0\nfile {address}/secret.ts\n")
        for name in ("thief.m3u8", "list.mp4", "film.mp4"):
            with pytest.raises(InputError, match="video"):
                open_video(f"{address}/{name}", is_stream=True)
        assert "/list.mp4" in asked and "/secret.ts" not in asked
        server.shutdown()


def test_a_stream_that_sends_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(video, "OPEN_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InputError, match="does not open .*nothing"):
        open_video(f"http://127.0.0.1:{silent.getsockname()[1]}/silent.ts", is_stream=True)


def test_prefetch_keeps_the_order_works_ahead_and_passes_errors_on():
    made, is_third = [], threading.Event()

    def numbers():
        for number in range(6):
            made.append(number)
            if number == 2:
                is_third.set()
            yield number
        raise InputError("the end is damaged")
    before, items = threading.active_count(), prefetch(numbers(), 3)
    assert next(items) == 0 and is_third.wait(60)  # 1 and 2 are made, though nobody asked for them
    for number in range(1, 6):
        assert next(items) == number and len(made) <= number + 4
    with pytest.raises(InputError, match="damaged"):
        next(items)
    stopped = prefetch(iter(range(10 ** 9)), 3)
    assert next(stopped) == 0
    stopped.close()
    assert threading.active_count() == before
    inner = prefetch(iter(range(10 ** 9)), 3)
    outer = prefetch(inner, 3)
    assert next(outer) == 0
    outer.close()  # ends the inner one's thread, which may read a file that is closed next
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no interval timer")
@pytest.mark.parametrize("number", range(8, 13))
def test_ctrl_c_loses_no_frame_that_was_written(tmp_path, number):
    frames, written, before = np.random.default_rng(0).integers(0, 255, (8, 360, 640, 3), np.uint8), 0, signal.signal(
        signal.SIGALRM, signal.default_int_handler)
    try:
        with video_writer(tmp_path / "clip.mp4") as writer, contextlib.suppress(KeyboardInterrupt):
            writer.stream.codec_context.thread_count = 1  # more threads keep more frames
            for index in range(10_000):
                if index == number:  # the first frames leave the encoder after some ten others
                    signal.setitimer(signal.ITIMER_REAL, 0.002)
                writer.write(frames[index % 8], index / 30)
                written += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    with av.open(str(tmp_path / "clip.mp4")) as file:
        assert number <= written <= len(list(file.decode(video=0))) <= written + 1 < 10_000


def test_no_wait_for_a_thread_takes_a_lock_that_ctrl_c_could_leave_taken(tmp_path, monkeypatch):
    takers, enter = [], threading.Condition.__enter__
    with video_writer(tmp_path / "clip.mp4") as writer:
        items = prefetch(iter(range(9)), 2)
        next(items)
        monkeypatch.setattr(threading.Condition, "__enter__", lambda self: (
            takers.append(threading.get_ident()), enter(self))[1])  # in Python code, so Ctrl-C may strike inside
        for index in items:
            writer.write(np.zeros((48, 64, 3), np.uint8), index / 30)
        monkeypatch.undo()
    assert threading.get_ident() not in takers


def test_another_thread_than_the_main_one_writes_videos_too(tmp_path):  # a Dask worker's
    def write():
        with video_writer(tmp_path / "clip.mp4") as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8), 0)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(write).result()
    assert len(read(tmp_path / "clip.mp4")) == 1


@pytest.mark.parametrize("size", [(240, 320), (720, 1280)])
def test_written_colours_are_those_of_bt601_and_the_file_says_so(tmp_path, size):
    colours = [(200, 40, 40), (40, 180, 60), (30, 50, 210), (120, 120, 120)]  # BGR
    frame = np.concatenate([np.full((size[0], size[1] // 4, 3), colour, np.uint8) for colour in colours], axis=1)
    with video_writer(tmp_path / "out.mp4") as writer:
        writer.write(frame, 0)
    with av.open(str(tmp_path / "out.mp4")) as file:
        written = next(file.decode(video=0))
    assert (written.colorspace, written.color_range) == (6, 1)
    shown = written.to_ndarray(format="bgr24")[size[0] // 2, size[1] // 8::size[1] // 4]  # by FFmpeg, as a player does
    np.testing.assert_allclose(shown, colours, atol=6)
    luma = written.to_ndarray()[size[0] // 2, size[1] // 8:size[1]:size[1] // 4]  # ITU-R BT.601-7, 2.5.1, in 8 bits
    np.testing.assert_allclose(luma, 16 + np.array(colours) @ (0.114, 0.587, 0.299) * 219 / 255, atol=4)


def test_odd_sizes_become_even_and_later_frames_are_fitted_to_the_first(tmp_path):
    path = tmp_path / "out.mp4"
    sizes = [(75, 101), (75, 101), (76, 102), (77, 103), (40, 60)]
    with video_writer(path) as writer:
        for number, (height, width) in enumerate(sizes):
            writer.write(np.full((height, width, 3), 100, np.uint8), [0, 0.1, 0.1, 0.25, 0.5][number])
    frames = read(path)
    assert {frame.shape for _, frame in frames} == {(76, 102, 3)}
    assert [seconds for seconds, _ in frames] == pytest.approx([0, 0.1, 0.1 + 1 / 120_000, 0.25, 0.5], abs=1e-9)
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")  # plays while it downloads
