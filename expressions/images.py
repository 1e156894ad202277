"""Images: which files count as one, where they are, local or at an address, reading and writing them."""
import contextlib
import glob
import importlib.util
import os
from pathlib import Path

import cv2
import numpy as np

from expressions import MAX_PIXELS
from expressions.artifacts import replace_when_whole
from expressions.console import InputError, first_line

IMAGE_SUFFIXES = (".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
                  ".pnm", ".ppm", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")  # how common formats begin
MAX_BYTES = 3 * MAX_PIXELS + (1 << 20)  # of a file: no format needs more for MAX_PIXELS
PASSED_OVER = (".", "output_")  # how hidden names begin, and those that an earlier run wrote


def is_remote(path):
    """Whether a path is an address for fsspec, s3://bucket/image.jpg for example; then it is a str, else a Path."""
    return "://" in str(path)


def parse_path(text):
    """An argument as a local Path or, where it is an address, as it is."""
    return text if is_remote(text) else Path(text)


@contextlib.contextmanager
def filesystem(address):
    """Yield fsspec's file system of an address, and the path in it. Raises InputError, also for errors in the block."""
    if not importlib.util.find_spec("fsspec"):
        raise InputError(f"{address} needs fsspec: pip install -r requirements-cluster.txt")
    import fsspec

    try:
        yield fsspec.core.url_to_fs(address)
    except InputError:
        raise
    except Exception as error:  # each file system has its own
        raise InputError(f"{address} cannot be opened ({first_line(error)}): check the address and what it needs"
                         ) from None


def read_image(path):
    """Read an image file or address as uint8 BGR (h, w, 3), upright as its EXIF orientation says.

    Raises InputError where it cannot be read or has more than MAX_PIXELS pixels.
    """
    too_large = InputError(f"{path} has more than {MAX_PIXELS:,} pixels: make it smaller")
    if is_remote(path):
        with filesystem(path) as (files, name), files.open(name, "rb") as file:
            encoded = np.frombuffer(file.read(MAX_BYTES + 1), np.uint8)
    else:
        if not path.is_file():
            raise InputError(f"{path} is {'not a file' if path.exists() else 'not there'}: check the path")
        if path.stat().st_size > MAX_BYTES:
            raise too_large
        encoded = np.fromfile(path, np.uint8)  # imread fails on letters outside Windows's code page
    if len(encoded) > MAX_BYTES:
        raise too_large
    image = None
    try:
        if len(encoded):
            image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise too_large from None
        if error.code == cv2.Error.StsNoMem:
            raise InputError(f"{path} needs more memory than there is: make it smaller") from None
    if image is None or image.ndim != 3:  # OpenCV leaves grey PFM grey
        raise InputError(f"{path} {_why_unreadable(path, encoded)}")
    return image


def _why_unreadable(path, encoded):
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        return "is not an image: give a video to recognise_video.py"
    if encoded[:4].tobytes().startswith(SIGNATURES):
        return "is not a whole image, it is cut short or damaged: copy or download it again"
    return "is not an image that OpenCV reads: convert it to JPEG or PNG"


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


def output_path(path):
    """output_<name> in the current folder, for an image at a path or address."""
    return with_writable_suffix(Path(f"output_{Path(path).name}"))


def with_writable_suffix(path):
    """The path, with .png added where OpenCV cannot write colours in its format."""
    name = os.fsencode(path.name)  # OpenCV crashes at a str whose letters are no UTF-8
    holds_colours = path.suffix.lower() not in (".pbm", ".pgm", ".exr") and cv2.haveImageWriter(name)
    return path if holds_colours else path.with_name(path.name + ".png")


def sample_image_path():
    """The portrait of Grace Hopper that comes with matplotlib, which is not imported. Raises InputError without it."""
    package = importlib.util.find_spec("matplotlib")
    path = Path(package.origin).parent / "mpl-data/sample_data/grace_hopper.jpg" if package else None
    if path is None or not path.is_file():
        raise InputError("the sample portrait comes with matplotlib, which is not installed: give an image")
    return path


def is_image_name(name):
    """Whether a file counts as an image in a folder: by its suffix, and neither hidden nor of an earlier run."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(PASSED_OVER)


def find_images(argument):
    """Yield (path, output) for a file, a folder, a pattern, or an address of one of them, sorted by name.

    The output is a relative Path: output_<name>, in a folder output_<folder>/... . Hidden files, those that an earlier
    run has written (output_*) and folders of such names are passed over, by a pattern only if it does not name them.
    """
    if is_remote(argument):
        yield from _find_remote(argument)
    elif Path(argument).is_dir():
        top = Path(f"output_{Path(argument).resolve().name}")
        for path in map(Path, _walk(os.walk(Path(argument), onerror=_raise))):
            yield path, with_writable_suffix(top / path.relative_to(argument))
    elif Path(argument).exists() or not glob.has_magic(argument):
        yield Path(argument), output_path(argument)
    else:
        for path in sorted(map(Path, glob.glob(argument, recursive=True))):  # noqa: PTH207, takes whole paths
            is_output = any(part.startswith("output_") for part in path.parts)
            if path.is_file() and ("output_" in argument or not is_output):
                yield path, output_path(path)


def _walk(folders):
    """The paths of the images in what os.walk or fsspec's walk yields."""
    for folder, inner, names in folders:
        inner[:] = sorted(name for name in inner if not name.startswith(PASSED_OVER))
        yield from (f"{folder.rstrip('/')}/{name}" for name in sorted(names) if is_image_name(name))


def _raise(error):
    raise error


def _find_remote(address):
    """find_images for an address; of a chained one, zip://...::s3://..., what comes after the first part stays."""
    first, *outer = address.split("::")
    if first == "file://":
        raise InputError(f"{address} names no file or folder: check the address")
    with filesystem(address) as (files, top):
        if glob.has_magic(first):
            found = ((path, output_path(path)) for path in sorted(files.glob(top)))
        elif Path(first).suffix.lower() in IMAGE_SUFFIXES:
            found = [(top, output_path(top))]
        else:
            into = Path(f"output_{Path(top).name}")
            found = ((path, with_writable_suffix(into / path[len(top):].lstrip("/")))
                     for path in _walk(files.walk(top)))
        for path, output in found:
            path = path if is_remote(path) else f"{first.partition('://')[0]}://{path}"
            yield "::".join([path, *outer]), output
