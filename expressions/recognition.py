"""Recognition: from an image to its faces, each with a box and the probabilities of the seven expressions."""
import functools
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from expressions import yunet
from expressions.artifacts import MODELS
from expressions.console import InputError, print_status
from expressions.detection import crop_faces, detect_faces, run_detector
from expressions.drawing import draw_faces
from expressions.explanation import draw_explanation, occlusion_map
from expressions.images import is_remote, read_image, write_image
from expressions.labels import EXPRESSIONS, UNSURE
from expressions.model_files import load_classifier, onnx_bytes

MIN_PROBABILITY = 0.5  # on PublicTest 42 % of the labels below it are right, and 79 % of the 75 % above
DETECTORS = {"haar": lambda: detect_faces, "yunet": lambda: yunet.YuNet()}


@dataclass
class Face:
    """A face in an image, or in a video, where it has an identity."""
    box: tuple  # x, y, width, height in pixels
    expression: str  # one of EXPRESSIONS, or "unsure"
    probability: float  # of that expression, or of the one that was not probable enough
    probabilities: dict  # {expression: probability} of all seven
    score: float  # of the detector
    track_id: int | None = None  # the same for one person through a video, from 1
    is_found: bool = True  # in this very frame of a video; otherwise the box is where the face is likely to be
    raw: tuple | None = None  # the seven probabilities of this very frame, not smoothed; None if it was not classified

    @property
    def guesses(self):
        """The two most probable expressions."""
        return sorted(self.probabilities, key=self.probabilities.get, reverse=True)[:2]


class Recogniser:
    """A loaded classifier with a detector: image → list of Face. For one thread at a time.

    `models` is a models folder, a file that Keras saved, or the bytes of model.onnx. `detector` is "haar", "yunet",
    None as in choose_detector, or a function as described in expressions.detection. Faces with a lower score than
    `min_score` are left out; those of which no expression has `min_probability` are "unsure". Raises InputError.
    """

    def __init__(self, models=MODELS, detector=None, min_score=0, min_probability=0):
        self.classify = load_classifier(models if isinstance(models, bytes) else Path(models))
        self.detector = detector if callable(detector) else DETECTORS[choose_detector(detector)]()
        self.min_score, self.min_probability = min_score, min_probability

    def __call__(self, image):
        """Return the Faces in an image as `recognise` takes it."""
        return self.faces_and_crops(as_bgr(image))[0]

    def faces_and_crops(self, image):
        """Return the Faces in an image uint8 BGR (h, w, 3), and what was classified of it, uint8 (n, 48, 48, 1)."""
        boxes, scores, eyes = run_detector(self.detector, image)
        kept = scores >= self.min_score
        crops = crop_faces(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), eyes[kept])
        probabilities = self.classify(crops) if len(crops) else ()
        return [make_face(*face, self.min_probability)
                for face in zip(boxes[kept], probabilities, scores[kept])], crops

    def explain(self, image):
        """Return a picture uint8 BGR with a row for each of the Faces in an image: see explanation.draw_explanation."""
        return self.draw_explanations(*self.faces_and_crops(as_bgr(image)))

    def draw_explanations(self, faces, crops):
        """Return that picture of what faces_and_crops found."""
        maps = [occlusion_map(self.classify, crop, EXPRESSIONS.index(face.guesses[0]))
                for face, crop in zip(faces, crops)]
        return np.vstack([draw_explanation(*row) for row in zip(crops, maps, faces)])


def recognise(image, models=MODELS, detector=None):
    """Return the Faces in an image, from left to right; the model is loaded once.

    `image` is a path or address, a NumPy image uint8 BGR (h, w, 3) or grey (h, w), or a PIL image, which is taken as it
    stands. `models` and `detector` are those of Recogniser. Raises InputError.
    """
    return cached_recogniser(models, detector)(image)


def cached_recogniser(models=MODELS, detector=None, min_score=0, min_probability=0):
    """Return a Recogniser, loaded once a thread; on a cluster `models` is the bytes of (model.onnx, YuNet or None)."""
    return _load_recogniser(models, detector, min_score, min_probability, threading.get_ident())


@functools.lru_cache(maxsize=64)
def _load_recogniser(models, detector, min_score, min_probability, thread):
    if isinstance(models, tuple):
        cv2.setNumThreads(1)  # the other cores have workers of their own
        models, content = models
        detector = yunet.YuNet(content) if content else "haar"
    return Recogniser(models, detector, min_score, min_probability)


def choose_detector(name):
    """Return `name`, for None yunet if its file is there; to get yunet fetch its file, or say why not and take haar."""
    if name == "yunet" and not yunet.PATH.is_file():
        try:
            yunet.fetch()
        except InputError as error:
            print_status(f"{error}; going on with the Haar cascades")
            return "haar"
    return name or ("yunet" if yunet.PATH.is_file() else "haar")


def add_detector_arguments(parser):
    """Add the flags that all recognition scripts share."""
    parser.add_argument("--models", type=models_argument, metavar="FOLDER", default=MODELS,
                        help="where the model is; or a .keras or .h5 file")
    parser.add_argument("--detector", choices=DETECTORS, help="haar: OpenCV's cascades; yunet: more faces in "
                        "less time, gets its file (233 KB) once (default: yunet where its file is there)")
    parser.add_argument("--min-score", type=float, default=0, metavar="SCORE", help="leave out faces of which the "
                        "detector is less sure: haar from 3 on, yunet from 0.7 to 1")
    parser.add_argument("--min-probability", type=float, default=MIN_PROBABILITY, metavar="P", help='faces of which no '
                        'expression is so probable are called "unsure" (default: %(default)s; 0 for never)')
    parser.add_argument("--quiet", action="store_true", help="print only rows, unless something is wrong")


def models_argument(text):
    """Return a models folder, or the bytes of an ONNX file: a file of Keras is converted once, not by each process."""
    return onnx_bytes(Path(text)) if Path(text).is_file() else Path(text)


def as_bgr(image):
    """Return an image as `recognise` takes it as uint8 BGR (h, w, 3). Raises InputError."""
    if isinstance(image, (str, Path)):
        return read_image(image)
    if hasattr(image, "convert"):  # PIL's
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    shape = getattr(image, "shape", ())
    if getattr(image, "dtype", None) != np.uint8 or not image.size or len(shape) < 2 or shape[2:] not in ((), (3,)):
        raise InputError("an image is a path, an array uint8 BGR (height, width, 3), or a PIL image")
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image


def make_face(box, probabilities, score, min_probability=0, expression=None, **in_video):
    """Return a Face; probabilities are float (7,), `expression` is an index (default: the most probable one).

    `in_video` are track_id, is_found and raw.
    """
    by_name = dict(zip(EXPRESSIONS, map(float, probabilities)))
    name = EXPRESSIONS[probabilities.argmax() if expression is None else expression]
    label = name if by_name[name] >= min_probability else UNSURE
    return Face(tuple(map(int, box)), label, by_name[name], by_name, float(score), **in_video)


def face_row(number, face):
    """Return a face's part of a row: what tables.FACE_COLUMNS names."""
    return [number, *face.box, face.expression, *(round(value, 4) for value in (
        face.probability, *face.probabilities.values(), face.score)), *face.guesses]


def video_row(number, seconds, face):
    """Return a row of a face in a frame of a video: what tables.VIDEO_COLUMNS names."""
    raw = [""] * len(EXPRESSIONS) if face.raw is None else [round(value, 4) for value in face.raw]
    return [number, f"{seconds:.3f}", *face_row(face.track_id, face), int(face.is_found), *raw]


def explained_path(output):
    """Return where the explanation of an image goes that is written to `output`."""
    return f"{str(output).rpartition('.')[0]}_explained.png"


def recognise_file(task, models=MODELS, detector=None, min_score=0, min_probability=0, folder=Path(), keep_image=False,
                   explain=False):
    """Recognise the faces of an image file, draw them, and write the image, and with `explain` a second one.

    `task` is (path, output), relative to `folder`, the output None where none is written. Returns the rows of the faces
    as face_row gives them, and the image, or None without `keep_image`. Where the image cannot be read an InputError is
    returned, so that others go on. Raises InputError where it cannot be written.
    """
    path, output = (name if name is None or is_remote(name) else folder / name for name in task)
    recogniser = cached_recogniser(models, detector, min_score, min_probability)
    try:
        image = read_image(path)
        faces, crops = recogniser.faces_and_crops(image)
    except (InputError, MemoryError) as error:
        return InputError(str(error) or "the memory is full: make it smaller")
    if output and explain and faces:
        write_image(explained_path(output), recogniser.draw_explanations(faces, crops))
    if output or keep_image:
        draw_faces(image, faces)
    if output:
        write_image(output, image)
    return [face_row(number, face) for number, face in enumerate(faces, start=1)], image if keep_image else None
