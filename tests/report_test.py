"""Reports: their figures against the table of the same run, the page as a browser and a screen reader meet it."""
import base64
import csv
import html
import itertools
import json
import re
import shutil
import signal
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_video
from windows import RunningScript, frames_of, rows_of

import recognise_image
import recognise_video
from expressions.console import InputError
from expressions.labels import EXPRESSIONS, UNSURE

RATE = 20  # frames a second
NAME = "<b><!--<script>&amp;\"'$x.mp4"  # a name that must not become a part of the page


@pytest.fixture(scope="module")
def folder(portrait, tmp_path_factory):
    """A folder with the reports and the table of a video of two faces; one frowns, the other comes and goes."""
    folder, size = tmp_path_factory.mktemp("report"), (256, 300)
    frowning = portrait[0].copy()
    cv2.ellipse(frowning, (268, 310), (45, 30), 0, 180, 360, (20, 20, 40), 6)
    calm, angry = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (portrait[0], frowning))
    left = [np.zeros_like(calm)] * 4 + [calm] * 20 + [angry] * 30 + [calm] * 26
    right = [np.zeros_like(calm)] * 40 + [calm] * 15 + [np.zeros_like(calm)] * 9 + [calm] * 16
    write_video(folder / NAME, [np.hstack(pair) for pair in zip(left, right)], RATE)
    for suffix in ("html", "json"):
        recognise_video.main([str(folder / NAME), "--output", str(folder / "drawn.mp4"), "--table",
                              str(folder / "faces.csv"), "--report", str(folder / f"report.{suffix}"), "--quiet"])
    return folder


class Page(HTMLParser):
    """What is in a page: its tags with their attributes, its words, and the figures in it."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.figures = [], "", None
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, text):
        if self.tags and self.tags[-1][0] == "script" and text.strip():
            self.figures = json.loads(text)
        self.text += text

    def all(self, *names):
        return [attributes for tag, attributes in self.tags if tag in names]


def test_the_figures_of_a_video_are_those_of_its_table(folder):
    [figures] = json.loads((folder / "report.json").read_text())["sections"]
    assert figures["seconds"] == 80 / RATE and figures["frames"] == 80 and figures["is_complete"]
    rows = rows_of(folder / "faces.csv")
    by_face = {number: [row for row in rows if row["face"] == number] for number in {row["face"] for row in rows}}
    assert [face["face"] for face in figures["faces"]] == sorted(map(int, by_face), key=lambda n: -len(by_face[str(n)]))
    assert len(by_face) == 2 and figures["faces"][0]["changes"] >= 1 < len(figures["faces"][1]["timeline"])
    for face in figures["faces"]:
        mine = by_face[str(face["face"])]
        labels = [row["expression"] for row in mine]
        assert face["seconds"] == pytest.approx(len(mine) / RATE)
        assert face["shares"] == pytest.approx(
            {name: labels.count(name) / len(mine) for name in (*EXPRESSIONS, UNSURE)}, abs=1e-5)
        assert face["changes"] == sum(one != other for one, other in itertools.pairwise(labels))
        keys = ((row["expression"], int(row["frame"]) - number) for number, row in enumerate(mine))  # stops at gaps
        runs = [[row for _, row in group] for _, group in itertools.groupby(zip(keys, mine), lambda pair: pair[0])]
        longest = max(runs, key=len)
        assert face["longest"] == {"expression": longest[0]["expression"], "from": float(longest[0]["time"]),
                                   "seconds": pytest.approx(len(longest) / RATE)}
        assert [[name, pytest.approx(until - start)] for start, until, name in face["timeline"]] == [
            [run[0]["expression"], len(run) / RATE] for run in runs]
        assert set(face["strongest"]) == set(labels) - {UNSURE}
        for name, moment in face["strongest"].items():
            best = max(float(row["probability"]) for row in mine if row["expression"] == name)
            assert moment["probability"] == best
            assert (f"{moment['at']:.3f}", best, name) in [
                (row["time"], float(row["probability"]), row["expression"]) for row in mine]


def test_the_page_has_the_same_figures_thumbnails_of_the_face_and_loads_nothing(folder):
    page, text = Page(folder / "report.html"), (folder / "report.html").read_text()
    assert page.figures == json.loads((folder / "report.json").read_text())
    assert NAME in page.text and "<b>" not in text and "<!--" not in text
    assert all(url.startswith("data:image/jpeg;base64,") for url in re.findall(r'(?:src|href)="([^"]*)', text))
    assert not re.search(r"url\(|@import|https?:", text)
    pictures = [cv2.imdecode(np.frombuffer(base64.b64decode(image["src"].partition(",")[2]), np.uint8), 1)
                for image in page.all("img")]
    moments = [(str(face["face"]), moment["at"]) for face in page.figures["sections"][0]["faces"]
               for moment in face["strongest"].values()]
    frames, rows = frames_of(folder / NAME), rows_of(folder / "faces.csv")
    assert len(pictures) == len(moments)
    for picture, moment in zip(pictures, moments):  # of the frame and the place, and no box is drawn over it
        [row] = [row for row in rows if (row["face"], float(row["time"])) == moment]
        x, y, width, height = (int(row[key]) for key in ("x", "y", "width", "height"))
        side, first, above = round(1.3 * width), max(0, x - width // 2), max(0, y - height // 2)
        around = frames[round(moment[1] * RATE)][1][above:y + 3 * height // 2, first:x + 3 * width // 2]
        found = cv2.matchTemplate(around, cv2.resize(picture, (side, side)), cv2.TM_CCOEFF_NORMED)
        top, left = np.array([above, first]) + np.unravel_index(found.argmax(), found.shape)
        assert found.max() > 0.95 and np.hypot(left + side / 2 - x - width / 2, top + side / 2 - y - height / 2) < 3


def test_a_screen_reader_finds_its_way(folder):
    page = Page(folder / "report.html")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.all("html") == [{"lang": "en"}] and len(page.all("caption")) == len(page.all("table")) == 2
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert [svg["role"] for svg in page.all("svg") if "class" in svg] == ["img", "img"] and len(page.all("desc")) == 2


@pytest.fixture
def images(portrait, tmp_path, monkeypatch):
    """A current folder with three faces, an image without one, and one that is damaged, all oddly named."""
    monkeypatch.chdir(tmp_path)
    for number, factor in enumerate((0.5, 0.6, 0.7)):
        smaller = cv2.resize(portrait[0], None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        cv2.imwrite(f"<i>{number}&.png", smaller)
    cv2.imwrite("empty.png", portrait[0][450:])
    Path("damaged.png").write_text("no image")


def check_images(report, table):
    [figures] = report["sections"]
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    faces = [row for row in rows if row["expression"]]
    assert (figures["images"], figures["faces"]) == (len({row["file"] for row in rows}), len(faces))
    assert figures["counts"] == {name: Counter(row["expression"] for row in faces)[name] for name in figures["counts"]}
    assert figures["images_without_a_face"] == len([row for row in rows if row["face"] == "0"])
    assert figures["unreadable_images"] == len([row for row in rows if row["error"]])
    for name, surest in figures["surest"].items():
        best = max((row for row in faces if row["expression"] == name), key=lambda row: float(row["probability"]))
        assert [surest["file"], str(surest["probability"]), *map(str, [surest["face"], *surest["box"]])] == [
            best[key] for key in ("file", "probability", "face", "x", "y", "width", "height")]
    return figures


def test_images_are_summed_up_before_and_after_a_stop(images, monkeypatch, capsys):
    command = [".", "--no-images", "--table", "faces.csv", "--report", "r.html"]
    with monkeypatch.context() as patch:
        answers = iter([recognise_image.keep] * 4)
        patch.setattr(recognise_image, "keep", lambda *arguments: next(answers, _interrupt)(*arguments))
        with pytest.raises(KeyboardInterrupt):
            recognise_image.main(command)
    assert check_images(Page(Path("r.html")).figures, "faces.csv")["images_not_done"] == 1
    assert "4 images: " in capsys.readouterr().err
    with pytest.raises(InputError, match="damaged"):
        recognise_image.main([*command, "--resume"])
    page = Page(Path("r.html"))
    figures = check_images(page.figures, "faces.csv")
    assert (figures["images"], figures["faces"], figures["images_not_done"]) == (5, 3, 0)
    surest = Path(figures["surest"]["neutral"]["file"]).name
    assert re.fullmatch(r"<i>\d&\.png", surest) and surest in page.text.partition("{\"sections\"")[0]
    assert all(bar.keys() == {"style"} for bar in page.all("i"))
    assert len(page.all("img")) == len(figures["surest"]) and all("data" in image["src"] for image in page.all("img"))
    assert "5 images: 3 faces. 1 image without one, 1 unreadable. They look 100% neutral." in capsys.readouterr().err


def _interrupt(*arguments):
    raise KeyboardInterrupt


def test_ctrl_c_leaves_a_report_of_what_was_done(portrait, tmp_path):
    long = write_video(tmp_path / "long.mp4", [cv2.resize(portrait[0], (256, 300))] * 1000)
    script = RunningScript(tmp_path, "recognise_video.py", long, "--no-video", "--table", "faces.csv",
                           "--report", "r.json")
    script.wait_for_rows(20)
    script.process.send_signal(signal.SIGINT)
    assert "The run ended before the video did." in script.finish(status=130)
    [figures] = json.loads((tmp_path / "r.json").read_text())["sections"]
    rows = rows_of(tmp_path / "faces.csv")
    assert abs(figures["frames"] - len(rows)) <= 1 and not figures["is_complete"]
    assert figures["seconds"] == pytest.approx(figures["frames"] / 25) and figures["frames"] < 1000


def test_a_video_without_a_face_and_places_that_no_report_can_have(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "black.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3)
    recognise_video.main(["black.mp4", "--no-video", "--report", "new/black.html"])
    assert "black.mp4: 0.1 s, 0 faces.\n" in capsys.readouterr().err and Page(Path("new/black.html")).figures
    for place in ("r.pdf", "s3://bucket/r.html", "black.mp4/r.html", "new/black.html/r.html"):
        with pytest.raises(SystemExit):
            recognise_video.main(["black.mp4", "--report", place])
        assert place in capsys.readouterr().err
    with pytest.raises(InputError, match="written over"):
        recognise_video.main(["black.mp4", "--table", "r.json", "--report", "r.json"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("width", [320, 1200])
def test_a_browser_needs_no_sideways_scrolling_and_asks_for_nothing(folder, tmp_path, width):
    if not shutil.which("chromium"):
        pytest.skip("needs a browser: apt install chromium")
    (tmp_path / "frame.html").write_text(
        f'<iframe width={width} height=900 srcdoc="{html.escape((folder / "report.html").read_text())}" onload="'
        "const page = contentDocument; document.title = [page.documentElement.scrollWidth, page.images[0].naturalWidth,"
        ' contentWindow.performance.getEntriesByType(`resource`).length]"></iframe>')
    said = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
                           "--disable-background-networking", f"--user-data-dir={tmp_path}/profile",
                           f"file://{tmp_path}/frame.html"], capture_output=True, text=True, timeout=120).stdout
    page_width, picture_width, requests = map(int, re.search(r"<title>(\d+),(\d+),(\d+)", said).groups())
    assert page_width <= width and picture_width == 128 and requests == 0
