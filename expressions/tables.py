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
from expressions.console import InputError, first_line, printable
from expressions.images import is_remote
from expressions.labels import EXPRESSIONS

IMAGE_COLUMNS = ("file", "face", "x", "y", "width", "height", "expression", "probability", *EXPRESSIONS, "score")
VIDEO_COLUMNS = ("frame", "time", *IMAGE_COLUMNS[1:])
TABLE_SUFFIXES = (".csv", ".json", ".jsonl", ".parquet")
COLUMN_TYPES = {"file": str, "expression": str,  # the others are float
                **dict.fromkeys(("frame", "face", "x", "y", "width", "height"), int)}
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
    """Where rows go, and `done`: the set of files whose rows were there before, None on standard output."""

    def __init__(self, write, done):
        self.write, self.done = write, done

    def add(self, *rows):
        """Write rows, those of one file at once, so that a kill hardly ever leaves a part of them."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.write(text.getvalue())


@contextlib.contextmanager
def open_table(path, columns, resume=False):
    """Yield a Table that writes to a new file, or with `resume` goes on with the one there is.

    Ctrl-C ends a table as any other end does. After an error the rows so far are kept, for `resume`. Raises InputError
    where the file cannot be written, or is not one to resume.
    """
    if path == STDOUT:
        table = Table(lambda text: print(text, end="", flush=True), None)
        table.add(columns)
        yield table
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the path of a file")
    journal = path if path.suffix.lower() == ".csv" else path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    if resume and path != journal and path.exists() and not journal.exists():
        _take_over(path, journal, columns)
    done = _read_journal(journal, columns) if resume and journal.exists() else []
    is_begun = bool(done)
    with open(journal, "ab", buffering=0) as file:
        def write(text):
            nonlocal is_begun
            data = (text if is_begun else ",".join(columns) + "\n" + text).encode()
            try:
                if not is_begun:  # now, so that what fails before the first row leaves the old file as it was
                    file.truncate(0)
                    is_begun = True
                while data:
                    data = data[file.write(data):]
            except OSError as error:
                raise InputError(f"{journal} cannot be written ({error.strerror}): what is done is kept there; make "
                                 "room and give --resume") from None

        try:
            yield Table(write, set(done))
        except KeyboardInterrupt:
            write("")
            _finish(path, journal)
            raise
        write("")  # where no row came
    _finish(path, journal)


def _read_journal(journal, columns):
    """The cells of a growing CSV's first column, of which the rows of the last file are cut off if one is torn.

    Raises InputError where it has other columns.
    """
    done, last_start = [], 0  # where the last file's rows begin
    with open(journal, "rb+") as file:
        header, expected = file.readline(), (",".join(columns) + "\n").encode()
        if not expected.startswith(header):
            raise InputError(f"{journal} is not a table of an earlier run: leave out --resume")
        end = len(header)
        for line in file:
            row = next(csv.reader([line.decode(errors="replace").replace("\0", "?")]), [])
            if not line.endswith(b"\n") or len(row) != len(columns):  # nor is what comes after it whole
                done, end = done[:-1], last_start or end
                break
            if row[:1] != done[-1:]:
                done.append(row[0])
                last_start = end
            end += len(line)
        file.truncate(end)
    return done


def _take_over(table, journal, columns):
    """Make the journal anew from a table that is complete. Raises InputError where that has other columns."""
    try:
        if table.suffix.lower() == ".parquet":
            from pyarrow import parquet
            rows = (row for batch in parquet.ParquetFile(table).iter_batches() for row in batch.to_pylist())
        else:
            text = table.read_text("utf-8")
            rows = json.loads(text) if table.suffix.lower() == ".json" else map(json.loads, text.splitlines())
        with replace_when_whole(journal) as [temporary], open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")  # it writes None as an empty cell
            writer.writerow(columns)
            writer.writerows([row[name] for name in columns] for row in rows)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{table} is not a table of an earlier run ({first_line(error)}): leave out --resume"
                         ) from None


def _finish(table, journal):
    """Make a table of another kind than CSV from its journal, which then goes away."""
    if table == journal:
        return
    with replace_when_whole(table) as [temporary]:
        if table.suffix.lower() == ".parquet":
            _write_parquet(temporary, journal)
        else:
            _write_json(temporary, journal, is_list=table.suffix.lower() == ".json")
    journal.unlink()


def _write_json(path, journal, is_list):
    """Write an object for each row: a list of them, or a line for each."""
    with open(journal, newline="", encoding="utf-8") as rows, open(path, "w", encoding="utf-8") as file:
        file.write("[" * is_list)
        for number, row in enumerate(csv.DictReader(rows)):
            values = {name: COLUMN_TYPES.get(name, float)(cell) if cell else None for name, cell in row.items()}
            text = json.dumps(values, ensure_ascii=False)
            file.write(f"{',' * (number > 0)}\n{text}" if is_list else f"{text}\n")
        file.write("\n]\n" * is_list)


def _write_parquet(path, journal):
    import pyarrow
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    kinds = {str: pyarrow.string(), int: pyarrow.int32(), float: pyarrow.float64()}
    with open(journal, newline="", encoding="utf-8") as file:
        columns = next(csv.reader(file))
    options = arrow_csv.ConvertOptions(null_values=[""], strings_can_be_null=True, column_types={
        name: kinds[COLUMN_TYPES.get(name, float)] for name in columns})
    with (arrow_csv.open_csv(journal, convert_options=options) as batches,
          parquet.ParquetWriter(path, batches.schema) as file):
        for batch in batches:
            file.write_batch(batch)
