"""Pictures and videos at addresses that fsspec opens: on a web server, in an archive, in a folder as file://."""
import csv
import functools
import http.server
import threading
import zipfile

import cv2
import pytest
from conftest import assert_refused, run_script, write_video

pytest.importorskip("fsspec", reason="needs fsspec: pip install -r requirements-cluster.txt")
pytest.importorskip("aiohttp", reason="needs aiohttp, with which fsspec opens http://")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's web server, which lists folders; with the ranges that a video is read in, which that lacks."""

    def do_GET(self):
        wanted = self.headers.get("Range")
        path = self.translate_path(self.path)
        if not wanted or not path.endswith(".mp4"):
            return super().do_GET()
        first, last = wanted.removeprefix("bytes=").split("-")
        content = open(path, "rb").read()
        part = content[int(first):int(last or len(content) - 1) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def photos(portrait, tmp_path_factory):
    """A folder with three portraits, a text and a short video, and its address on a web server."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "photos/day 2").mkdir(parents=True)
    for number, name in enumerate(("b.jpg", "a.png", "day 2/c.jpg")):
        picture = cv2.resize(portrait[0], (256 + 20 * number, 300), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "photos" / name), picture)
    (folder / "photos/notes.txt").write_text("no picture")
    write_video(folder / "clip.mp4", [cv2.resize(portrait[0], (256, 300))] * 30)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def rows_of(text):
    return list(csv.reader(text.splitlines()))


@pytest.fixture(scope="module")
def expected(photos):
    process = run_script("recognise_image.py", photos[0] / "photos", "--no-pictures", "--csv", "-")
    assert process.returncode == 0, process.stderr
    rows = rows_of(process.stdout)
    assert len(rows) == 4
    return rows


def assert_same_rows(said, expected, names):
    rows = rows_of(said)
    assert [row[0] for row in rows[1:]] == names and [row[1:] for row in rows] == [row[1:] for row in expected]


def test_a_folder_on_a_web_server(photos, expected, tmp_path):
    address = f"{photos[1]}/photos"
    process = run_script("recognise_image.py", address, "--csv", "-", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert_same_rows(process.stdout, expected, [f"{address}/{name}" for name in ("a.png", "b.jpg", "day%202/c.jpg")])
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*g")) == [
        "output_photos/a.png", "output_photos/b.jpg", "output_photos/day%202/c.jpg"]
    assert cv2.imread(str(tmp_path / "output_photos/b.jpg")).shape == (300, 256, 3)

    process = run_script("recognise_image.py", f"{address}/b.jpg", "--csv", "one.csv", cwd=tmp_path)
    assert process.returncode == 0 and rows_of(process.stdout) == [[f"{address}/b.jpg", *expected[2][1:8]]]
    assert (tmp_path / "output_b.jpg").is_file()


def test_pictures_in_an_archive_and_an_address_to_write_to(photos, expected, tmp_path):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("b.jpg", "a.png", "notes.txt"):
            file.write(photos[0] / "photos" / name, f"inner/{name}")
    process = run_script("recognise_image.py", f"zip://inner::file://{archive}", "--csv", "-", "--output",
                         f"file://{tmp_path}/drawn", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    names = [f"zip://inner/{name}::file://{archive}" for name in ("a.png", "b.jpg")]
    assert_same_rows(process.stdout, expected[:3], names)
    assert cv2.imread(str(tmp_path / "drawn/output_inner/b.jpg")).shape == (300, 256, 3)
    process = run_script("recognise_image.py", f"zip://inner/*.jpg::file://{archive}", "--no-pictures")
    assert [row[1:] for row in rows_of(process.stdout)] == [expected[2][1:8]]


def test_a_video_at_an_address(photos, tmp_path):
    folder, address = photos
    for place, table in ((f"{address}/clip.mp4", "there.csv"), (folder / "clip.mp4", "here.csv")):
        process = run_script("recognise_video.py", place, "--no-video", "--csv", table, cwd=tmp_path)
        assert process.returncode == 0, process.stderr
    rows = (tmp_path / "there.csv").read_text()
    assert rows == (tmp_path / "here.csv").read_text() and len(rows.splitlines()) == 31
    process = run_script("recognise_video.py", f"{address}/clip.mp4", cwd=tmp_path)
    assert process.returncode == 0 and (tmp_path / "clip_recognised.mp4").is_file(), process.stderr


def test_what_an_address_lacks_is_said(photos, tmp_path):
    address = photos[1]
    assert_refused(run_script("recognise_image.py", f"{address}/none.jpg", cwd=tmp_path), f"{address}/none.jpg")
    assert_refused(run_script("recognise_image.py", "http://127.0.0.1:9/a.jpg", cwd=tmp_path), "127.0.0.1:9/a.jpg")
    assert_refused(run_script("recognise_image.py", "no-such-thing://a/b.jpg", cwd=tmp_path), "no-such-thing")
    assert_refused(run_script("recognise_image.py", f"{address}/photos/day%202/none", cwd=tmp_path), "none")
    assert_refused(run_script("recognise_video.py", f"{address}/none.mp4", cwd=tmp_path), "none.mp4")
    assert_refused(run_script("recognise_video.py", f"{address}/photos/b.jpg", cwd=tmp_path), "a picture")
    assert not list(tmp_path.iterdir())
