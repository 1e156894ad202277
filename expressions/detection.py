"""Face detection: from an image to boxes, and from boxes to the crops that the classifier takes.

A detector is any function: grey image uint8 (h, w) → boxes int (n, 4), each x, y, width, height in pixels.
`detect_faces`, with two cascades of OpenCV (Viola and Jones 2001), is the default one.
"""
import functools
import threading

import cv2
import numpy as np

from expressions.console import InputError
from expressions.labels import FACE_SIZE

# The cascades ship with opencv-python 4, not with 5. benchmarks/find_faces.py measures what each step gives.
PROPOSAL_CASCADE = "haarcascade_frontalface_alt2.xml"  # finds more faces than the other, and more false ones
VERIFIER_CASCADE = "haarcascade_frontalface_default.xml"  # gives a confidence, and frames a face as FER2013 does
CASCADE_WINDOW = 24  # pixels of the smallest face that a cascade finds
MAX_SIDE = 1280  # pixels; larger images are searched at this size: a face is at least 1/60 of it
SCALE_FACTOR = 1.1  # between the sizes at which faces are searched
MIN_NEIGHBOURS = 3  # detections that must agree on a face
MIN_CONFIDENCE = 3  # of the verifier's last stages
SAME_FACE = 0.4  # IoU of two boxes, from which on they are of one face
CROP_SCALE, CROP_SHIFT_Y = 1.05, 0.075  # of a box, until it is framed as FER2013 is: benchmarks/crop_margin.py


@functools.cache
def _cascade(name, thread):  # a cascade keeps state while it searches: each thread needs its own
    try:
        cascade = cv2.CascadeClassifier(cv2.data.haarcascades + name)
    except AttributeError:
        raise InputError(f"OpenCV {cv2.__version__} has no CascadeClassifier: "
                         "pip install 'opencv-python<5'") from None
    if cascade.empty():
        raise InputError(f"{cv2.data.haarcascades}{name} does not load: reinstall opencv-python 4")
    return cascade


def detect_faces(grey, max_side=MAX_SIDE, scale_factor=SCALE_FACTOR, min_neighbours=MIN_NEIGHBOURS,
                 min_confidence=MIN_CONFIDENCE):
    """Boxes int (n, 4) of the faces in a grey image uint8 (h, w): x, y, width, height in pixels, from left to right.

    One cascade proposes faces, in the image made smaller where it is larger than `max_side`; another verifies each.
    Raises InputError where OpenCV lacks the cascades.
    """
    zoom = min(1, max_side / max(grey.shape))
    if zoom * min(grey.shape) < 1:  # nothing would be left of a line
        return np.empty((0, 4), int)
    smaller = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else grey
    cascade = _cascade(PROPOSAL_CASCADE, threading.get_ident())
    proposals = cascade.detectMultiScale(smaller, scaleFactor=scale_factor, minNeighbors=min_neighbours)
    boxes = []
    for proposal in np.reshape(proposals, (-1, 4)) / zoom:
        box, confidence = verify_face(grey, proposal)
        if confidence >= min_confidence and not any(box_iou(box, other) > SAME_FACE for other in boxes):
            boxes.append(box)
    return np.array(sorted(map(tuple, boxes)), int).reshape(-1, 4)


def verify_face(grey, box, face_size=48, scale_factor=1.05, margin=0.3):
    """The most certain face about as large as `box`, and at most `margin` of its width away from it.

    `face_size` is the width in pixels at which the face is examined. Returns the box int (4,) and the cascade's
    confidence, or (None, -inf) where there is no face.
    """
    x, y, width, height = box
    left, top = max(0, int(x - margin * width)), max(0, int(y - margin * height))
    crop = grey[top:int(y + (1 + margin) * height), left:int(x + (1 + margin) * width)]
    zoom = face_size / width
    if min(crop.shape) * zoom < CASCADE_WINDOW:
        return None, -np.inf
    crop = cv2.resize(crop, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    found, _, confidences = _cascade(VERIFIER_CASCADE, threading.get_ident()).detectMultiScale3(
        crop, scaleFactor=scale_factor, minNeighbors=1, minSize=(round(0.75 * face_size),) * 2,
        maxSize=(round(1.4 * face_size),) * 2, outputRejectLevels=True)
    if not len(found):
        return None, -np.inf
    best = int(np.argmax(confidences))
    box = np.round(found[best] / zoom).astype(int) + np.array((left, top, 0, 0))
    box[2:] = np.minimum(box[2:], grey.shape[::-1] - box[:2])  # rounding may cross the border
    return box, float(np.ravel(confidences)[best])


def box_iou(box, other):
    """Intersection over union of two boxes (x, y, width, height)."""
    (x, y, width, height), (left, top, wide, high) = box, other
    common = max(0, min(x + width, left + wide) - max(x, left)) * max(0, min(y + height, top + high) - max(y, top))
    return common / (width * height + wide * high - common)


def rotate_image(grey, degrees):
    """A grey image uint8 (h, w) rotated anticlockwise, corners included, and the inverse: float (2, 3), affine."""
    height, width = grey.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    wide, high = np.abs(matrix[:, :2]) @ (width, height)
    matrix[:, 2] += (wide - width) / 2, (high - height) / 2
    rotated = cv2.warpAffine(grey, matrix, (round(wide), round(high)), borderMode=cv2.BORDER_REPLICATE)
    return rotated, cv2.invertAffineTransform(matrix)


def crop_faces(grey, boxes, scale=CROP_SCALE, shift_y=CROP_SHIFT_Y):
    """The faces in these boxes of a grey image uint8 (h, w) as the classifier takes them, uint8 (n, 48, 48, 1).

    Each crop is a square `scale` times as wide as its box, `shift_y` of the box's height lower.
    Beyond the image's border its last pixels are repeated.
    """
    faces = []
    for x, y, width, height in boxes:
        side = max(1, round(scale * width))
        left, top = round(x + (width - side) / 2), round(y + (height - side) / 2 + shift_y * height)
        face = grey[max(0, top):top + side, max(0, left):left + side]
        if face.shape != (side, side):
            above, before = max(0, -top), max(0, -left)
            face = cv2.copyMakeBorder(face, above, side - above - face.shape[0], before, side - before - face.shape[1],
                                      cv2.BORDER_REPLICATE)
        faces.append(cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA))
    return np.array(faces, np.uint8).reshape(-1, FACE_SIZE, FACE_SIZE, 1)
