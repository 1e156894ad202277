"""Recognition: from an image to its faces, each with a box and the probabilities of the seven expressions."""
import functools
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from expressions.artifacts import MODELS
from expressions.console import InputError
from expressions.detection import crop_faces, detect_faces, rotate_image
from expressions.drawing import draw_faces
from expressions.images import is_remote, is_uniform, read_image, write_image
from expressions.labels import EXPRESSIONS
from expressions.model_files import load_classifier

ROTATIONS = (25, -25)  # degrees of the copies that are searched where the image itself shows no face
MIN_CONFIDENCE_ROTATED = 4  # stricter than detect_faces's: more searches find more false faces
MAX_DIAGONAL = 32_000  # pixels; OpenCV rotates no image that is longer than 32,767


@dataclass
class Face:
    """A face in an image, or in a video, where it has an identity."""
    box: tuple  # x, y, width, height in pixels
    expression: str  # one of EXPRESSIONS
    probability: float  # of that expression
    probabilities: dict  # {expression: probability} of all seven
    track_id: int | None = None  # the same for one person through a video, from 1


class Recogniser:
    """A loaded classifier with a detector: image → faces. For one thread at a time.

    `models` is a models folder, or the bytes of its model.onnx. `detector` is a function: grey image uint8 (h, w) →
    boxes int (n, 4); the default is detect_faces.
    """

    def __init__(self, models=MODELS, detector=None):
        self.classify = load_classifier(models if isinstance(models, bytes) else Path(models))
        self.detector = detector or detect_faces

    def detect(self, image):
        """The boxes int (n, 4) and probabilities float32 (n, 7) of the faces in an image uint8 BGR (h, w, 3)."""
        return recognise_faces(image, self.classify, self.detector)

    def __call__(self, image):
        """The Faces in an image as `recognise` takes it."""
        return [make_face(*face) for face in zip(*self.detect(as_bgr(image)))]


def recognise(image, models=MODELS, detector=None):
    """The Faces in an image, from left to right; the model is loaded once.

    `image` is a path or address, a NumPy image uint8 BGR (h, w, 3) or grey (h, w), or a PIL image, which is taken as it
    stands. `models` and `detector` are those of Recogniser. Raises InputError.
    """
    return cached_recogniser(models, detector)(image)


def cached_recogniser(models=MODELS, detector=None):
    """A Recogniser that is loaded once for each thread."""
    return _load_recogniser(models, detector, threading.get_ident())


@functools.lru_cache(maxsize=64)
def _load_recogniser(models, detector, thread):
    if isinstance(models, bytes):
        cv2.setNumThreads(1)  # on a cluster, where the other cores have workers of their own
    return Recogniser(models, detector)


def as_bgr(image):
    """An image as `recognise` takes it, as uint8 BGR (h, w, 3). Raises InputError."""
    if isinstance(image, (str, Path)):
        return read_image(image if is_remote(image) else Path(image))
    if hasattr(image, "convert"):  # PIL's
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    shape = getattr(image, "shape", ())
    if getattr(image, "dtype", None) != np.uint8 or not image.size or len(shape) < 2 or shape[2:] not in ((), (3,)):
        raise InputError("an image is a path, an array uint8 BGR (height, width, 3), or a PIL image")
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image


def make_face(box, probabilities, expression=None, track_id=None):
    """A Face of a box int (4,) and probabilities (7,); `expression` is an index (default: the most probable one)."""
    by_name = dict(zip(EXPRESSIONS, map(float, probabilities)))
    name = EXPRESSIONS[probabilities.argmax() if expression is None else expression]
    return Face(tuple(map(int, box)), name, by_name[name], by_name, track_id)


def recognise_faces(image, classify, detector=detect_faces):
    """Boxes int (n, 4) and probabilities float32 (n, 7) of the faces in an image uint8 BGR (h, w, 3).

    `classify` is a function: grey faces uint8 (n, 48, 48, 1) → probabilities. Where detect_faces, which knows upright
    faces only, finds none, copies of the image rotated by ROTATIONS are searched until one shows a face.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    boxes = np.asarray(detector(grey), int).reshape(-1, 4)
    if len(boxes):
        return boxes, classify(crop_faces(grey, boxes))
    is_rotated = detector is detect_faces and np.hypot(*grey.shape) < MAX_DIAGONAL
    for degrees in ROTATIONS if is_rotated else ():
        rotated, inverse = rotate_image(grey, degrees)
        boxes = detect_faces(rotated, min_confidence=MIN_CONFIDENCE_ROTATED)
        if len(boxes):
            probabilities = classify(crop_faces(rotated, boxes))
            sizes = boxes[:, 2:]
            corners = (boxes[:, :2] + sizes / 2) @ inverse[:, :2].T + inverse[:, 2] - sizes / 2
            corners = np.round([corners, corners + sizes]).astype(int).clip(0, grey.shape[::-1])
            return np.concatenate([corners[0], corners[1] - corners[0]], axis=1), probabilities
    return boxes, np.empty((0, len(EXPRESSIONS)), np.float32)


def face_row(number, box, probabilities, expression=None):
    """A face's part of a table row: number, x, y, width, height, expression, its probability, all seven probabilities.

    `expression` is the index of the one to name (default: the most probable one).
    """
    expression = probabilities.argmax() if expression is None else expression
    return [int(number), *map(int, box), EXPRESSIONS[expression],
            *(round(float(value), 4) for value in (probabilities[expression], *probabilities))]


def recognise_file(task, models=MODELS, folder=Path(), keep_image=False):
    """Recognise the faces of an image file, draw them, and write the image.

    `task` is (path, output), relative to `folder`, the output None where none is written. Returns the rows of the faces
    as face_row gives them, whether the image is uniform, and the image itself, or None without `keep_image`. Where the
    image cannot be read an InputError is returned, so that others go on. Raises InputError where it cannot be written.
    """
    path, output = (name if name is None or is_remote(name) else folder / name for name in task)
    recogniser = cached_recogniser(models)
    try:
        image = read_image(path)
        boxes, probabilities = recogniser.detect(image)
    except MemoryError:
        return InputError(f"{path} needs more memory than there is: make it smaller")
    except (InputError, OSError) as error:
        return InputError(str(error))
    uniform = is_uniform(image)
    if output or keep_image:
        draw_faces(image, boxes, probabilities)
    if output:
        write_image(output, image)
    rows = [face_row(number, *face) for number, face in enumerate(zip(boxes, probabilities), start=1)]
    return rows, uniform, image if keep_image else None
