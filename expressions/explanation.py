"""Why a face got its expression: which parts speak for it, found by blurring one after the other."""
import functools

import cv2
import numpy as np

from expressions.drawing import draw_bars
from expressions.labels import FACE_SIZE

PATCH, STRIDE = 4, 3  # pixels of the face: the standard deviation of a patch's soft edge, and the patches' distance
SIZE = 288  # pixels of a drawn face
FOR, AGAINST = (0, 120, 255), (255, 120, 0)  # BGR, orange and blue: told apart by colour-blind people, too


@functools.cache
def _patches():
    """Weights float32 (n, 48, 48), from 0 to 1, of round patches with soft edges all over a face."""
    centres, across = np.arange(STRIDE // 2, FACE_SIZE, STRIDE), np.arange(FACE_SIZE)
    bells = np.exp(-((across - centres[:, None]) / PATCH) ** 2 / 2)
    return np.float32(bells[:, None, :, None] * bells[None, :, None, :]).reshape(-1, FACE_SIZE, FACE_SIZE)


def occlusion_map(classify, face, expression):
    """Return how much each part of a face speaks for an expression, float (48, 48); below 0 where against it.

    Patches of the face uint8 (48, 48, 1) are blurred one after the other. A part counts as much as the logarithm of the
    expression's probability falls when it is blurred (Zeiler and Fergus 2014). `classify` is what
    model_files.load_classifier returns, `expression` an index.
    """
    patches, sharp = _patches(), face[..., 0].astype(np.float32)
    covered = sharp + patches * (cv2.GaussianBlur(sharp, (0, 0), 2 * PATCH) - sharp)
    faces = np.concatenate([sharp[None], covered])[..., None]
    logarithms = np.log(np.maximum(classify(np.rint(faces).astype(np.uint8))[:, expression], 1e-6))
    return np.tensordot(logarithms[0] - logarithms[1:], patches, 1) / patches.sum(axis=0)


def draw_explanation(crop, importance, face):
    """Return a picture uint8 BGR: a face, the same with its parts coloured, and the bars of all seven expressions.

    `crop` is uint8 (48, 48, 1), `importance` what occlusion_map returned for it, `face` its recognition.Face.
    """
    large = cv2.cvtColor(cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    strength = cv2.resize(importance / max(np.abs(importance).max(), 1e-6), (SIZE, SIZE))[..., None]
    colours = np.where(strength > 0, FOR, AGAINST)
    coloured = large + 0.65 * np.abs(strength) * (colours - large.astype(float))
    bars = np.full((SIZE, round(1.75 * SIZE), 3), 40, np.uint8)
    draw_bars(bars, face.probabilities, 12, 4, SIZE / 7.6)
    return np.hstack([large, np.rint(coloured).astype(np.uint8), bars])
