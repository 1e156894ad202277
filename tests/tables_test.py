"""Tables of every kind have the same rows, and a run that was killed goes on without losing or doubling one."""
import argparse
import csv
import importlib.util
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expressions.console import InputError
from expressions.tables import IMAGE_COLUMNS, VIDEO_COLUMNS, open_table, safe_cell, table_path

SUFFIXES = [".csv", ".json", ".jsonl", ".parquet"]
NUMBERS = [0.0625, 0.0, 0.1, 0.2, 0.0375, 0.0, 1.0, 7.0, "sad", "fear"]  # the seven, the score, two guesses
ROWS = [["a/a.jpg", 1, 10, 20, 30, 40, "angry", 0.5, *NUMBERS, None],
        ["a/a.jpg", 2, 1, 2, 3, 4, "sad", 1.0, *NUMBERS, None], ["größe, \"b\".jpg", 0, *[None] * 17],
        ["NA", *[None] * 17, "it is\\n damaged"], ["007", 1, 5, 6, 7, 8, "happy", 0.25, *NUMBERS, None]]


def add_all(path, rows, resume=False):
    with open_table(path, IMAGE_COLUMNS, resume) as table:
        for name in dict.fromkeys(row[0] for row in rows):
            if name not in table.done:
                table.add(*(row for row in rows if row[0] == name))


def assert_holds(path, rows):
    """By independent readers; only a CSV has no types."""
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            assert list(csv.reader(file)) == [["" if cell is None else str(cell) for cell in row]
                                              for row in (IMAGE_COLUMNS, *rows)]
        return
    if path.suffix == ".parquet":
        objects = pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    else:
        text = path.read_text("utf-8")
        objects = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    assert repr(objects) == repr([dict(zip(IMAGE_COLUMNS, row)) for row in rows])  # 1 is not 1.0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_kinds_of_table_hold_the_rows_and_nothing_else_is_left(tmp_path, suffix):
    path = tmp_path / f"new/faces{suffix}"
    for rows in (ROWS, []):  # begun anew
        add_all(path, rows)
        assert_holds(path, rows)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_resuming_after_a_kill_at_any_byte_gives_each_row_once(tmp_path, suffix):
    add_all(tmp_path / "whole.csv", ROWS)
    whole = (tmp_path / "whole.csv").read_bytes()
    path = tmp_path / f"faces{suffix}"
    journal = path if suffix == ".csv" else tmp_path / f"faces{suffix}.part"
    for length in range(0, len(whole) + 1, 1 if suffix == ".csv" else 50):
        journal.write_bytes(whole[:length])
        add_all(path, ROWS, resume=True)
        assert_holds(path, ROWS)


def test_an_error_or_ctrl_c_keeps_the_rows_for_resuming(tmp_path):
    path = tmp_path / "faces.json"
    path.write_text("old")
    for error, names in ((InputError, []), (InputError, ["a", "b", "c"]), (KeyboardInterrupt, ["b", "c", "d"])):
        with pytest.raises(error), open_table(path, IMAGE_COLUMNS, resume=error is KeyboardInterrupt) as table:
            for name in names:
                table.add([name, 0, *[None] * 17])
            raise error("no more")
        assert path.read_text() == "old"
    with open_table(path, IMAGE_COLUMNS, resume=True) as table:
        assert table.done == {"a", "b"}  # all but two
    assert_holds(path, [["a", 0, *[None] * 17], ["b", 0, *[None] * 17]])
    with (pytest.raises(InputError, match=r"faces.json is complete: .* give a \.csv table to add to"),
          open_table(path, IMAGE_COLUMNS, resume=True)):
        pass


def test_what_is_no_table_or_needs_packages_is_refused_at_once(monkeypatch):
    assert table_path("a/b.CSV") == Path("a/b.CSV") and table_path("-") == Path("-")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for text, words in (("faces.txt", "local file that ends in .csv, .json,"), ("s3://a/faces.csv", "local file"),
                        ("a.json", "pip install pandas$"), ("a.parquet", "pip install pandas pyarrow$")):
        with pytest.raises(argparse.ArgumentTypeError, match=words):
            table_path(text)


def test_a_folder_a_full_disk_or_a_file_of_another_kind_is_said(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    (tmp_path / "full.csv").symlink_to("/dev/full")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "video.csv").write_text(",".join(VIDEO_COLUMNS) + "\n")
    for name, words in (("rows.csv", "is a folder"), ("full.csv", "cannot be written"),
                        ("other.csv", "is not a table of an earlier"), ("video.csv", "is not a table of an earlier")):
        with (pytest.raises(InputError, match=words),
              open_table(tmp_path / name, IMAGE_COLUMNS, resume=name != "full.csv") as table):
            table.add(ROWS[0])
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"


NAMES = st.builds("{}{}".format, st.sampled_from(["", *"=+-@＝＋－＠\t\r\n "]), st.text(st.characters(codec=None)))


@settings(max_examples=200, deadline=None)
@given(NAMES, NAMES)
def test_a_cell_is_no_formula_controls_nothing_and_stands_for_one_name(name, other):
    cell = safe_cell(Path(name))
    assert cell[0] not in "=+-@＝＋－＠\t\r\n" and all(letter.isprintable() or letter in "\u200c\u200d"
                                                      for letter in cell)
    assert cell.encode().decode() == cell  # no half of a surrogate pair
    assert (safe_cell(Path(other)) == cell) == (Path(other) == Path(name))
    assert safe_cell("a\x1b.png") != safe_cell("a\\x1b.png") and safe_cell("=1+1.png") == "./=1+1.png"
