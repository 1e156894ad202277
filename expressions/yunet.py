"""YuNet, a small face-detecting network (Wu, Peng and Yu 2023) that OpenCV runs: its file, and the detector.

The file, 233 KB under the MIT licence, is not part of this project: `fetch` gets it from where OpenCV publishes it.
"""
import hashlib

import cv2
import numpy as np

from expressions.artifacts import MODELS, replace_when_whole
from expressions.console import InputError, first_line, print_status

PATH = MODELS / "face_detection_yunet_2023mar.onnx"
URL = ("https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
       "face_detection_yunet_2023mar.onnx")
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
BY_HAND = f"get {PATH.name} from OpenCV's model zoo (opencv_zoo, face_detection_yunet) and put it into {MODELS}"
TIMEOUT = 20  # seconds without an answer
MAX_SIDE = 1280  # pixels; larger images are searched at this size: a face is at least 1/100 of it
MIN_SIDE = 10  # pixels of an image that can hold a face
MIN_SCORE = 0.7  # at 0.6 one more of 63 faces is found, and one to three more false ones: benchmarks/find_faces.py
MAX_IOU = 0.3  # of two boxes; of those that overlap more, the one with the lower score is dropped


class YuNet:
    """A detector: image uint8 BGR (h, w, 3) → boxes int (n, 4), scores float (n,), landmarks float (n, 5, 2).

    `content` are the bytes of its file (default: those at PATH). The landmarks are x and y in pixels of the right eye,
    the left eye, the nose and the mouth's corners. For one thread at a time. Raises InputError where there is no file.
    """

    def __init__(self, content=None):
        content = content or (PATH.read_bytes() if PATH.is_file() else b"")
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise InputError(f"{PATH} is not there, or is not YuNet's file of 2023: {BY_HAND}")
        buffer = np.frombuffer(content, np.uint8)
        self.network = cv2.FaceDetectorYN.create("onnx", buffer, np.empty(0, np.uint8), (32, 32), MIN_SCORE, MAX_IOU)

    def __call__(self, image, max_side=MAX_SIDE):
        height, width = image.shape[:2]
        zoom = min(1, max_side / max(height, width))
        size = max(1, round(zoom * width)), max(1, round(zoom * height))
        while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:  # OpenCV is five times as fast at halves
            image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        if zoom < 1:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        self.network.setInputSize(size)
        found = self.network.detect(image)[1] if min(size) >= MIN_SIDE else None
        found = np.empty((0, 15)) if found is None else found[np.argsort(found[:, 0], kind="stable")]
        found = found[np.isfinite(found).all(axis=1)]  # very small images give nan
        corners = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1) / zoom
        corners = np.clip(np.round(corners), 0, (width, height) * 2).astype(int)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        is_inside = (boxes[:, 2:] > 0).all(axis=1)
        return boxes[is_inside], found[is_inside, 14], found[is_inside, 4:14].reshape(-1, 5, 2) / zoom


def fetch(url=URL):
    """Get YuNet's file and put it to PATH whole. Raises InputError where it cannot be had."""
    import http.client  # this and the next take a tenth of the time to the first result
    import urllib.request

    print_status("getting YuNet's file (233 KB)")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            content = answer.read()
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise ValueError("another file came, or a part of it")
    except (OSError, ValueError, http.client.HTTPException) as error:  # no network, or a connection that breaks
        raise InputError(f"YuNet's file cannot be had ({first_line(error)}): {BY_HAND}") from None
    with replace_when_whole(PATH) as [temporary]:
        temporary.write_bytes(content)
