"""YuNet, a small face-detecting network (Wu, Peng and Yu 2023) that OpenCV runs: its file, and the detector.

The file, 233 KB under the MIT licence, is not part of this project: `fetch` gets it from where OpenCV publishes it.
"""
import hashlib
import sys
import urllib.request

import cv2
import numpy as np

from expressions.artifacts import MODELS, replace_when_whole
from expressions.console import InputError, first_line

PATH = MODELS / "face_detection_yunet_2023mar.onnx"
URL = ("https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
       "face_detection_yunet_2023mar.onnx")
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
N_BYTES = 232_589
TIMEOUT = 20  # seconds without an answer
MAX_SIDE = 1280  # pixels; larger images are searched at this size: a face is at least 1/100 of it
MIN_SIDE = 10  # pixels of an image that can hold a face
MIN_SCORE = 0.7  # at 0.6 one more of 63 faces is found, and one to three more false ones: benchmarks/find_faces.py
MAX_IOU = 0.3  # of two boxes; of those that overlap more, the one with the lower score is dropped


class YuNet:
    """A detector: image uint8 BGR (h, w, 3) → boxes int (n, 4), scores float (n,), landmarks float (n, 5, 2).

    `path` (default: PATH) may also be the bytes of the file. The landmarks are x and y in pixels of the right eye, the
    left eye, the nose and the mouth's corners. For one thread at a time. Raises InputError where the file is missing.
    """

    def __init__(self, path=None, max_side=MAX_SIDE):
        path = path or PATH
        self.content = path if isinstance(path, bytes) else path.read_bytes() if path.is_file() else b""
        self.max_side = max_side
        if hashlib.sha256(self.content).hexdigest() != SHA256:
            raise InputError(f"{path} is not YuNet's file of 2023: {by_hand()}")
        buffer = np.frombuffer(self.content, np.uint8)
        self.network = cv2.FaceDetectorYN.create("onnx", buffer, np.empty(0, np.uint8), (32, 32), MIN_SCORE, MAX_IOU)

    def __call__(self, image):
        height, width = image.shape[:2]
        zoom = min(1, self.max_side / max(height, width))
        size = max(1, round(zoom * width)), max(1, round(zoom * height))
        if zoom < 1:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self.network.setInputSize(size)
        found = self.network.detect(image)[1] if min(size) >= MIN_SIDE else None  # lines give boxes of nan
        found = np.empty((0, 15)) if found is None else found[np.argsort(found[:, 0], kind="stable")]
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1) / zoom
        corners = np.clip(np.round(corners), 0, (width, height) * 2).astype(int)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        is_inside = (boxes[:, 2:] > 0).all(axis=1)
        return boxes[is_inside], found[is_inside, 14], found[is_inside, 4:14].reshape(-1, 5, 2) / zoom


def fetch(path=None, url=URL):
    """Get YuNet's file and put it into place (default: PATH) whole. Raises InputError where it cannot be had."""
    path, content = path or PATH, b""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            while len(content) <= N_BYTES and (block := answer.read(1 << 15)):
                content += block
                print(f"\rgetting YuNet: {len(content) / N_BYTES:.0%}", end="", file=sys.stderr)
        print(file=sys.stderr)
    except (OSError, ValueError) as error:  # no network, no such address, a connection that breaks
        raise InputError(f"YuNet's file cannot be had ({first_line(error)}): {by_hand(path)}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"{url} gave another file than YuNet of 2023, or a part of it: {by_hand(path)}")
    with replace_when_whole(path) as [temporary]:
        temporary.write_bytes(content)


def by_hand(path=None):
    """Say how to get the file by hand."""
    folder = (path or PATH).parent
    return f"get {PATH.name} from OpenCV's model zoo (opencv_zoo, face_detection_yunet) and put it into {folder}"
