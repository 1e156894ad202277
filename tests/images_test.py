"""Images of every kind are read upright, found and named, and bad ones refused in a sentence."""
import contextlib
import functools
import http.server
import os
import shutil
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from expressions import images
from expressions.console import InputError
from expressions.images import find_images, is_uniform, output_path, read_image, write_image


@pytest.mark.parametrize("suffix", ["jpg", "webp", "Exif.webp", "avif", "Exif.avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright_as_their_exif_orientation_says(tmp_path, orientation, suffix):
    upright = np.zeros((60, 80, 3), np.uint8)
    upright[:30, :40] = (255, 0, 0)
    upright[30:, 40:] = (0, 255, 0)
    # what a camera stores so that EXIF's orientation brings it upright (EXIF 2.3, tag 0x0112)
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
              6: np.rot90(upright), 7: upright.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90(upright, -1)}[orientation]
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "ab"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95, subsampling="4:4:4")
    if suffix == "Exif.webp":  # some programs begin the chunk as JPEG does
        content = path.read_bytes()
        start = content.index(b"EXIF")
        chunk = b"Exif\0\0" + content[start + 8:]
        chunk = content[12:start] + b"EXIF" + struct.pack("<I", len(chunk)) + chunk
        path.write_bytes(b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk)
    if suffix == "Exif.avif":  # as avifenc leaves it, beside AVIF's own properties
        header = b"MM\0*\0\0\0\x08\0\1"
        before, after = path.read_bytes().split(b"\0\0\0\6Exif\0\0" + header + b"\x01\x0f\0\2\0\0\0\3ab\0\0")
        turned = header + b"\x01\x12\0\3\0\0\0\1" + struct.pack(">HH", orientation, 0)
        path.write_bytes(before + bytes(4) + turned + bytes(6) + after)
    image = read_image(path)[..., ::-1]
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 5


@pytest.mark.parametrize("mode, suffix", [("L", "png"), ("RGBA", "png"), ("P", "gif"), ("CMYK", "jpg"), ("1", "png"),
                                          ("RGB", "webp"), ("RGB", "tif"), ("RGB", "bmp")])
def test_images_of_every_kind_are_read(tmp_path, portrait, mode, suffix):
    path = tmp_path / f"grüße.{suffix}"
    Image.fromarray(portrait[0][..., ::-1]).convert(mode).save(path)
    read = read_image(path)
    assert read.shape == (600, 512, 3) and read.dtype == np.uint8
    soft = [cv2.blur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 9)).ravel() for image in (read, portrait[0])]
    assert np.corrcoef(*soft)[0, 1] > 0.95  # blurred because black and white is dithered
    assert cv2.haveImageWriter(output_path(path)) and output_path("a.exr") == "output_a.exr.png"


JPEG, PNG, WEBP, AVIF = (
    cv2.imencode(suffix, np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8))[1].tobytes()
    for suffix in (".jpg", ".png", ".webp", ".avif"))
HEADER = PNG[12:16] + struct.pack(">II", 60_000, 60_000) + PNG[24:29]  # the PNG's, that says it is larger


@pytest.mark.parametrize("name, content", [
    ("text.jpg", b"no image"), ("empty.jpg", b""), ("cut.jpg", JPEG[:4000]), ("clip.mp4", b"\0\0\0\x20ftypisom"),
    ("cut.webp", WEBP[:2000]), ("cut.avif", AVIF[:2000]),
    ("grey.pfm", b"Pf\n4 4\n-1\n" + np.ones(16, np.float32).tobytes()),
    ("bomb.png", PNG[:12] + HEADER + struct.pack(">I", zlib.crc32(HEADER)) + PNG[33:]),
    ("bomb.pgm", b"P5\n60000 60000\n255\n" + bytes(1000)), ("huge.png", None)])
def test_what_is_no_image_or_too_large_is_refused_in_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content or b"")
    if content is None:
        os.truncate(tmp_path / name, 10 << 30)  # takes no room on the disk
    with pytest.raises(InputError, match=f"{name} is damaged, no image .* or has more than 120,000,000 pixels: "):
        read_image(tmp_path / name)


def test_a_webp_or_avif_image_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 80 * 90 - 1)
    for name, content in (("large.webp", WEBP), ("large.avif", AVIF)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="has more than 7,199 pixels"):
            read_image(tmp_path / name)


def test_a_damaged_jpeg_that_opencv_reads_is_named(tmp_path, capfd):
    whole = tmp_path / "whole.jpg"
    whole.write_bytes(JPEG)
    middle = len(JPEG) // 2
    (tmp_path / "cut.jpg").write_bytes(JPEG[:middle] + bytes(100) + JPEG[middle + 100:])
    read_image(whole)
    assert capfd.readouterr().err == ""
    image = read_image(tmp_path / "cut.jpg")
    err = capfd.readouterr().err
    assert image.shape == read_image(whole).shape and err.startswith(f"{tmp_path / 'cut.jpg'} may be damaged: Corrupt")
    assert err.count("\n") == 1
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read_image, [tmp_path / "cut.jpg"] * 40))
    assert capfd.readouterr().err == 40 * err  # no sentence is lost, or names two files


def test_what_is_not_there_is_refused(tmp_path):
    for path, words in ((tmp_path / "none.jpg", "No such file"), (tmp_path, "Is a directory"),
                        ("no-such-thing://a/b.jpg", "Protocol not known|No module named 'fsspec'")):
        with pytest.raises(InputError, match=f"{path} cannot be opened .*{words}"):
            read_image(path)


def test_an_image_is_written_whole_or_not_at_all(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    write_image(tmp_path / "new/image.png", image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new/image.png"))[..., ::-1], image)
    with pytest.raises(InputError, match=r"cannot hold 70000 x 1 pixels: end it in \.png"):
        write_image(tmp_path / "new/wide.jpg", np.zeros((1, 70_000, 3), np.uint8))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["image.png"]


def test_a_uniform_image_is_known_in_every_colour():
    image = np.full((50, 60, 3), (200, 10, 90), np.uint8)
    assert is_uniform(image)
    image[20, 20] = 128
    assert not is_uniform(image)


@pytest.mark.parametrize("argument, found", [
    (".", ["a.JFIF output_here/a.JFIF.png", "b.jpg output_here/b.jpg", "day 2/[x].png output_here/day 2/[x].png",
           "day 2/c.jp2 output_here/day 2/c.jp2"]),
    ("day 2/", ["day 2/[x].png output_day 2/[x].png", "day 2/c.jp2 output_day 2/c.jp2"]),
    ("../here/*.jpg", ["../here/b.jpg output_b.jpg"]), ("**/*.jpg", ["b.jpg output_b.jpg"]),
    ("output_day", ["output_day/e.jpg output_output_day/e.jpg"]),
    ("day 2/[x].png", ["day 2/[x].png output_[x].png"]),  # a name before it is a pattern
    ("none.gif", ["none.gif output_none.gif"]),  # that it is not there is said when it is read
    ("*.png", None), ("empty", None)])
def test_images_are_found_in_order_without_outputs_and_hidden_files(tmp_path, monkeypatch, argument, found):
    (tmp_path / "here/empty").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    for name in ("b.jpg", "a.JFIF", "output_a.png", ".hidden.jpg", "notes.txt", "day 2/c.jp2", ".git/d.jpg",
                 "output_day/e.jpg", "day 2/[x].png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    if found:
        assert [f"{Path(path).as_posix()} {output}" for path, output in find_images(argument)] == found
    else:
        with pytest.raises(InputError, match=r"holds or matches no image: check the path"):
            find_images(argument)


def test_images_on_a_web_server_and_in_an_archive_are_found_and_read(tmp_path):
    pytest.importorskip("aiohttp", reason="fsspec opens http:// with aiohttp: pip install -r requirements-cluster.txt")
    (tmp_path / "photos/day 2").mkdir(parents=True)
    for name in ("b.jpg", "a.png", "day 2/c.jpg", "output_d.jpg"):
        cv2.imwrite(str(tmp_path / "photos" / name), np.full((30, 40, 3), 90, np.uint8))
    (tmp_path / "photos/notes.txt").touch()
    archive = f"file://{shutil.make_archive(tmp_path / 'all', 'zip', tmp_path, 'photos')}"
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web = f"http://127.0.0.1:{server.server_port}"
        for top, chain, inner in ((f"{web}/photos", "", "day%202/c.jpg"),
                                  ("zip://photos", f"::{archive}", "day 2/c.jpg")):
            found = [(f"{top}/{name}{chain}", f"output_photos/{name}") for name in ("a.png", "b.jpg", inner)]
            assert find_images(top + chain) == found and read_image(found[2][0]).shape == (30, 40, 3)
        assert find_images(f"zip://photos/*.jpg::{archive}") == [(f"zip://photos/b.jpg::{archive}", "output_b.jpg")]
        assert find_images(f"{web}/photos/b.jpg?key=1") == [(f"{web}/photos/b.jpg?key=1", "output_b.jpg")]
        assert read_image(f"{web}/photos/b.jpg?key=1").shape == (30, 40, 3)
        with pytest.raises(InputError, match=f"{web}/none.jpg cannot be opened"):
            read_image(f"{web}/none.jpg")
        server.shutdown()


def test_a_server_that_says_nothing_or_never_ends_is_given_up(monkeypatch):
    pytest.importorskip("aiohttp", reason="fsspec opens http:// with aiohttp: pip install -r requirements-cluster.txt")
    over, sent = threading.Event(), []

    class Handler(http.server.BaseHTTPRequestHandler):
        log_message = over.is_set

        def do_HEAD(self):  # claims a small file
            self.send_response(200)
            for header in (("Accept-Ranges", "bytes"), ("Content-Length", "1000")):
                self.send_header(*header)
            self.end_headers()

        def do_GET(self):
            if self.path == "/silent.jpg":
                over.wait()
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 206 OK\r\nContent-Type: image/jpeg\r\n\r\n")
                while not over.is_set():
                    sent.append(self.wfile.write(b"x" * 100_000))

    monkeypatch.setattr(images, "MAX_BYTES", 1 << 20)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(InputError, match=f"{web}/endless.jpg is damaged"):
            read_image(f"{web}/endless.jpg")
        assert sum(sent) < 1 << 26
        monkeypatch.setattr(images, "HTTP_TIMEOUT", 0.5)
        with pytest.raises(InputError, match=f"{web}/silent.jpg cannot be opened"):
            read_image(f"{web}/silent.jpg")
        over.set()
        server.shutdown()
