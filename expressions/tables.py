"""Tables of faces: CSV, JSON, JSON lines and Parquet files that grow row by row and can be resumed.

A CSV is its own journal: what is in it is done. The others are made at the end from a CSV beside them, `<name>.part`.
"""
import argparse
import contextlib
import csv
import importlib.util
import itertools
import os
import sys
from pathlib import Path

from expressions.artifacts import replace_when_whole
from expressions.console import InputError, printable
from expressions.images import is_remote
from expressions.labels import EXPRESSIONS

FACE_COLUMNS = ("face", "x", "y", "width", "height", "expression", "probability", *EXPRESSIONS, "score",
                "guess", "second_guess")
IMAGE_COLUMNS = ("file", *FACE_COLUMNS, "error")
VIDEO_COLUMNS = ("frame", "time", *FACE_COLUMNS, "found", *(f"raw_{name}" for name in EXPRESSIONS))
LIVE_COLUMNS = (*VIDEO_COLUMNS, "clock")
TYPES = {**dict.fromkeys(VIDEO_COLUMNS, "float64"), **dict.fromkeys(("frame", "found", *FACE_COLUMNS[:5]), "Int32"),
         **dict.fromkeys(("file", "expression", "guess", "second_guess", "error", "clock"), "string")}
TABLE_SUFFIXES = {".csv": (), ".json": ("pandas",), ".jsonl": ("pandas",), ".parquet": ("pandas", "pyarrow")}  # need
STDOUT = Path("-")


def add_table_argument(parser, rows):
    """Add the flag --table to a parser; `rows` says in words what there is a row for."""
    parser.add_argument("--table", "--csv", "--json", type=table_path, metavar="FILE", help=f"also write a row {rows}, "
                        f"into a new file that ends in {', '.join(TABLE_SUFFIXES)}; - is CSV to standard output")


def table_path(text):
    """The argument that names a table, its kind by the suffix; "-" is CSV to standard output."""
    path = Path(text)
    needs = () if path == STDOUT else TABLE_SUFFIXES.get(path.suffix.lower())
    if needs is None or is_remote(text):
        raise argparse.ArgumentTypeError(f"{text} is no local file that ends in {', '.join(TABLE_SUFFIXES)}")
    if not all(map(importlib.util.find_spec, needs)):
        raise argparse.ArgumentTypeError(f"{text} needs more: pip install {' '.join(needs)}")
    return path


def safe_cell(text):
    r"""A path or sentence as a cell that neither a terminal nor a spreadsheet obeys: "=1+1.png" is "./=1+1.png".

    Control characters become \x1b and the like, and a backslash in a name becomes two: two names never share a cell.
    """
    text = printable(str(text) if os.sep == "\\" else str(text).replace("\\", r"\\"))
    return f"./{text}" if text.startswith(tuple("=+-@＝＋－＠")) else text


class Table:
    """A table that grows; `done` are the files whose rows were there before."""

    def __init__(self, path, columns):
        is_csv = path == STDOUT or path.suffix.lower() == ".csv"
        self.path, self.journal = path, path if is_csv else path.with_name(f"{path.name}.part")
        self.columns, self.done, self.is_begun = columns, set(), False

    def add(self, *rows):
        """Write rows, those of one file at once. Raises InputError where the disk is full."""
        rows, mode = (rows, "a") if self.is_begun else ([self.columns, *rows], "w")
        self.is_begun = True
        if self.path == STDOUT:
            csv.writer(sys.stdout, lineterminator="\n").writerows(rows)
            sys.stdout.flush()
            return
        try:
            with open(self.journal, mode, newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        except OSError as error:
            raise InputError(f"{self.journal} cannot be written ({error.strerror}): what is done is kept there; make "
                             "room and give --resume") from None

    def resume(self):
        """Go on with the journal, without the last two files: a kill may have torn their rows. Raises InputError."""
        def file_cell(line):
            return "".join(next(csv.reader([line.decode(errors="replace")]))[:1])

        with open(self.journal, "rb+") as file:
            header = file.readline()
            if not (",".join(self.columns) + "\n").encode().startswith(header):
                raise InputError(f"{self.journal} is not a table of an earlier run: leave out --resume")
            done = [(name, sum(map(len, lines))) for name, lines in itertools.groupby(file, file_cell)][:-2]
            file.truncate(len(header) + sum(size for _, size in done))
        self.done, self.is_begun = {name for name, _ in done}, bool(done)


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
    if resume and table.journal.exists():
        table.resume()
    elif resume and path.exists():
        raise InputError(f"{path} is complete: leave out --resume, or give a .csv table to add to")
    yield table
    if not table.is_begun:
        table.add()
    if path == table.journal:
        return
    import pandas

    rows = pandas.read_csv(table.journal, dtype=TYPES, keep_default_na=False, na_values=[""])
    with replace_when_whole(path) as [temporary]:
        if path.suffix.lower() == ".parquet":
            rows.to_parquet(temporary, index=False)
        else:  # pandas writes a/b as a\/b, and no row as an empty line
            text = rows.to_json(orient="records", lines=True, force_ascii=False).replace(r"\/", "/").lstrip()
            is_list = path.suffix.lower() == ".json"
            temporary.write_text(f"[{text.rstrip()}]\n".replace("\n{", ",\n{") if is_list else text, "utf-8")
    table.journal.unlink()
