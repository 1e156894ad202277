"""Tables of faces: CSV, JSON, JSON lines and Parquet files that grow row by row and can be resumed.

A CSV is its own journal: what is in it is done. The others are made at the end from a CSV beside them, `<name>.part`.
"""
import argparse
import contextlib
import csv
import importlib.util
import io
import json
import os
from pathlib import Path

from expressions.artifacts import replace_when_whole
from expressions.console import InputError, printable
from expressions.images import is_remote
from expressions.labels import EXPRESSIONS

IMAGE_COLUMNS = ("file", "face", "x", "y", "width", "height", "expression", "probability", *EXPRESSIONS, "score")
VIDEO_COLUMNS = ("frame", "time", *IMAGE_COLUMNS[1:])
TABLE_SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")
TEXTS, COUNTS = ("file", "expression"), ("frame", "face", "x", "y", "width", "height")  # the other columns: fractions
STDOUT = Path("-")


def table_path(text):
    """The argument that names a table, its kind by the suffix; "-" is CSV to standard output."""
    path = Path(text)
    if is_remote(text):
        raise argparse.ArgumentTypeError(f"{text} is an address: tables are written to local files")
    if path != STDOUT and path.suffix.lower() not in TABLE_SUFFIXES:
        raise argparse.ArgumentTypeError(f"{text} is no table: end it in {', '.join(TABLE_SUFFIXES)}")
    if path.suffix.lower() == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise argparse.ArgumentTypeError(f"{text} needs pyarrow: pip install pyarrow")
    return path


def safe_cell(path):
    r"""A path as a cell that neither a terminal nor a spreadsheet obeys: "=1+1.png" is "./=1+1.png".

    Control characters become \x1b and the like, and where a backslash is a letter of a name it becomes two, so that two
    names never share a cell.
    """
    text = printable(str(path) if os.sep == "\\" else str(path).replace("\\", r"\\"))
    return f"./{text}" if text.startswith(tuple("=+-@＝＋－＠")) else text


class Table:
    """A table that grows; `done` are the files whose rows were there before."""

    def __init__(self, path, columns):
        is_csv = path == STDOUT or path.suffix.lower() == ".csv"
        self.path, self.journal = path, path if is_csv else path.with_name(f"{path.name}.part")
        self.columns, self.done, self.is_begun = columns, set(), False

    def add(self, *rows):
        """Write rows, those of one file at once, so that a kill hardly ever leaves a part of them."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows if self.is_begun else [self.columns, *rows])
        mode, self.is_begun = "a" if self.is_begun else "w", True
        if self.path == STDOUT:
            print(text.getvalue(), end="", flush=True)
            return
        try:
            with open(self.journal, mode, newline="", encoding="utf-8") as file:
                file.write(text.getvalue())
        except OSError as error:
            raise InputError(f"{self.journal} cannot be written ({error.strerror}): what is done is kept there; make "
                             "room and give --resume") from None

    def resume(self):
        """Find out what is done, and cut off the rows of the last file if one is torn. Raises InputError."""
        if not self.journal.exists():
            if self.path.exists():
                raise InputError(f"{self.path} is complete: leave out --resume, or give a .csv table to add to")
            return
        done, last_start = [], 0  # where the last file's rows begin
        with open(self.journal, "rb+") as file:
            header, expected = file.readline(), (",".join(self.columns) + "\n").encode()
            if not expected.startswith(header):
                raise InputError(f"{self.journal} is not a table of an earlier run: leave out --resume")
            end = len(header)
            for line in file:
                row = next(csv.reader([line.decode(errors="replace")]), [])
                if not line.endswith(b"\n") or len(row) != len(self.columns):  # nor is what comes after it whole
                    done, end = done[:-1], last_start or end
                    break
                if row[:1] != done[-1:]:
                    done.append(row[0])
                    last_start = end
                end += len(line)
            file.truncate(end)
        self.done, self.is_begun = set(done), bool(done)

    def finish(self):
        """Make a table of another kind than CSV from its journal, which then goes away."""
        if not self.is_begun:
            self.add()
        if self.path != self.journal:
            with replace_when_whole(self.path) as [temporary]:
                write = _write_parquet if self.path.suffix.lower() == ".parquet" else _write_json
                write(temporary, self.journal)
            self.journal.unlink()


@contextlib.contextmanager
def open_table(path, columns, resume=False):
    """Yield a Table that writes to a new file, or with `resume` goes on with the one there is.

    After an error or Ctrl-C the rows so far are kept, for `resume`; what fails before the first row leaves the old
    file. Raises InputError where the file cannot be written, or is not one to resume.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the path of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = Table(path, columns)
    if resume:
        table.resume()
    yield table
    table.finish()


def _write_json(path, journal):
    """Write an object for each row: in .json a list of them, in .jsonl a line for each."""
    is_list = path.suffix.lower() == ".json"
    with open(journal, newline="", encoding="utf-8") as rows, open(path, "w", encoding="utf-8") as file:
        file.write("[" * is_list)
        for number, row in enumerate(csv.DictReader(rows)):
            numbers = {name: json.loads(cell or "null") for name, cell in row.items() if name not in TEXTS}
            text = json.dumps({name: numbers.get(name, cell or None) for name, cell in row.items()}, ensure_ascii=False)
            file.write(f"{',' * (number > 0)}\n{text}" if is_list else f"{text}\n")
        file.write("\n]\n" * is_list)


def _write_parquet(path, journal):
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    types = {**dict.fromkeys(VIDEO_COLUMNS, "float64"), **dict.fromkeys(COUNTS, "int32"),
             **dict.fromkeys(TEXTS, "string")}
    options = arrow_csv.ConvertOptions(null_values=[""], strings_can_be_null=True, column_types=types)
    with (arrow_csv.open_csv(journal, convert_options=options) as batches,
          parquet.ParquetWriter(path, batches.schema) as file):
        for batch in batches:
            file.write_batch(batch)
