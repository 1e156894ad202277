"""Files that appear whole, and that belong together."""
import contextlib
import functools
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


def models_folder(data):
    """Return models/ for data/ and DATA/models for other data: trying the scripts never replaces the shipped model."""
    return MODELS if os.path.realpath(data) == os.path.realpath(DATA) else data / "models"


@contextlib.contextmanager
def replace_when_whole(*paths):
    """Yield a temporary path beside each of `paths`; all are moved into place when the block ends without an error.

    Whatever goes wrong, the files that were there before still are. The temporary names keep their endings, because
    Keras, OpenCV and FFmpeg choose the format by them. Raises InputError where the files cannot be written.
    """
    paths = [Path(path) for path in paths]
    temporary = [path.with_name(f".{secrets.token_hex(4)}-{path.name}") for path in paths]
    try:
        for path, written in zip(paths, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            written.touch()  # a place that cannot be written to is known before the work, not after it
        yield temporary
        for path, written in zip(paths, temporary):
            written.replace(path)
    except BrokenPipeError:  # of standard output
        raise
    except OSError as error:
        raise InputError(f"{paths[0]} cannot be written ({first_line(error)}): what was there is as it was; make room "
                         "or give another place") from None
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


def save_together(folder, stamp, writers, inputs=()):
    """Write {file name: function that writes to a path}, and then the stamp: the files in `folder` are of one run.

    The stamp has the SHA-256 of these and of the `inputs` they were made from, as `sha256sum --check` reads it. What a
    killed process left of two runs does not agree with it.
    """
    with replace_when_whole(*(folder / name for name in writers)) as temporary:
        for write, path in zip(writers.values(), temporary):
            write(path)
    with replace_when_whole(folder / stamp) as [temporary]:
        temporary.write_text("".join(f"{_sha256(folder / name)}  {name}\n" for name in [*writers, *inputs]), "utf-8",
                             newline="\n")


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_stamp(stamp):
    """Return the {file name: SHA-256} of a stamp, {} where there is none."""
    text = stamp.read_text("utf-8", "replace") if stamp.exists() else ""
    return {name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (.+)$", text, re.MULTILINE)}


def require_same_run(stamp, remedy, ignored=()):
    """Raise InputError, with the remedy, if files that a stamp names are of another run. One's own need no stamp."""
    changed = [name for name, digest in read_stamp(stamp).items() if name not in ignored
               and (stamp.parent / name).is_file() and _sha256(stamp.parent / name) != digest]
    if changed:
        raise InputError(f"{' and '.join(changed)} changed since {stamp} was written, or is of another run: {remedy}")


def save_arrays(folder, arrays, inputs=()):
    """Write {file name: array}, or remove it for None, and a stamp that also names the `inputs`; return the names."""
    writers = {name: functools.partial(np.save, arr=array) for name, array in arrays.items() if array is not None}
    save_together(folder, Path(next(iter(arrays))).with_suffix(".sha256"), writers, inputs)
    for name in arrays.keys() - writers.keys():
        (folder / name).unlink(missing_ok=True)
    return list(writers)


def load_arrays(folder, names, remedy, optional=()):
    """Return what save_arrays wrote by these names, None for `optional` ones that are not there. Raises InputError."""
    require_same_run((folder / names[0]).with_suffix(".sha256"), remedy)
    arrays = []
    for name in names:
        try:
            is_there = name not in optional or (folder / name).exists()
            arrays.append(np.load(folder / name, allow_pickle=False) if is_there else None)
        except Exception as error:  # NumPy raises whatever it stumbles over
            raise InputError(f"{folder / name} is missing or damaged ({first_line(error)}): {remedy}") from None
    return arrays
