"""Turn FER2013 into arrays, and show what is in it.

Reads data/fer2013.csv, or the file or folder given: fer2013.csv, icml_face_data.csv or
train.csv, plain or in .gz, .xz, .zip or .tar.gz, or a folder train|validation|test/<expression>/.
Writes fdataX.npy  uint8 (N, 48, 48, 1) grey faces
       flabels.npy uint8 (N, 7) one-hot expressions
       fusage.npy  uint8 (N,) 0 Training, 1 PublicTest (validation), 2 PrivateTest (test)
       fvotes.npy  uint8 (N, 10), with --ferplus: ten people's votes for the seven expressions, contempt,
                   unknown, and not a face
       fdataX.sha256, which tells that these belong together,
       dataset_distribution.png and samples.png, all into data/.

$ python preprocessing.py                 # data/fer2013.csv
$ python preprocessing.py archive.zip     # or wherever it is
$ python preprocessing.py --ferplus fer2013new.csv
$ python preprocessing.py --sample        # drawn faces into data/sample/, no download needed
"""
import _thread
import argparse
import contextlib
import errno
import glob
import gzip
import hashlib
import io
import itertools
import lzma
import math
import os
import re
import signal
import stat
import sys
import tarfile
import threading
import time
import tokenize
import zipfile
import zlib
from pathlib import Path

INTERRUPTED = "interrupted: files that were finished are whole, the others as they were before; run it again"


def _end_without_traceback(kind, error, trace):
    """Python's excepthook: Ctrl-C while modules are loaded or a script ends, too, gives a sentence and status 130."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print(f"{Path(sys.argv[0]).name}: {INTERRUPTED}", file=sys.stderr, flush=True)
    os._exit(130)


def _interrupt(number, frame):
    """Ctrl-C's handler: Python's own, except that a key held down or pressed twice does not disturb an orderly end."""
    global _interrupted
    if time.monotonic() - _interrupted > PATIENCE:
        _interrupted = time.monotonic()
        raise KeyboardInterrupt


def _strike_again(lost):
    """Python's unraisablehook: a Ctrl-C that strikes in a destructor, where it would be lost, strikes once more."""
    global _interrupted
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    _interrupted = -math.inf
    strike = getattr(signal, "pthread_kill", lambda thread, number: _thread.interrupt_main(number))  # not on Windows
    threading.Timer(0.01, strike, (threading.main_thread().ident, signal.SIGINT)).start()


PATIENCE, _interrupted = 10, -math.inf  # seconds that a script may take to end; when Ctrl-C struck
if Path(getattr(sys.modules["__main__"], "__file__", "")).resolve().parent == Path(__file__).resolve().parent:
    # One of the scripts runs, not a program that imports from them; this comes before what takes long to load.
    sys.excepthook, sys.unraisablehook = _end_without_traceback, _strike_again
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background, where it is ignored
        signal.signal(signal.SIGINT, _interrupt)
MAX_PIXELS = 120_000_000  # of a picture; OpenCV refuses larger ones by their header. It reads this as it is loaded.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")  # FER2013's labels 0 to 6
USAGES = ("Training", "PublicTest", "PrivateTest")  # fusage 0, 1, 2
TRAINING, PUBLIC_TEST, PRIVATE_TEST = range(3)
FACE_SIZE = 48  # pixels, both ways
DATA = Path(__file__).resolve().parent / "data"
GENUINE_SHA256 = "9631e285f959a067332002e8153d0607d812894f06b08213da1d809a15afa98a"
# of the labels, usage and faces of fer2013.csv as the challenge published it, MD5 f8428a1edbd21e88f42c73edd2a14f95

LONGEST_ROW = 16_384  # bytes; 2,304 pixels of three digits and a blank are 9,216
LARGEST_CSV = 1 << 30  # bytes that an archive may unpack to: three times FER2013
LARGEST_VOTES = 64 << 20  # bytes; those of FER+ are 2 MB
MOST_MEMBERS = 1000  # files in an archive; those of FER2013 have up to ten
MOST_PARTS = 500_000  # of a PNG file: of the 8 kB that many programs write, 4 GB
LARGEST_PICTURE = 10 << 20  # bytes of a face's file in a folder
FOLDER_USAGES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "publictest": 1,
                 "test": 2, "testing": 2, "privatetest": 2}
FOLDER_EXPRESSIONS = {
    **{str(label): label for label in range(len(EXPRESSIONS))},
    **{name: label for label, name in enumerate(EXPRESSIONS)},
    "anger": 0, "disgusted": 1, "fearful": 2, "happiness": 3, "sadness": 4, "surprised": 5,
}
FERPLUS_COLUMNS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral",  # as EXPRESSIONS
                   "contempt", "unknown", "NF")  # NF: not a face
SAMPLE_FACES = 120  # per expression; with them the chain takes a minute and recognises nearly all


class InputError(Exception):
    """Something the user can mend. Its text is one sentence: what, where, what to do; or several, an argument each."""


def run(main):
    """Call a script's main; an InputError ends it with its sentence and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no reason to stop
    try:
        main()
        sys.stdout.flush()
        status = 0
    except InputError as error:
        status = _say(*error.args)
    except BrokenPipeError:  # the reader, head for one, has seen enough
        status = 0
    except OSError as error:
        status = _say(f"{error.filename or 'standard output'}: {error.strerror or error}: check the path and the disk")
    except MemoryError:
        status = _say("the memory is full: close other programs, or give less at once")
    except KeyboardInterrupt as error:
        status = _say(f"interrupted: {error}" if error.args else INTERRUPTED, status=130)
        sys.unraisablehook = lambda unraisable: None  # what Ctrl-C left half built may fail as it is cleared away
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left that it could stop
    try:
        sys.stdout.flush()
    except OSError:  # or Python tries again as it ends, and complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if status == 130:  # a thread that Ctrl-C has left at work would crash as Python ends
        os._exit(status)
    sys.exit(status)


def _say(*sentences, status=2):
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(f"{Path(sys.argv[0]).name}: {printable(sentences[0])}", *map(printable, sentences[1:]), sep="\n",
          file=sys.stderr, flush=True)
    return status


def printable(text):
    """The text without what a terminal obeys instead of showing, escape sequences for one: \\x1b stands for it."""
    return "".join(letter if letter.isprintable() or letter in "\u200c\u200d"  # the joiners of scripts and emoji
                   else letter.encode("unicode_escape").decode() for letter in text)


# ---- files that are whole, and of one run ------------------------------------------------------

@contextlib.contextmanager
def written_whole(*paths, stamp=None, made_from=()):
    """Yield a path beside each of `paths` to write to; all are moved into place when the block ends well.

    Whatever goes wrong, the files that stood there before still do. The names keep their
    endings, because Keras, OpenCV and FFmpeg choose the format by them.

    With the path of a `stamp` they also stay together, even if the process is killed between two moves:
    the stamp names all of them, and the files of the same folder they were `made_from`, with their SHA-256,
    as `sha256sum --check` reads it. It is moved into place first, and read_stamp finishes what it finds begun.
    """
    paths = [Path(path) for path in paths]
    beside = [path.with_name(f".{os.getpid()}-{path.name}") for path in paths]
    try:
        if stamp:
            read_stamp(stamp)
        for path, written in zip(paths, beside):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise InputError(f"{path} is a folder: give the path of a file")
            _remove_leftovers(path)
            written.touch()  # what cannot be written is known before the work, not after it
        yield beside
        for written in beside:
            _flush(written)
        if stamp:
            digests = [*map(_sha256, beside), *(_sha256(stamp.with_name(name)) for name in made_from)]
            for number, (written, path) in enumerate(zip(beside, paths)):
                ready = f".{os.getpid()}-{digests[number][:16]}-{path.name}"
                beside[number] = written.replace(written.with_name(ready))
            with written_whole(stamp) as [lines]:
                names = [*(path.name for path in paths), *made_from]
                lines.write_text("".join(f"{digest}  {name}\n" for digest, name in zip(digests, names)), "utf-8")
        for written, path in zip(beside, paths):
            with contextlib.suppress(*[FileNotFoundError] * bool(stamp)):  # a reader has moved it
                written.replace(path)
        for folder in {path.parent for path in paths}:
            _flush(folder)
    except OSError as error:
        number = errno.ENOSPC if str(error).endswith("written") else error.errno  # NumPy: "9 requested and 5 written"
        if number in UNWRITABLE and (error.filename is None or Path(error.filename).parent in paths[0].parents):
            raise InputError(f"{paths[0]} cannot be written ({os.strerror(number)}): what was there is as it was; "
                             "make room or give another place") from None
        raise
    finally:
        if stamp:
            with contextlib.suppress(InputError, OSError):
                read_stamp(stamp)  # interrupted between the moves: the rest is moved, not removed
        for written in beside:
            with contextlib.suppress(OSError):
                written.unlink()


UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO,
              errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG}


def _flush(path):
    """Have a file's content, or the names in a folder, reach the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows does not open folders
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(path):
    """Remove what processes that were killed had begun to write for this path."""
    for left in path.parent.glob(f".*-{glob.escape(path.name)}"):
        process = re.fullmatch(r"\.(\d+)-([0-9a-f]{16}-)?", left.name.removesuffix(path.name))
        if process and not _is_running(int(process[1])):
            left.unlink(missing_ok=True)


def _is_running(process):
    if os.name == "nt":
        return True  # to ask would end it there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_stamp(stamp):
    """What written_whole wrote there, {name: SHA-256}; {} where there is no stamp.

    Files that are ready beside their place, because a process was killed in between, are moved there.
    """
    try:
        lines = stamp.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        lines = [""]
    digests = {}
    for line in lines:
        entry = re.fullmatch(r"([0-9a-f]{64})  ([^./\\][^/\\]*)", line)
        if not entry:
            raise InputError(f"{stamp} is damaged: remove it, or make its files anew")
        digests[entry[2]] = entry[1]
    for name, digest in digests.items():
        for ready in stamp.parent.glob(f".*-{digest[:16]}-{glob.escape(name)}"):
            with contextlib.suppress(FileNotFoundError):  # its writer, or another reader, was faster
                ready.replace(stamp.with_name(name))
    return digests


def strangers(stamp):
    """The paths that a stamp names and that are of another run; [] where there is no stamp."""
    return [stamp.with_name(name) for name, digest in read_stamp(stamp).items()
            if stamp.with_name(name).is_file() and _sha256(stamp.with_name(name)) != digest]


def check_stamp(stamp, mend):
    """Raise InputError, with what mends it, if files that belong together are of different runs.

    Arrays of one's own have no stamp and need none.
    """
    others = strangers(stamp)
    if others:
        raise InputError(f"{' and '.join(map(str, others))} changed since {stamp.name} was written, or came from "
                         f"another run: {mend}")


def save_arrays(arrays, made_from=()):
    """Write {path: array}, all of them or none, and their stamp, named after the first."""
    with written_whole(*arrays, stamp=next(iter(arrays)).with_suffix(".sha256"), made_from=made_from) as beside:
        for path, array in zip(beside, arrays.values()):
            np.save(path, array)


def load_array(path, shape, made_by, kinds="u"):
    """The array that `made_by` saved at `path`; None in `shape` stands for any length.

    `kinds` are the letters of NumPy's dtype.kind that it may have, "u" for unsigned integers of one byte.
    """
    try:
        with open(path, "rb") as file:  # not np.load: a header may claim any size, and with some NumPy crashes
            is_first = np.lib.format.read_magic(file) == (1, 0)
            read_header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
            found, by_columns, kind = read_header(file)
            if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found)):
                wanted = str(tuple("N" if length is None else length for length in shape)).replace("'", "")
                raise InputError(f"{path} has the shape {found} instead of {wanted}: run {made_by} again")
            if kind.kind not in kinds or (kind.kind == "u" and kind.itemsize > 1):
                raise InputError(f"{path} holds {kind} instead of {'bytes' if kinds == 'u' else 'whole numbers'}: "
                                 f"run {made_by} again")
            if not 0 <= math.prod(found) * kind.itemsize <= path.stat().st_size - file.tell():
                raise ValueError("it ends too soon")
            return np.fromfile(file, kind, math.prod(found)).reshape(found, order="F" if by_columns else "C")
    except FileNotFoundError:
        raise InputError(f"{path} is not there: run {made_by} first") from None
    except (ValueError, OverflowError, TypeError, SyntaxError, tokenize.TokenError) as error:
        raise InputError(f"{path} is not a whole .npy array ({first_line(error)}): run {made_by} again") from None


def first_line(error):
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# ---- reading -----------------------------------------------------------------------------------

def parse_pixels(text):
    """Blank-separated grey values, ASCII digits in bytes, as uint8 (2304,).

    Works on all characters of a row at once: a number ends where a digit is followed by
    something else, and its tens and hundreds stand before. ValueError says what is wrong.
    """
    strange = text.translate(None, b"0123456789 ")
    if strange:
        raise ValueError(f"{strange[:1].decode('latin-1')!r} among its pixels")
    digits = np.frombuffer(b"   " + text + b" ", np.uint8) - ord("0")  # a blank wraps round to 240
    is_digit = digits < 10
    units = (digits * is_digit).astype(np.uint16)
    values = units[3:-1] + 10 * units[2:-2]  # at each character, what a number that ends here is worth
    values += 100 * units[1:-3] * is_digit[2:-2]  # no tens: that hundreds' digit ends the number before
    values = values[np.flatnonzero(is_digit[3:-1] > is_digit[4:])]
    if len(values) != FACE_SIZE ** 2:
        raise ValueError(f"{len(values):,} pixels instead of {FACE_SIZE ** 2:,}")
    four_digits = is_digit[3:-1] & is_digit[2:-2] & is_digit[1:-3] & is_digit[:-4]
    if values.max() > 255 or four_digits.any():
        raise ValueError("a pixel above 255")
    return values.astype(np.uint8)


def _columns(header):
    """{column name: position} of a CSV's first line, whatever its case and blanks."""
    names = header.decode("utf-8-sig", "replace").split(",")
    return {name.strip(' "\t\r\n').lower(): position for position, name in enumerate(names)}


def _buffered(stream):
    return io.BufferedReader(stream, 1 << 20)


def _open_member(path, members, open_member):
    """The archive's CSV of faces: one with a Usage column if there is one. `members` yields (name, is it a file).

    Nothing is ever unpacked to the disk; archives with ways out of their folder are refused all the same.
    """
    names = []
    for name, is_file in itertools.islice(members, MOST_MEMBERS):
        if not is_file or name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name):
            raise InputError(f"{path} holds {name[:80]!r}, a link or a path out of its folder, "
                             "as no archive of FER2013 does: download it again")
        names.append(name)
    found = None
    for name in names:
        stream = _buffered(open_member(name))
        columns = _columns(stream.peek(200)[:200].split(b"\n")[0])
        if {"emotion", "pixels", "usage"} <= columns.keys():
            return stream
        if {"emotion", "pixels"} <= columns.keys():
            found = name
    if found is None:
        raise InputError(f"{path} holds no CSV with the columns emotion and pixels: "
                         "give the archive of FER2013, or unpack it and give the folder")
    return _buffered(open_member(found))


def open_csv(path):
    """A binary stream of the CSV in `path`, unpacked if need be, told by its first bytes; and whether it was."""
    stream, packed = open(path, "rb", buffering=1 << 20), False
    for _ in range(3):  # .tar.gz in .zip; more layers are a trap
        head = stream.peek(512)[:512]
        if head.startswith(b"\x1f\x8b"):
            stream = _buffered(gzip.GzipFile(fileobj=stream, mode="rb"))
        elif head.startswith(b"\xfd7zXZ\0"):
            stream = _buffered(lzma.LZMAFile(stream))
        elif head.startswith(b"PK\x03\x04"):
            archive = zipfile.ZipFile(stream)
            stream = _open_member(path, ((member.filename, not stat.S_ISLNK(member.external_attr >> 16))
                                         for member in archive.infolist() if not member.is_dir()), archive.open)
        elif head[257:262] == b"ustar":
            archive = tarfile.open(fileobj=stream)
            stream = _open_member(path, ((member.name, member.isfile()) for member in archive if not member.isdir()),
                                  archive.extractfile)
        else:
            return stream, packed
        packed = True
    raise InputError(f"{path} holds an archive in an archive in an archive: unpack it and give the CSV")


def read_csv(path):
    """Read FER2013 from a CSV, packed or not.

    Returns faces uint8 (N, 48, 48, 1), labels uint8 (N,), usage uint8 (N,) or None where the
    file has no such column. Raises InputError with the row that is wrong.
    """
    try:
        stream, packed = open_csv(path)
        with stream:
            return _read_rows(path, stream, LARGEST_CSV if packed else math.inf)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError,
            RuntimeError, KeyError) as error:  # for a password, a packing unknown to Python, a file named like a folder
        raise InputError(f"{path} is damaged or cut short ({first_line(error)}): download it again") from None


def _read_rows(path, stream, most):
    header = stream.readline(LONGEST_ROW)
    columns = _columns(header)
    if not header.strip():
        raise InputError(f"{path} is empty: download it again")
    for name in ("pixels", "emotion"):
        if name not in columns:
            raise InputError(f"{path} has no column {name!r} in its first line: "
                             "give fer2013.csv, icml_face_data.csv or train.csv (test.csv has no labels)")
    emotion, pixels, usage = columns["emotion"], columns["pixels"], columns.get("usage")
    label_of = {str(label).encode(): label for label in range(len(EXPRESSIONS))}
    usage_of = {name.lower().encode(): number for number, name in enumerate(USAGES)}

    faces, labels, usages = bytearray(), bytearray(), bytearray()
    size = 0
    for number, line in enumerate(iter(lambda: stream.readline(LONGEST_ROW), b""), start=1):
        size += len(line)
        if size > most:
            raise InputError(f"{path} unpacks to more than {most >> 30} GB, three times FER2013: "
                             "unpack it and give the CSV if that is meant")
        if not line.strip():
            continue
        try:
            fields = [field.strip(b' "\r\n') for field in line.split(b",")]
            if len(fields) != len(columns):
                raise ValueError(f"{len(fields)} fields instead of {len(columns)}")
            if fields[emotion] not in label_of:
                raise ValueError(f"the label {fields[emotion][:40].decode('latin-1')!r} instead of 0 to 6")
            if usage is not None:
                if fields[usage].lower() not in usage_of:
                    raise ValueError(f"the Usage {fields[usage][:40].decode('latin-1')!r} "
                                     f"instead of {', '.join(USAGES)}")
                usages.append(usage_of[fields[usage].lower()])
            faces += parse_pixels(fields[pixels]).tobytes()
            labels.append(label_of[fields[emotion]])
        except ValueError as error:
            raise InputError(f"{path}, row {number} (line {number + 1}) has {error}: "
                             "mend the row or download the file again") from None
    if not labels:
        raise InputError(f"{path} has a header but no rows: download it again")
    return (np.frombuffer(faces, np.uint8).reshape(-1, FACE_SIZE, FACE_SIZE, 1), np.frombuffer(labels, np.uint8),
            None if usage is None else np.frombuffer(usages, np.uint8))


def read_votes(path, usage):
    """FER+'s votes, uint8 (N, 10): for the seven EXPRESSIONS, then for contempt, unknown, and not a face.

    The file, fer2013new.csv, has a row for each row of fer2013.csv and none of its labels: N and the usage,
    uint8 (N,), tell whether they belong together.
    """
    import pandas as pd

    try:
        stream, _ = open_csv(path)
        with stream:
            text = stream.read(LARGEST_VOTES + 1)
        if len(text) > LARGEST_VOTES:
            raise ValueError(f"it is longer than {LARGEST_VOTES >> 20} MB")
        table = pd.read_csv(io.BytesIO(text), skipinitialspace=True)
        missing = [name for name in ("Usage", *FERPLUS_COLUMNS) if name not in table]
        if missing:
            raise ValueError(f"it has no column {missing[0]!r} in its first line")
        if table.Usage.tolist() != [USAGES[number] for number in usage]:
            raise ValueError(f"its {len(table):,} rows are not those of the {len(usage):,} faces")
        votes = table[list(FERPLUS_COLUMNS)].to_numpy(float)
        if not ((votes >= 0) & (votes <= 255) & (votes % 1 == 0)).all():
            raise ValueError("not all its votes are whole numbers from 0 to 255")
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.TarError,
            RuntimeError, KeyError, ValueError) as error:  # pandas raises kinds of ValueError
        raise InputError(f"{path} is not FER+'s file of votes for these faces ({first_line(error)}): download "
                         "fer2013new.csv again, and give it with the fer2013.csv of the challenge") from None
    return votes.astype(np.uint8)


def decode_picture(encoded, mode):
    """A picture file's bytes, uint8 (n,), as OpenCV decodes them in one of its IMREAD modes; None if they are none."""
    if encoded[:4].tobytes() == b"\x89PNG":  # OpenCV makes room for a part of 4 GB before it looks how long the file is
        part = 8
        for _ in range(MOST_PARTS):
            if part >= len(encoded):
                return None
            if encoded[part + 4:part + 8].tobytes() == b"IEND":
                break
            part += 12 + int.from_bytes(encoded[part:part + 4].tobytes(), "big")
        else:
            return None
    return cv2.imdecode(encoded, mode) if len(encoded) else None


def read_folder(folder):
    """Read train|validation|test/<expression>/*.png|jpg, expressions by name or number.

    Returns faces, labels and usage like read_csv; faces of another size are resized.
    """
    faces, labels, usages = [], [], []
    for split in sorted(folder.iterdir()):
        if not split.is_dir() or split.name.lower() not in FOLDER_USAGES:
            continue
        for group in sorted(path for path in split.iterdir() if path.is_dir()):
            if group.name.lower() not in FOLDER_EXPRESSIONS:
                raise InputError(f"{group} is no expression: name the folder 0 to 6 or {', '.join(EXPRESSIONS)}")
            for path in sorted(group.iterdir()):
                if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
                    continue
                face = None
                if path.is_file() and 0 < path.stat().st_size < LARGEST_PICTURE:
                    with contextlib.suppress(cv2.error):  # more pixels than MAX_PIXELS
                        face = decode_picture(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
                if face is None or face.ndim != 2:  # OpenCV leaves PFM, which it tells by its content, in colour
                    raise InputError(f"{path} is not a picture of a face: remove it or download the folder again")
                if face.shape != (FACE_SIZE, FACE_SIZE):
                    face = cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)
                faces.append(face[..., None])
                labels.append(FOLDER_EXPRESSIONS[group.name.lower()])
                usages.append(FOLDER_USAGES[split.name.lower()])
    if not faces:
        raise InputError(f"{folder} holds no train|validation|test/<expression>/*.png or *.jpg: "
                         "give the folder above train and test")
    return np.stack(faces), np.array(labels, np.uint8), np.array(usages, np.uint8)


# ---- what is in it -----------------------------------------------------------------------------

def identities(faces):
    """int (N,): faces with the same pixels have the same number, counted from 0."""
    numbers = {}
    return np.array([numbers.setdefault(face.tobytes(), len(numbers)) for face in faces])


def is_genuine(faces, labels, usage):
    """Whether these are FER2013's faces, labels and splits, all of them and in their order."""
    return usage is not None and hashlib.sha256(labels.tobytes() + usage.tobytes() + faces.tobytes()
                                                ).hexdigest() == GENUINE_SHA256


def flat(faces):
    """bool (N,): faces that are one flat colour."""
    pixels = faces.reshape(len(faces), -1)
    return pixels.min(axis=1) == pixels.max(axis=1)


def split_official(faces, labels, usage, seed=42):
    """Usage as the file has it; a missing test or validation part is drawn from Training.

    Each drawn part is a tenth of the distinct faces, stratified by expression; pixel-identical
    faces stay on one side. Returns uint8 (N,).
    """
    usage = np.full(len(faces), TRAINING, np.uint8) if usage is None else usage.copy()
    identity = identities(faces)
    for part in (PRIVATE_TEST, PUBLIC_TEST):
        if (usage == part).any():
            continue
        from sklearn.model_selection import train_test_split  # a second to load, and seldom needed
        rows = np.flatnonzero(usage == TRAINING)
        distinct, first = np.unique(identity[rows], return_index=True)
        try:
            _, drawn = train_test_split(distinct, test_size=round(len(np.unique(identity)) / 10),
                                        stratify=labels[rows][first], random_state=seed)
        except ValueError:
            raise InputError(f"{len(faces)} faces are too few to draw a {USAGES[part]} split from: "
                             "give ten or more of each expression, or a Usage column") from None
        usage[rows[np.isin(identity[rows], drawn)]] = part
    return usage


def split_random(count):
    """The original's protocol: a random tenth for testing (seed 42), a tenth of the rest for validation (41)."""
    from sklearn.model_selection import train_test_split

    usage = np.full(count, TRAINING, np.uint8)
    rest, test = train_test_split(np.arange(count), test_size=0.1, random_state=42)
    usage[test] = PRIVATE_TEST
    usage[train_test_split(rest, test_size=0.1, random_state=41)[1]] = PUBLIC_TEST
    return usage


def describe(faces, usage):
    """Sentences on flat and repeated faces, which training acts on."""
    identity = identities(faces)
    sizes = np.bincount(identity)
    yield f"{flat(faces).sum():,} faces are one flat colour"
    yield f"{(sizes > 1).sum():,} groups of pixel-identical faces hold {sizes[sizes > 1].sum():,} faces"
    for part in (PRIVATE_TEST, PUBLIC_TEST):
        twins = np.isin(identity[usage == part], identity[usage == TRAINING]).sum()
        yield f"{twins:,} {USAGES[part]} faces also stand in Training (training leaves their twins out)"


def distribution(labels, usage):
    """pandas table of counts, an expression a row and a split a column, with totals."""
    import pandas as pd

    table = pd.crosstab(pd.Categorical.from_codes(labels, EXPRESSIONS), pd.Categorical.from_codes(usage, USAGES),
                        dropna=False)
    table.index.name = table.columns.name = None
    table["total"] = table.sum(axis=1)
    table.loc["total"] = table.sum()
    return table


def draw_distribution(table):
    """A matplotlib figure of the distribution table: a group of bars per expression."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots()
    table.loc[list(EXPRESSIONS), list(USAGES)].plot.bar(ax=axes, width=0.84, rot=0, fontsize=12,
                                                         color=["#4477aa", "#ccbb44", "#ee6677"])
    for bars in axes.containers:
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=9, padding=2)
    axes.set_ylabel("faces", fontsize=12)
    axes.set_title(f"{table.loc['total', 'total']:,} faces", fontsize=14)
    axes.legend(fontsize=11)
    axes.margins(y=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_samples(faces, labels, columns=12, seed=0):
    """A matplotlib figure: a row of faces per expression, drawn at random."""
    from matplotlib.figure import Figure

    random = np.random.default_rng(seed)
    figure = Figure(figsize=(columns + 1.3, len(EXPRESSIONS)), layout="constrained")
    grid = figure.subplots(len(EXPRESSIONS), columns)
    for label, row in enumerate(grid):
        rows = np.flatnonzero(labels == label)
        rows = random.permutation(rows)[:columns]
        for axes in row:
            axes.set(xticks=[], yticks=[], frame_on=False)
        for axes, index in zip(row, rows):
            axes.imshow(faces[index, ..., 0], cmap="gray", vmin=0, vmax=255)
        row[0].set_ylabel(EXPRESSIONS[label], rotation=0, ha="right", va="center", fontsize=15)
    return figure


# ---- the sample --------------------------------------------------------------------------------

# What the Facial Action Coding System (Ekman, Friesen and Hager 2002) says moves in each prototype, as
# inner brow, outer brow (up +), eyelids (open +), mouth corners (up +), mouth open, lips stretched, nose wrinkled.
ACTIONS = {
    "angry": (-0.9, 0.3, 0.2, -0.3, 0.0, -0.3, 0.3),    # AU 4 brow lowerer, 5 + 7 lids, 23 lips tight
    "disgust": (-0.5, -0.3, -0.7, -0.6, 0.2, 0.0, 1.0),  # AU 9 nose wrinkler, 15 lip corners down
    "fear": (0.8, 0.2, 0.7, -0.2, 0.4, 0.8, 0.0),       # AU 1 + 2 + 4 brows, 5 lids, 20 lips stretched
    "happy": (0.1, 0.1, -0.3, 1.0, 0.4, 0.5, 0.0),      # AU 6 cheeks, 12 lip corners pulled up
    "sad": (0.9, -0.6, -0.4, -0.9, 0.0, -0.1, 0.0),     # AU 1 + 4 inner brow, 15 lip corners down
    "surprise": (0.9, 1.0, 1.0, 0.0, 1.0, -0.6, 0.0),   # AU 1 + 2 brows, 5 lids, 26 jaw drops
    "neutral": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}


def draw_face(expression, random):
    """A schematic face, uint8 (48, 48), posed, lit and moved a little differently each time."""
    zoom = 4  # drawn large and made smaller, for soft edges
    inner, outer, lids, corners, jaw, stretch, nose = np.array(ACTIONS[expression]) + random.normal(0, 0.13, 7)
    skin = random.uniform(130, 215)
    dark, background = skin * random.uniform(0.2, 0.45), random.uniform(20, 240)
    canvas = np.full((FACE_SIZE * zoom,) * 2, background, np.uint8)

    def points(*pairs):  # fractions of the picture to OpenCV's fixed point
        return np.round(np.array(pairs) * FACE_SIZE * zoom).astype(np.int32)

    def line(*pairs, width=0.018):
        cv2.polylines(canvas, [points(*pairs)], False, dark, max(1, round(width * FACE_SIZE * zoom)), cv2.LINE_AA)

    def ellipse(centre, axes, colour):
        cv2.ellipse(canvas, points(centre)[0].tolist(), points(axes)[0].clip(1).tolist(), 0, 0, 360, colour, -1,
                    cv2.LINE_AA)

    ellipse((0.5, 0.52), (random.uniform(0.36, 0.42), 0.5), skin)
    for side in (-1, 1):
        eye = 0.5 + side * 0.19
        opened = 0.045 * (1 + 0.75 * lids)
        ellipse((eye, 0.40), (0.085, opened), 245)
        ellipse((eye, 0.40), (min(0.04, opened), min(0.04, opened)), dark * 0.5)
        line((0.5 + side * 0.08, 0.29 - 0.06 * inner), (eye, 0.265 - 0.04 * (inner + outer) / 2),
             (0.5 + side * 0.30, 0.29 - 0.06 * outer), width=0.03)
        line((0.5 + side * 0.05, 0.56), (0.5 + side * (0.07 + 0.03 * nose), 0.60 - 0.03 * nose))
        if nose > 0.2:  # wrinkles beside its root
            line((0.5 + side * 0.03, 0.40), (0.5 + side * 0.07, 0.47), width=0.015)
    across = np.linspace(-1, 1, 15)
    half_width = 0.16 * (1 + 0.4 * stretch)
    bend = 0.08 * corners * (across ** 2 - 0.5)
    gap = 0.13 * max(jaw, 0) * np.sqrt(1 - across ** 2)
    upper = np.stack([0.5 + half_width * across, 0.76 - bend - 0.4 * gap], axis=1)
    lower = np.stack([0.5 + half_width * across, 0.76 - bend + gap], axis=1)
    cv2.fillPoly(canvas, [points(*upper, *lower[::-1])], dark * 0.6, cv2.LINE_AA)
    line(*upper)
    line(*lower)

    turn = cv2.getRotationMatrix2D((FACE_SIZE * zoom / 2,) * 2, random.normal(0, 5), random.uniform(0.9, 1.1) / zoom)
    turn[:, 2] += FACE_SIZE / 2 * (1 - zoom) + random.normal(0, 1.2, 2)
    face = cv2.warpAffine(cv2.blur(canvas, (zoom, zoom)), turn, (FACE_SIZE, FACE_SIZE), flags=cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_REPLICATE)
    return np.clip(face + random.normal(0, 5, face.shape), 0, 255).astype(np.uint8)


def write_sample(path, seed=0):
    """Write a CSV of drawn faces in fer2013.csv's layout: of each expression 8 in 10 Training, 1, 1."""
    random = np.random.default_rng(seed)
    with written_whole(path) as [beside], open(beside, "w", encoding="ascii", newline="\n") as file:
        file.write("emotion,pixels,Usage\n")
        for number in range(SAMPLE_FACES):
            usage = USAGES[{8: PUBLIC_TEST, 9: PRIVATE_TEST}.get(number % 10, TRAINING)]
            for label, expression in enumerate(EXPRESSIONS):
                pixels = " ".join(map(str, draw_face(expression, random).ravel()))
                file.write(f"{label},{pixels},{usage}\n")


# ---- the script --------------------------------------------------------------------------------

def script_parser(documentation):
    """An argument parser whose --help is the script's docstring."""
    return argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("source", nargs="?", type=Path, help="file or folder (default: data/fer2013.csv)")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where to write (default: data/)")
    parser.add_argument("--split", choices=("official", "random"), default="official",
                        help="official: the file's Usage; random: the original project's 10 %% test, 10 %% validation")
    parser.add_argument("--ferplus", type=Path, metavar="FILE", help="fer2013new.csv, the votes of FER+ on these faces")
    parser.add_argument("--sample", action="store_true", help="draw a small set of schematic faces and use it")
    args = parser.parse_args(argv)
    if args.sample and (args.source or args.ferplus):
        raise InputError("--sample draws its own faces: leave out the path and --ferplus, or leave out --sample")
    data = args.data or (DATA / "sample" if args.sample else DATA)
    source = args.source or (data / "sample.csv" if args.sample else DATA / "fer2013.csv")
    if args.sample:
        write_sample(source)
    if not source.exists():
        raise InputError(f"{source} is not there: the README says where to get it; "
                         "give its path if it is elsewhere, or try --sample")

    print(f"reading {source}", file=sys.stderr)
    if source.is_dir():
        faces, labels, usage = read_folder(source)
    else:
        faces, labels, usage = read_csv(source)
    votes = None
    if args.ferplus:
        if usage is None:
            raise InputError(f"{source} has no Usage, by which to tell whether {args.ferplus} belongs to it: give the "
                             "fer2013.csv of the challenge")
        votes = read_votes(args.ferplus, usage)
    print("this is the genuine FER2013" if is_genuine(faces, labels, usage) else
          "this is not the genuine FER2013: faces, labels or splits differ")
    if args.split == "random":
        usage = split_random(len(faces))
        print("split at random like the original project")
    else:
        given = () if usage is None else np.unique(usage)
        usage = split_official(faces, labels, usage)
        for part in (PUBLIC_TEST, PRIVATE_TEST):
            if part not in given:
                print(f"the source has no {USAGES[part]} part: a stratified tenth was drawn as it")

    table = distribution(labels, usage)
    arrays = {data / "fdataX.npy": faces,
              data / "flabels.npy": np.eye(len(EXPRESSIONS), dtype=np.uint8)[labels],
              data / "fusage.npy": usage}
    if votes is not None:
        arrays[data / "fvotes.npy"] = votes
    save_arrays(arrays)
    with written_whole(data / "dataset_distribution.png", data / "samples.png") as (bars, sheet):
        draw_distribution(table).savefig(bars, dpi=120)
        draw_samples(faces, labels).savefig(sheet, dpi=100)

    print(table.to_string())
    for sentence in describe(faces, usage):
        print(sentence)
    if votes is not None:
        agree = (votes[:, :len(EXPRESSIONS)].argmax(axis=1) == labels).mean()
        print(f"FER+: on {agree:.0%} of the faces most votes go to the label of FER2013")
    print(f"wrote {', '.join(path.name for path in arrays)} ({len(faces):,} faces), dataset_distribution.png and "
          f"samples.png to {data}")
    if args.sample:
        print(f"next: python train_model.py --data {data}")


if __name__ == "__main__":
    run(main)
