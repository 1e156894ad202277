"""Images: which files count as one, where they are, local or at an address, reading and writing them."""
import contextlib
import functools
import glob
import importlib.util
import io
import os
import types
from pathlib import Path

import cv2
import numpy as np

from expressions import MAX_PIXELS
from expressions.artifacts import replace_when_whole
from expressions.console import InputError, catch_library_messages, first_line, print_status

IMAGE_SUFFIXES = (".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png",
                  ".pnm", ".ppm", ".tif", ".tiff", ".webp")
MAX_BYTES = 3 * MAX_PIXELS + (1 << 20)  # of a file: no format needs more for MAX_PIXELS
HTTP_TIMEOUT = 60  # seconds in which an http:// server must have sent an image
PASSED_OVER = (".", "output_")  # how hidden names begin, and those that an earlier run wrote


def is_remote(path):
    """Whether a path is an address for fsspec, s3://bucket/image.jpg for example."""
    return "://" in str(path)


def is_pattern(path):
    """Whether a path or address is a pattern like photos/*.jpg; in a web address ? begins a query."""
    if is_remote(path):
        return glob.has_magic(path.partition("?")[0] if path.startswith("http") else path)
    return glob.has_magic(path) and not Path(path).exists()


@contextlib.contextmanager
def filesystem(path):
    """Yield the file system of a path or address, as fsspec has them, and the path in it.

    Raises InputError, also for errors in the block.
    """
    try:
        if is_remote(path):
            import fsspec
            if "http" in path:
                import aiohttp
                options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(HTTP_TIMEOUT)}}
                fsspec.config.conf |= {"http": options, "https": options}
            yield fsspec.core.url_to_fs(path)
        else:
            yield LOCAL, str(Path(path))
    except InputError:
        raise
    except Exception as error:  # each file system has its own
        reason = getattr(error, "strerror", None) or first_line(error)
        needs = ", and requirements-cluster.txt" * is_remote(path)
        raise InputError(f"{path} cannot be opened ({reason}): check the path{needs}") from None


def read_image(path):
    """Read an image file or address as uint8 BGR (h, w, 3), upright as its EXIF orientation says.

    Raises InputError where it cannot be read or has more than MAX_PIXELS pixels.
    """
    encoded, image = bytearray(), None  # cv2.imread fails on letters outside Windows's code page
    as_it_comes = {"block_size": 0} if str(path).startswith("http") else {}  # whatever size the server claims
    with filesystem(path) as (files, name), files.open(name, "rb", **as_it_comes) as file:
        while len(encoded) < MAX_BYTES and (part := file.read(1 << 24)):
            encoded += part
    with contextlib.suppress(Exception), catch_library_messages() as messages:  # decoders stumble over anything
        if encoded[8:12] == b"WEBP" or encoded[4:12] in (b"ftypavif", b"ftypavis"):
            image = decode_upright(encoded)
        else:
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    if image is None or image.ndim != 3:  # OpenCV leaves grey PFM grey
        raise InputError(f"{path} is damaged, no image that OpenCV reads, or has more than {MAX_PIXELS:,} pixels: copy "
                         "it again, convert it to JPEG or PNG, or make it smaller; a video is for recognise_video.py")
    if messages:
        print_status(f"{path} may be damaged: {messages[0]}")
    return image


def decode_upright(encoded):
    """Return a WebP or AVIF image as uint8 BGR (h, w, 3), upright by its EXIF data or AVIF's properties irot and imir.

    Pillow decodes it: OpenCV leaves some as they were held.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(encoded)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError("too many pixels")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[..., ::-1].copy()


def write_image(path, image):
    """Write an image uint8 BGR (h, w, 3) to a path or address, in the format that its suffix names, or not at all."""
    fits, encoded = cv2.imencode(Path(path).suffix, image)
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
    return bool(cv2.meanStdDev(image)[1].max() < 1)


def output_path(path, folder=None):
    """output_<name> for an image at a path or address, for one in a folder output_<folder>/...: relative, with "/"."""
    name = Path(path).name if folder is None else Path(folder).resolve().name / Path(path).relative_to(folder)
    return with_writable_suffix(Path(f"output_{name}").as_posix())


def with_writable_suffix(path):
    """The path or address, with .png added where OpenCV cannot write colours in its format."""
    name = os.fsencode(Path(path).name)  # OpenCV crashes at a str whose letters are no UTF-8
    holds_colours = Path(path).suffix.lower() not in (".pbm", ".pgm", ".exr") and cv2.haveImageWriter(name)
    return path if holds_colours else f"{path}.png"


def sample_image_path():
    """The portrait of Grace Hopper that comes with matplotlib, which is not imported. Raises InputError without it."""
    package = importlib.util.find_spec("matplotlib")
    if not package:
        raise InputError("the sample portrait comes with matplotlib, which is not installed: give an image")
    return Path(package.origin).parent / "mpl-data/sample_data/grace_hopper.jpg"


def find_images(argument, suffixes=IMAGE_SUFFIXES, kind="image"):
    """Return [(path, output)] for a file, a folder, a pattern, or an address of one of them, sorted by path.

    The outputs are those of output_path. What is hidden, or written by an earlier run (output_*), is passed over, also
    folders, if it is not named. Files with other `suffixes` are not images. Raises InputError where nothing is left.
    """
    def is_image(path):
        return Path(path).suffix.lower() in suffixes

    first, *outer = argument.split("::") if is_remote(argument) else [argument]  # of a chain, zip://...::s3://...
    with filesystem(argument) as (files, top):
        several = is_pattern(first)
        if not several and (is_image(first.partition("?")[0]) if is_remote(first) else not Path(top).is_dir()):
            name = top.partition("?")[0] if is_remote(first) else top
            return [(argument if is_remote(first) else top, output_path(name))]
        paths = [path for path in sorted((files.glob if several else files.find)(top)) if is_image(path) and not any(
            part.startswith(PASSED_OVER) and part not in top for part in Path(path).parts)]
        if not paths:
            raise InputError(f"{argument} holds or matches no {kind}: check the path")
        return [("::".join([files.unstrip_protocol(path), *outer]), output_path(path, None if several else top))
                for path in paths]


def _find(folder):
    """Yield all files in a folder. Raises OSError where one of its folders cannot be read."""
    def fail(error):
        raise error
    for inner, _, names in os.walk(folder, onerror=fail):
        yield from (f"{inner}/{name}" for name in names)


LOCAL = types.SimpleNamespace(  # as a file system of fsspec
    open=open, unstrip_protocol=str, glob=functools.partial(glob.glob, recursive=True), find=_find)
