"""The tables that the scripts write - CSV, JSON, JSON lines, Parquet - and the journal of what is done until then."""
import argparse
import contextlib
import csv
import importlib.util
import itertools
import json
import os
import sys
from pathlib import Path

from preprocessing import EXPRESSIONS, InputError, first_line, printable, written_whole

COLUMNS = ("file", "face", "x", "y", "width", "height", "expression", "probability", *EXPRESSIONS)
ROWS_AT_ONCE = 10_000  # that are held before they are written


def cell(path):
    """A path as a table's cell that neither a terminal nor a spreadsheet obeys: "=1+1.png" is "./=1+1.png"."""
    text = printable(str(path))
    return f"./{text}" if text.startswith(tuple("=+-@＝＋－＠")) else text


@contextlib.contextmanager
def csv_rows(path, columns):
    """Yield a function that adds a row to a new CSV file, or at once to standard output where the path is "-"."""
    if str(path) == "-":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        yield lambda row: writer.writerow(row) and sys.stdout.flush()
        return
    with written_whole(path) as [beside], open(beside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        yield writer.writerow


@contextlib.contextmanager
def json_rows(path, columns):
    """Yield a function that adds a row to a new JSON file, a list with an object for each."""
    with written_whole(path) as [beside], open(beside, "w", encoding="utf-8") as file:
        between = "["

        def add(row):
            nonlocal between
            file.write(f"{between}\n{json.dumps(dict(zip(columns, row)), ensure_ascii=False)}")
            between = ","

        yield add
        file.write("[]\n" if between == "[" else "\n]\n")


@contextlib.contextmanager
def jsonl_rows(path, columns):
    """Yield a function that adds a row to a new file of JSON lines, an object each."""
    with written_whole(path) as [beside], open(beside, "w", encoding="utf-8") as file:
        yield lambda row: file.write(json.dumps(dict(zip(columns, row)), ensure_ascii=False) + "\n")


@contextlib.contextmanager
def parquet_rows(path, columns):
    """Yield a function that adds a row to a new Parquet file."""
    import pyarrow
    from pyarrow import parquet

    kinds = {"file": pyarrow.string(), "expression": pyarrow.string(),
             **dict.fromkeys(("face", "x", "y", "width", "height"), pyarrow.int32())}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float32())) for name in columns])
    rows = []
    with written_whole(path) as [beside], parquet.ParquetWriter(beside, schema) as file:
        def write():
            file.write_table(pyarrow.table([list(column) for column in zip(*rows)], schema=schema))
            rows.clear()

        def add(row):
            rows.append(row)
            if len(rows) == ROWS_AT_ONCE:
                write()

        yield add
        if rows:
            write()


TABLES = {".csv": csv_rows, ".json": json_rows, ".jsonl": jsonl_rows, ".parquet": parquet_rows}


def read_rows(path):
    """Yield the rows of a table that one of TABLES has written, as they were given."""
    ending = path.suffix.lower()
    with contextlib.ExitStack() as stack:
        if ending == ".parquet":
            from pyarrow import parquet
            table = stack.enter_context(parquet.ParquetFile(path))
            found = (row for batch in table.iter_batches() for row in batch.to_pylist())
        else:
            file = stack.enter_context(open(path, newline="", encoding="utf-8"))
            found = csv.DictReader(file) if ending == ".csv" else (
                json.load(file) if ending == ".json" else map(json.loads, file))
        for row in found:
            yield [row["file"], *(int(row[name]) for name in COLUMNS[1:6]), row["expression"],
                   *(round(float(row[name]), 4) for name in COLUMNS[7:])]


class Journal:
    """What is done, in a file beside a table: a line of JSON for each picture, [its name, its rows].

    The table itself appears when all is done. A line that a killed process has left unfinished is dropped.
    """

    def __init__(self, table, model, resume):
        self.path, self.done = table.with_name(f"{table.name}.part"), set()
        if resume and self.path.exists():
            self._take_up(model)
            return
        self.file = open(self.path, "w", encoding="utf-8")
        self._write({"model": model})
        if resume and table.exists():
            try:
                for name, rows in itertools.groupby(read_rows(table), key=lambda row: row[0]):
                    self.done.add(name)
                    self.add(name, [row[1:] for row in rows])
            except (ValueError, LookupError, TypeError, OverflowError, RecursionError, OSError, csv.Error) as error:
                self.remove()
                raise InputError(f"{table} is not a table of an earlier run ({first_line(error)}): leave out --resume"
                                 ) from None

    def _take_up(self, model):
        with open(self.path, "rb") as file:
            if file.readline() != json.dumps({"model": model}).encode() + b"\n":
                raise InputError(f"{self.path} was begun with another model: take that one, or leave out --resume")
            end = file.tell()
            for line in file:
                try:
                    name, rows = json.loads(line)
                    whole = line.endswith(b"\n") and all(len(row) == len(COLUMNS) - 1 for row in rows)
                except (ValueError, TypeError, RecursionError):
                    whole = False
                if not whole:  # nor what comes after it
                    break
                self.done.add(name)
                end += len(line)
        os.truncate(self.path, end)
        self.file = open(self.path, "a", encoding="utf-8")

    def _write(self, entry):
        try:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
        except OSError as error:
            raise InputError(f"{self.path} cannot be written ({error.strerror}): what is done is kept there; make room "
                             "and give --resume") from None

    def add(self, name, rows):
        self._write([name, rows])

    def remove(self):
        self.file.close()  # Windows removes no open file
        self.path.unlink()

    def rows(self):
        """Yield all rows so far."""
        with open(self.path, encoding="utf-8") as file:
            next(file)
            for line in file:
                name, rows = json.loads(line)
                yield from ([name, *row] for row in rows)


def table_path(text):
    """An argument that names a table, its kind by the ending; "-" is CSV to standard output."""
    path = Path(text)
    if text != "-" and path.suffix.lower() not in TABLES:
        raise argparse.ArgumentTypeError(f"{text} is no table: end it in {', '.join(TABLES)}")
    if path.suffix.lower() == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise argparse.ArgumentTypeError(f"{text} needs pyarrow: pip install pyarrow")
    return path
