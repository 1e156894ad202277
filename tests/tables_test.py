"""Tables of every kind have the same rows, and a run that was killed goes on without losing or doubling one."""
import argparse
import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expressions.console import InputError
from expressions.tables import IMAGE_COLUMNS, VIDEO_COLUMNS, open_table, safe_cell, table_path

SUFFIXES = [".csv", ".json", ".jsonl", ".parquet"]
NUMBERS = [0.5, 0.0625, 0.0, 0.1, 0.2, 0.0375, 0.0]
ROWS = [["a.jpg", 1, 10, 20, 30, 40, "angry", 0.5, 0.1, *NUMBERS], ["a.jpg", 2, 1, 2, 3, 4, "sad", 1.0, 0.2, *NUMBERS],
        ["größe, \"b\".jpg", 0, *[""] * 14], ["NA", 1, 5, 6, 7, 8, "happy", 0.25, 0.3, *NUMBERS]]
VALUES = [[None if cell == "" else cell for cell in row] for row in ROWS]


def add_all(path, rows, resume=False):
    with open_table(path, IMAGE_COLUMNS, resume) as table:
        for name in dict.fromkeys(row[0] for row in rows):
            if name not in table.done:
                table.add(*(row for row in rows if row[0] == name))


def values_of(path):
    """The rows of a table by an independent reader."""
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert header == list(IMAGE_COLUMNS)
        return [[None if cell == "" else type(value)(cell) if value is not None else cell
                 for cell, value in zip(row, like)] for row, like in zip(rows, VALUES)] + rows[len(VALUES):]
    if path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        objects = parquet.read_table(path).to_pylist()
    else:
        text = path.read_text("utf-8")
        objects = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    assert all(list(row) == list(IMAGE_COLUMNS) for row in objects)
    return [list(row.values()) for row in objects]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_kinds_of_table_hold_the_rows_and_nothing_else_is_left(tmp_path, suffix):
    path = tmp_path / f"new/faces{suffix}"
    add_all(path, ROWS)
    assert values_of(path) == VALUES
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    add_all(path, [])  # begun anew
    assert values_of(path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_resuming_after_a_kill_at_any_byte_gives_each_row_once(tmp_path, suffix):
    add_all(tmp_path / "whole.csv", ROWS)
    whole = (tmp_path / "whole.csv").read_bytes()
    path = tmp_path / f"faces{suffix}"
    journal = path if suffix == ".csv" else tmp_path / f"faces{suffix}.part"
    row_ends = [end + 1 for end, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(0, len(whole) + 1, 1 if suffix == ".csv" else 50):
        if length != row_ends[1]:  # just between two rows of a file, which are written at once
            journal.write_bytes(whole[:length])
            add_all(path, ROWS, resume=True)
            assert values_of(path) == VALUES, length


def test_an_error_or_ctrl_c_keeps_the_rows_for_resuming(tmp_path):
    path = tmp_path / "faces.json"
    path.write_text("old")
    for error, rows in ((InputError, []), (InputError, ROWS[:1]), (KeyboardInterrupt, ROWS[2:3])):
        with pytest.raises(error), open_table(path, IMAGE_COLUMNS, resume=error is KeyboardInterrupt) as table:
            for row in rows:
                table.add(row)
            raise error("no more")
        assert path.read_text() == "old"
    with open_table(path, IMAGE_COLUMNS, resume=True) as table:
        assert table.done == {ROWS[0][0], ROWS[2][0]}
    assert values_of(path) == [VALUES[0], VALUES[2]]
    with (pytest.raises(InputError, match=r"faces.json is complete: .* give a \.csv table to add to"),
          open_table(path, IMAGE_COLUMNS, resume=True)):
        pass


@pytest.mark.parametrize("content", ["a,b\n1,2\n", ",".join(VIDEO_COLUMNS) + "\n"])
def test_a_file_that_is_no_table_of_images_is_not_resumed(tmp_path, content):
    path = tmp_path / "faces.csv"
    path.write_text(content)
    with (pytest.raises(InputError, match="is not a table of an earlier run"),
          open_table(path, IMAGE_COLUMNS, resume=True)):
        pass
    assert path.read_text() == content


def test_what_is_no_table_is_refused():
    for text, words in (("faces.txt", "end it in .csv, .json, .jsonl, .parquet"), ("s3://a/faces.csv", "local files")):
        with pytest.raises(argparse.ArgumentTypeError, match=words):
            table_path(text)
    assert table_path("a/b.JSON") == Path("a/b.JSON") and table_path("-") == Path("-")


def test_a_folder_or_a_full_disk_is_said(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    (tmp_path / "full.csv").symlink_to("/dev/full")
    for name, words in (("rows.csv", "is a folder"), ("full.csv", "cannot be written")):
        with pytest.raises(InputError, match=words), open_table(tmp_path / name, IMAGE_COLUMNS) as table:
            table.add(ROWS[0])


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
