"""Files that appear whole, and that belong together."""
import contextlib
import errno
import hashlib
import os
import re
import secrets
from pathlib import Path

import numpy as np

from expressions.console import InputError, first_line

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
MODELS = ROOT / "models"
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EEXIST, errno.ENOTDIR)


def models_folder(data):
    """Return models/ for data/ and DATA/models for other data: trying the scripts never replaces the shipped model."""
    return MODELS if os.path.realpath(data) == os.path.realpath(DATA) else data / "models"


@contextlib.contextmanager
def replace_when_whole(*paths):
    """Yield a temporary path beside each of `paths`; all are moved into place when the block ends without an error.

    Whatever goes wrong, the files that were there before still are. The temporary names keep their endings, because
    Keras, OpenCV and FFmpeg choose the format by them. Raises InputError where the disk is full or read-only.
    """
    paths = [Path(path) for path in paths]
    temporary = [path.with_name(f".{secrets.token_hex(4)}-{path.name}") for path in paths]
    try:
        for path, written in zip(paths, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise InputError(f"{path} is a folder: give the path of a file")
            written.touch()  # a place that cannot be written to is known before the work, not after it
        yield temporary
        for path, written in zip(paths, temporary):
            written.replace(path)
    except OSError as error:
        # NumPy reports a full disk without an error number: "9 requested and 5 written".
        if error.errno not in DISK_ERRORS and not str(error).endswith("written"):
            raise
        raise InputError(f"{paths[0]} cannot be written ({os.strerror(error.errno or errno.ENOSPC)}): "
                         "what was there is as it was; make room or give another place") from None
    finally:
        for written in temporary:
            with contextlib.suppress(OSError):
                written.unlink()


def refuse_overwriting(outputs, inputs):
    """Raise InputError if an output is one of the inputs, or two outputs are the same file."""
    taken = {os.path.realpath(path) for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in taken:
            raise InputError(f"{path} would be written over: give another name")
        taken.add(os.path.realpath(path))


def write_stamp(stamp, names):
    """Write the SHA-256 of files that lie beside it, as `sha256sum --check` reads it: they are of one run.

    Written after them, so files that a killed process left of two runs do not agree with it.
    """
    with replace_when_whole(stamp) as [temporary]:
        lines = [f"{_sha256(stamp.with_name(name))}  {name}\n" for name in names]
        temporary.write_text("".join(lines), "utf-8", newline="\n")


def read_stamp(stamp):
    """Return what write_stamp wrote as {name: SHA-256}, {} where there is no stamp. Raises InputError."""
    if not stamp.exists():
        return {}
    lines = [re.fullmatch(r"([0-9a-f]{64})  ([^/\\]+)", line)
             for line in stamp.read_text("utf-8", "replace").splitlines()]
    if not all(lines):
        raise InputError(f"{stamp} is damaged: remove it, or make its files again")
    return {line[2]: line[1] for line in lines}


def mismatched_files(stamp):
    """Return the paths of files that a stamp names and that are of another run. Raises InputError."""
    return [stamp.with_name(name) for name, digest in read_stamp(stamp).items()
            if stamp.with_name(name).is_file() and _sha256(stamp.with_name(name)) != digest]


def require_same_run(stamp, remedy):
    """Raise InputError, with the remedy, if files of a stamp are of different runs. One's own need no stamp."""
    if mismatched := mismatched_files(stamp):
        raise InputError(f"{' and '.join(map(str, mismatched))} changed since {stamp.name} was written, or came from "
                         f"another run: {remedy}")


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_arrays(arrays, inputs=()):
    """Write {path: array} and a stamp named after the first path, which also names the `inputs` they were made from."""
    with replace_when_whole(*arrays) as temporary:
        for path, array in zip(temporary, arrays.values()):
            np.save(path, array)
    write_stamp(next(iter(arrays)).with_suffix(".sha256"), [*(path.name for path in arrays), *inputs])


def load_array(path, shape, producer, kinds="u"):
    """Return the array that `producer` saved at `path`; None in `shape` stands for any length.

    `kinds` are the letters of NumPy's dtype.kind that it may have, "u" for bytes. Raises InputError.
    """
    try:
        array = np.load(path, allow_pickle=False)
        dtype, found = array.dtype, array.shape
    except FileNotFoundError:
        raise InputError(f"{path} is not there: run {producer} first") from None
    except Exception as error:  # NumPy raises whatever it stumbles over
        raise InputError(f"{path} is not a whole .npy array ({first_line(error)}): run {producer} again") from None
    if (dtype.kind not in kinds or (kinds == "u" and dtype.itemsize > 1) or len(found) != len(shape)
            or any(want not in (None, have) for want, have in zip(shape, found))):
        wanted = " x ".join("N" if length is None else str(length) for length in shape)
        raise InputError(f"{path} holds {' x '.join(map(str, found))} {dtype} instead of {wanted} "
                         f"{'bytes' if kinds == 'u' else 'whole numbers'}: run {producer} again")
    return array
