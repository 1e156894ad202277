"""Images: which files count as one, where they are, local or at an address, reading and writing them."""
import contextlib
import functools
import glob
import importlib.util
import os
import types
from pathlib import Path

import cv2
import numpy as np

from expressions import MAX_PIXELS
from expressions.artifacts import replace_when_whole
from expressions.console import InputError, first_line

IMAGE_SUFFIXES = (".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
                  ".pnm", ".ppm", ".tif", ".tiff", ".webp")
MAX_BYTES = 3 * MAX_PIXELS + (1 << 20)  # of a file: no format needs more for MAX_PIXELS
PASSED_OVER = (".", "output_")  # how hidden names begin, and those that an earlier run wrote


def is_remote(path):
    """Whether a path is an address for fsspec, s3://bucket/image.jpg for example; then it is a str, else a Path."""
    return "://" in str(path)


def parse_path(path):
    """A path as a local Path or, where it is an address, as it is."""
    return path if is_remote(path) else Path(path)


@contextlib.contextmanager
def filesystem(path):
    """Yield the file system of a path or address, as fsspec has them, and the path in it.

    Raises InputError, also for errors in the block.
    """
    try:
        if is_remote(path):
            import fsspec
            yield fsspec.core.url_to_fs(path)
        else:
            yield LOCAL, str(path)
    except InputError:
        raise
    except Exception as error:  # each file system has its own
        needs = ", and requirements-cluster.txt" if is_remote(path) else ""
        reason = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"{path} cannot be opened ({reason}): check the path{needs}") from None


def read_image(path):
    """Read an image file or address as uint8 BGR (h, w, 3), upright as its EXIF orientation says.

    Raises InputError where it cannot be read or has more than MAX_PIXELS pixels.
    """
    with filesystem(path) as (files, name), files.open(name, "rb") as file:
        encoded = np.frombuffer(file.read(MAX_BYTES + 1), np.uint8)
    is_too_large, image = len(encoded) > MAX_BYTES, None
    try:
        if not is_too_large:
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # imread fails on letters outside Windows's code page
    except cv2.error as error:
        is_too_large = error.code == cv2.Error.StsNoMem or "CV_IO_MAX_IMAGE" in str(error)
    if is_too_large:
        raise InputError(f"{path} has more than {MAX_PIXELS:,} pixels, or than the memory holds: make it smaller")
    if image is None or image.ndim != 3:  # OpenCV leaves grey PFM grey
        raise InputError(f"{path} is not an image that OpenCV reads, or it is damaged: convert it to JPEG or PNG, or "
                         "copy it again; a video is for recognise_video.py")
    return image


def write_image(path, image):
    """Write an image uint8 BGR (h, w, 3) to a path or address, in the format that its suffix names, or not at all."""
    try:
        fits, encoded = cv2.imencode(Path(path).suffix, image)
    except cv2.error:
        fits = False
    if not fits:
        raise InputError(f"{path} cannot hold {image.shape[1]} x {image.shape[0]} pixels: end it in .png")
    if is_remote(path):
        with filesystem(path) as (files, name):
            files.makedirs(name.rpartition("/")[0], exist_ok=True)
            files.pipe_file(name, encoded.tobytes())
    else:
        with replace_when_whole(path) as [temporary]:
            temporary.write_bytes(encoded.tobytes())


def is_uniform(image):
    """Whether an image uint8 BGR (h, w, 3) is one flat colour, of a covered lens for example."""
    ranges = map(cv2.minMaxLoc, cv2.split(image))
    return all(highest - lowest < 3 for lowest, highest, *_ in ranges)


def output_path(path, folder=None):
    """output_<name>, relative, for an image at a path or address; for one in a folder output_<folder>/... ."""
    name = Path(path).name if folder is None else Path(folder).resolve().name / Path(path).relative_to(folder)
    return with_writable_suffix(Path(f"output_{name}"))


def with_writable_suffix(path):
    """The path, with .png added where OpenCV cannot write colours in its format."""
    name = os.fsencode(path.name)  # OpenCV crashes at a str whose letters are no UTF-8
    holds_colours = path.suffix.lower() not in (".pbm", ".pgm", ".exr") and cv2.haveImageWriter(name)
    return path if holds_colours else path.with_name(path.name + ".png")


def sample_image_path():
    """The portrait of Grace Hopper that comes with matplotlib, which is not imported. Raises InputError without it."""
    package = importlib.util.find_spec("matplotlib")
    if not package:
        raise InputError("the sample portrait comes with matplotlib, which is not installed: give an image")
    return Path(package.origin).parent / "mpl-data/sample_data/grace_hopper.jpg"


def find_images(argument):
    """Yield (path, output) for a file, a folder, a pattern, or an address of one of them, sorted by name.

    The output is a relative Path: output_<name>, in a folder output_<folder>/... . Hidden files, those that an earlier
    run has written (output_*) and folders of such names are passed over, by a pattern only if it does not name them.
    """
    first, *outer = argument.split("::") if is_remote(argument) else [argument]  # of a chain, zip://...::s3://...
    scheme = first.rpartition("://")[0]
    with filesystem(argument) as (files, top):
        is_pattern = glob.has_magic(first) and (scheme or not Path(top).exists())
        is_file = Path(first).suffix.lower() in IMAGE_SUFFIXES if scheme else not Path(top).is_dir()
        if is_pattern:
            found = (path for path in sorted(files.glob(top), key=Path) if (scheme or Path(path).is_file()) and (
                "output_" in top or not any(part.startswith("output_") for part in Path(path).parts)))
        else:
            found = [top] if is_file else _walk(files.walk(top))
        for path in found:
            output = output_path(path, None if is_pattern or is_file else top)
            if scheme:
                yield "::".join([path if is_remote(path) else f"{scheme}://{path}", *outer]), output
            else:
                yield Path(path), output


def _walk(folders):
    """The paths of the images in what the walk of a file system yields."""
    for folder, inner, names in folders:
        inner[:] = sorted(name for name in inner if not name.startswith(PASSED_OVER))
        for name in sorted(names):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(PASSED_OVER):
                yield f"{folder.rstrip('/')}/{name}"


def _raise(error):
    raise error


LOCAL = types.SimpleNamespace(open=open, glob=functools.partial(glob.glob, recursive=True),
                              walk=lambda folder: os.walk(folder or ".", onerror=_raise))  # as a file system of fsspec
