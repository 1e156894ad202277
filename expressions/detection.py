"""Face detection: from an image to boxes, scores and eyes, and from the eyes to the crops that the classifier takes.

A detector is any function: image uint8 BGR (h, w, 3) → boxes int (n, 4), each x, y, width, height in pixels, or
(boxes, scores float (n,)), or (boxes, scores, landmarks float (n, 2 or more, 2)), which begin with the right and
the left eye. `detect_faces`, with two cascades of OpenCV (Viola and Jones 2001), is one; yunet.YuNet is another.
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
INSIDE = 0.7  # of a box's area: one that lies so far inside another is no second face
EYES_APART, EYES_DOWN = 0.36, 0.38  # of the crop's width: where YuNet sees FER2013's eyes: benchmarks/crop_margin.py
SQUARE = 0.8, 1.2  # smallest and largest crop, of a box's height: in a profile the eyes seem closer together
LEVEL_FROM = 20  # degrees of tilt from which on a crop is levelled; up to 15 the network has learned


@functools.cache
def _cascade(name, thread):  # a cascade keeps state while it searches: each thread needs its own
    if not hasattr(cv2, "CascadeClassifier"):
        raise InputError(f"OpenCV {cv2.__version__} has no CascadeClassifier: pip install 'opencv-python<5'")
    return cv2.CascadeClassifier(cv2.data.haarcascades + name)


def detect_faces(image, max_side=MAX_SIDE, scale_factor=SCALE_FACTOR, min_neighbours=MIN_NEIGHBOURS):
    """Detect faces: one cascade proposes them, the other verifies each. Boxes int (n, 4) and scores float (n,).

    `image` is uint8 BGR (h, w, 3) or grey (h, w); a larger one is searched at `max_side` pixels. The boxes are sorted
    from left to right, the score is the verifier's confidence. Raises InputError where OpenCV has no cascades.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if image.ndim == 3 else image
    zoom = min(1, max_side / max(grey.shape))
    if zoom * min(grey.shape) < 1:  # nothing would be left of a line
        return np.empty((0, 4), int), np.empty(0)
    smaller = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA) if zoom < 1 else grey
    cascade = _cascade(PROPOSAL_CASCADE, threading.get_ident())
    proposals = cascade.detectMultiScale(smaller, scaleFactor=scale_factor, minNeighbors=min_neighbours)
    found = []
    for proposal in np.reshape(proposals, (-1, 4)) / zoom:
        box, confidence = verify_face(grey, proposal)
        if confidence >= MIN_CONFIDENCE and not any(box_iou(box, other[:4]) > SAME_FACE for other in found):
            found.append((*box, confidence))
    found = np.reshape(sorted(found), (-1, 5))
    return found[:, :4].astype(int), found[:, 4]


def eyes_of_boxes(boxes):
    """Return eyes for which the crop is as wide as each of these boxes, float (n, 2, 2): x and y, right eye first."""
    boxes = np.reshape(boxes, (-1, 4)).astype(float)
    centres, side = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:3]
    offsets = np.array([(-EYES_APART / 2, EYES_DOWN - 0.5), (EYES_APART / 2, EYES_DOWN - 0.5)])
    return centres[:, None] + offsets * side[:, None]


def run_detector(detector, image, **settings):
    """Return boxes int (n, 4), scores float (n,) and eyes float (n, 2, 2) from any detector as described above.

    Faces whose box lies mostly inside that of another are left out. Eyes that the detector does not tell are guessed,
    and those of faces seen from the side are moved apart as far as from the front.
    """
    found = detector(image, **settings)
    boxes, scores, landmarks = (*found, None, None)[:3] if isinstance(found, tuple) else (found, None, None)
    boxes = np.asarray(boxes, int).reshape(-1, 4)
    scores = np.ones(len(boxes)) if scores is None else np.asarray(scores, float)
    eyes = eyes_of_boxes(boxes) if landmarks is None else np.asarray(landmarks, float)[:, :2]
    middle, half = eyes.mean(axis=1, keepdims=True), (eyes[:, 1:] - eyes[:, :1]) / 2
    length = np.maximum(2 * np.linalg.norm(half, axis=2, keepdims=True), 1e-3)
    height = EYES_APART * boxes[:, 3][:, None, None]
    half = half * np.clip(length, SQUARE[0] * height, SQUARE[1] * height) / length
    kept = np.array([not any(better > score and _common_area(box, other) > INSIDE * box[2] * box[3]
                             for other, better in zip(boxes, scores)) for box, score in zip(boxes, scores)], bool)
    return boxes[kept], scores[kept], np.hstack([middle - half, middle + half])[kept]


def verify_face(grey, box, face_size=48, scale_factor=1.05, margin=0.3):
    """The most certain face about as large as `box`, and at most `margin` of its width away from it.

    `face_size` is the width in pixels at which the face is examined. Returns the box int (4,) and the cascade's
    confidence, or (None, -inf) where there is no face.
    """
    x, y, width, height = box
    left, top = max(0, int(x - margin * width)), max(0, int(y - margin * height))
    crop = grey[top:int(y + (1 + margin) * height), left:int(x + (1 + margin) * width)]
    zoom, found = face_size / width, ()
    if min(crop.shape) * zoom >= CASCADE_WINDOW:
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


def _common_area(box, other):
    (x, y, width, height), (left, top, wide, high) = box, other
    return max(0, min(x + width, left + wide) - max(x, left)) * max(0, min(y + height, top + high) - max(y, top))


def box_iou(box, other):
    """Return the intersection over union of two boxes (x, y, width, height)."""
    common = _common_area(box, other)
    return common / (box[2] * box[3] + other[2] * other[3] - common)


def crop_faces(grey, eyes):
    """Return the faces of a grey image uint8 (h, w) as the classifier takes them, uint8 (n, 48, 48, 1).

    `eyes` float (n, 2, 2) are x and y of the right and the left eye. They come to where FER2013 has them: EYES_APART of
    the width apart and EYES_DOWN of it down. Beyond the image's border its last pixels are repeated.
    """
    faces = []
    for right, left in np.reshape(eyes, (-1, 2, 2)):
        side = max(1, np.hypot(*(left - right)) / EYES_APART)
        tilt = np.degrees(np.arctan2(*(left - right)[::-1]))
        middle, margin = (right + left) / 2, 2 * side  # of the part that matters: OpenCV warps no huge image
        x, y = np.clip(middle - margin, 0, np.array(grey.shape[::-1]) - 1).astype(int)
        part = grey[y:max(y + 1, int(middle[1] + margin)), x:max(x + 1, int(middle[0] + margin))]
        size = max(FACE_SIZE, round(side))
        matrix = cv2.getRotationMatrix2D((0, 0), tilt if abs(tilt) >= LEVEL_FROM else 0, size / side)
        matrix[:, 2] = (size / 2 - 0.5, EYES_DOWN * size - 0.5) - matrix[:, :2] @ (middle - (x, y) - 0.5)
        face = cv2.warpAffine(part, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        faces.append(cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA))
    return np.array(faces, np.uint8).reshape(-1, FACE_SIZE, FACE_SIZE, 1)
