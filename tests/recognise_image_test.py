"""recognise_image.py from one portrait to folders: rows, images and tables, and runs that are cut short."""
import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, kill
from windows import RunningScript

import recognise_image
from expressions.console import InputError
from expressions.labels import EXPRESSIONS
from expressions.recognition import Recogniser
from expressions.tables import IMAGE_COLUMNS
from recognise_image import main


@pytest.fixture(autouse=True)
def current_folder(tmp_path, monkeypatch):
    """Every test has a folder of its own to stand in."""
    monkeypatch.chdir(tmp_path)


def rows_of(text):
    return list(csv.reader(text.splitlines()))


def table_rows(path):
    header, *rows = rows_of(Path(path).read_text("utf-8"))
    assert header == list(IMAGE_COLUMNS)
    return rows


@pytest.fixture
def expected(portrait, monkeypatch):
    """The rows of `photos`, one image after the other in this process.

    The folder holds ten images of one face, of different sizes, in two folders, and one image without a face.
    """
    Path("photos/day 2").mkdir(parents=True)
    for number in range(10):
        image = cv2.resize(portrait[0], (220 + 4 * number, 258 + 4 * number), interpolation=cv2.INTER_AREA)
        cv2.imwrite(f"photos/{'day 2/' if number % 3 else ''}{number}.jpg", image)
    cv2.imwrite("photos/empty.png", portrait[0][450:])
    with monkeypatch.context() as patch:
        patch.setattr(recognise_image, "MIN_IMAGES_FOR_POOL", 100)
        main(["photos", "--table", "expected.csv", "--no-images", "--quiet"])
    rows = table_rows("expected.csv")
    assert [row[0] for row in rows] == [f"photos/{name}" for name in (
        "0.jpg", "3.jpg", "6.jpg", "9.jpg", *(f"day 2/{number}.jpg" for number in (1, 2, 4, 5, 7, 8)), "empty.png")]
    assert [row[1] for row in rows] == ["1"] * 10 + ["0"] and rows[-1][2:] == [""] * 17
    return rows


def test_the_portrait_is_recognised_without_an_image_or_a_display(portrait, no_display, capsys):
    main(["--show"])
    out, err = capsys.readouterr()
    [[file, number, x, y, width, height, expression, probability]] = rows_of(out)
    assert file.endswith("grace_hopper.jpg") and number == "1"
    assert abs(int(x) + int(width) / 2 - 268) < 20 and abs(int(y) + int(height) / 2 - 215) < 30
    assert expression in EXPRESSIONS and 1 / 7 < float(probability) <= 1
    changed = np.abs(cv2.imread("output_grace_hopper.jpg").astype(int) - portrait[0]).max(axis=2) > 60
    assert changed[int(y):int(y) + int(height), int(x) - 1:int(x) + 3].mean() > 0.5  # the box's left side
    assert not changed[450:].any()
    assert "open output_grace_hopper.jpg" in err and err.endswith("wrote output_grace_hopper.jpg: 1 face in 1 image\n")
    main(["--no-images", "--quiet", "--min-score", "1000"])
    assert capsys.readouterr() == ("", "")


def test_a_bad_file_has_its_error_in_the_table_and_does_not_stop_the_others(portrait, capsys):
    names = ["=1.jpg", "\x1b[31mred.jpg", "größe 表情.jpg", "two\nlines.jpg"]
    cells = ["./=1.jpg", "\\x1b[31mred.jpg", "größe 表情.jpg", "two\\nlines.jpg"]  # no terminal or spreadsheet obeys
    for name in names[1:]:
        Path(name).symlink_to(portrait[1])
    Path(names[0]).write_text("no image")
    command = [*names, "none.jpg", "--csv", "rows.csv"]
    with pytest.raises(InputError) as refusal:
        main(command)
    headline, *sentences = refusal.value.args
    assert headline == "2 of 5 images could not be read:"
    assert "=1.jpg is damaged" in sentences[0] and "none.jpg cannot be opened (No such file" in sentences[1]
    rows, (out, err) = table_rows("rows.csv"), capsys.readouterr()
    assert [row[:8] for row in rows[1:4]] == rows_of(out)
    assert "wrote images into this folder, rows.csv: 3 faces in 3 images, 0 without one" in err
    assert [[row[0], row[1], row[-1]] for row in rows] == [
        [cells[0], "", sentences[0]], *([cell, "1", ""] for cell in cells[1:]), ["none.jpg", "", sentences[1]]]
    assert Path("output_two\nlines.jpg").exists() and not Path("output_=1.jpg").exists()
    with pytest.raises(InputError, match=r"none.jpg cannot be opened"):  # the last two are done again
        main([*command, "--resume"])
    assert table_rows("rows.csv") == rows


@pytest.mark.parametrize("arguments, words", [
    (["me.jpg", "--output", "me.jpg"], "me.jpg would be written over"),
    (["me.jpg", "other/me.jpg"], "output_me.jpg would be written over"),
    (["other", "nested/other", "--output", "out/"], "out/output_other/me.jpg would be written over"),
    (["me.jpg", "output_me.jpg"], "output_me.jpg would be written over"),
    (["me.jpg", "--resume"], "give --table FILE")])
def test_nothing_is_written_over(arguments, words, portrait):
    for name in ("me.jpg", "output_me.jpg", "other/me.jpg", "nested/other/me.jpg", "output_other/me.jpg"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).write_bytes(portrait[1].read_bytes())
    before = sorted(Path().rglob("*"))
    with pytest.raises(InputError, match=words):
        main(arguments)
    assert sorted(Path().rglob("*")) == before and Path("me.jpg").read_bytes() == portrait[1].read_bytes()


def test_several_images_go_into_a_folder_and_a_pattern_can_run_twice(portrait, capsys):
    cv2.imwrite("other.png", portrait[0][::2, ::2])
    Path("out").mkdir()
    main([str(portrait[1]), "other.png", "--output", "out"])
    assert sorted(path.name for path in Path("out").iterdir()) == ["output_grace_hopper.jpg", "output_other.png"]
    out, err = capsys.readouterr()
    rows = rows_of(out)
    assert [row[0] for row in rows] == [str(portrait[1]), "other.png"]
    assert "wrote images into out: 2 faces in 2 images" in err
    assert abs(int(rows[0][4]) / 2 - int(rows[1][4])) < 12  # half the size, half the box
    for _ in range(2):
        main(["*.png"])
        assert rows_of(capsys.readouterr().out) == rows[1:]
    main(["other.png", "--output", "no ending"])
    assert sorted(path.name for path in Path().glob("*.png")) == ["no ending.png", "other.png", "output_other.png"]


def test_several_processes_give_the_rows_of_one(expected, capsys):
    main(["photos", "--jobs", "2", "--json", "faces.json"])
    out, err = capsys.readouterr()
    assert rows_of(out) == [row[:8] for row in expected if row[1] != "0"]
    assert "wrote images into output_photos, faces.json: 10 faces in 11 images, 1 without one" in err
    objects = json.loads(Path("faces.json").read_text("utf-8"))
    assert [[str("" if value is None else value) for value in row.values()] for row in objects] == expected
    outputs = sorted(path.as_posix() for path in Path("output_photos").rglob("*.*"))
    assert outputs == sorted(f"output_{row[0]}" for row in expected) and not list(Path().glob("*.part"))


def processes_here():
    """The processes that run in the current folder, this one left out."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if link.readlink() == Path.cwd():
                found.add(int(link.parent.name))
    return found - {os.getpid()}


def begin(*more):
    """Begin a run that writes the rows of `photos` and of 40 images more to faces.csv; return it and its arguments."""
    for number in range(10, 50):
        if not Path(f"photos/{number}.jpg").is_symlink():
            Path(f"photos/{number}.jpg").symlink_to("9.jpg")
    command = ["photos", "--table", "faces.csv", "--no-images", "--detector", "haar", *more]
    return RunningScript(Path.cwd(), "recognise_image.py", *command), command


def assert_done_once(expected, passed_over=()):
    rows = [row for row in table_rows("faces.csv") if row not in passed_over]
    assert [row for row in rows if row in expected] == expected and len({row[0] for row in rows}) == len(rows) == 51


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_run_that_is_killed_or_gets_ctrl_c_leaves_no_process_and_is_resumed(expected, capfd, name):
    script, command = begin("--jobs", "2")
    script.wait_for_rows(5)
    for process in [script.process.pid] if name == "SIGKILL" else processes_here():  # a terminal tells all of them
        os.kill(process, getattr(signal, name))
    said = script.finish(-signal.SIGKILL if name == "SIGKILL" else 130)
    assert name == "SIGKILL" or ("leaked" not in said and "--resume" in said.splitlines()[-1])
    while processes_here():  # they end by themselves
        time.sleep(0.01)
    assert 4 <= len(table_rows("faces.csv")) < 51
    main([*command, "--resume"])
    assert " were done before" in capfd.readouterr().err
    assert_done_once(expected)


def test_a_terminal_shows_rows_and_progress_in_lines_of_their_own(expected):
    pytest.importorskip("pty", reason="Windows has no pseudo terminals")
    command = f"stty rows 24 cols 100; '{sys.executable}' '{ROOT}/recognise_image.py' photos --no-images"
    command += " --detector haar"
    process = subprocess.run([sys.executable, "-c", "import pty, sys; pty.spawn(['sh', '-c', sys.argv[1]])", command],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True)
    lines = [line.rpartition("\r")[2] for line in process.stdout.replace("\r\n", "\n").split("\n")]
    assert [line for line in lines if line.startswith("photos/")] == [
        ",".join(row[:8]) for row in expected if row[1] != "0"]
    assert "11/11" in process.stdout


def test_addresses_are_read_and_written(expected, capsys):
    pytest.importorskip("fsspec", reason="pip install -r requirements-cluster.txt")
    here = Path.cwd()
    main([f"file://{here}/photos/day 2", "--csv", "-", "--output", f"file://{here}/drawn"])
    out, err = capsys.readouterr()
    assert rows_of(out) == [list(IMAGE_COLUMNS), *([f"file://{here}/{row[0]}", *row[1:]] for row in expected[4:10])]
    assert f"wrote images into file://{here}/drawn: 6 faces" in err
    assert len(list(Path("drawn/output_day 2").glob("*.jpg"))) == 6


# ---- a cluster ---------------------------------------------------------------------------------

@pytest.mark.exhaustive
def test_a_cluster_gives_the_same_rows_while_schedulers_and_workers_come_and_go(expected, dask):
    address, start = dask
    scheduler = start("scheduler")
    script, _ = begin("--scheduler", address)  # there is no worker yet: it waits
    start("worker")
    script.wait_for_rows(5)
    kill(scheduler)
    assert "--resume" in script.finish(status=2).splitlines()[-1]
    start("scheduler")
    script, _ = begin("--scheduler", address, "--resume")
    first = start("worker")
    script.wait_for_rows(20)
    start("worker")  # joins late
    kill(first)
    script.finish()
    assert_done_once(expected)


@pytest.mark.exhaustive
def test_an_image_that_takes_all_memory_is_named_and_the_others_are_done(expected, dask):
    address, start = dask
    cv2.imwrite("photos/0 poison.png", cv2.resize(cv2.imread("photos/0.jpg"), (10900, 10900)))
    start("scheduler")
    start("worker")  # only one, so that others always wait beside the image
    begin("--scheduler", address)[0].finish(status=2)
    [poisoned] = [row for row in table_rows("faces.csv") if row[1] == ""]
    assert poisoned[-1].startswith("photos/0 poison.png: ended the process that worked on it")
    assert_done_once(expected, [poisoned])


def test_an_explanation_has_a_row_for_each_face(portrait, tmp_path):
    two = cv2.resize(np.hstack([portrait[0], portrait[0]]), None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "two.png"), two)
    recognise_image.main([str(tmp_path / "two.png"), "--explain", "--output", str(tmp_path / "out.jpg")])
    picture = cv2.imread(str(tmp_path / "out_explained.png"))
    np.testing.assert_array_equal(picture, Recogniser().explain(two))  # of the image without boxes
    left, right = (row[:, :288].astype(int) for row in np.vsplit(picture, 2))
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.8  # the same face
    with pytest.raises(InputError, match="out_explained.png would be written over"):
        recognise_image.main([str(tmp_path / "out_explained.png"), "--explain", "--output", str(tmp_path / "out.jpg")])
    with pytest.raises(InputError, match="leave out --no-images"):
        recognise_image.main([str(tmp_path / "two.png"), "--explain", "--no-images"])
