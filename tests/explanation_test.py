"""An explanation agrees with the gradients of the network, and shows where an expression lies."""
import cv2
import numpy as np
import pytest

from expressions import explanation, model_files
from expressions.detection import crop_faces, detect_faces, run_detector
from expressions.labels import EXPRESSIONS
from expressions.recognition import make_face


@pytest.fixture(scope="module")
def explained(shipped, portrait):
    """The portrait's crop uint8 (48, 48, 1), its probabilities float32 (7,), and its occlusion map."""
    image, _ = portrait
    [crop] = crop_faces(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), run_detector(detect_faces, image)[2])
    classify = model_files.load_classifier(shipped)
    probabilities = classify(crop[None])[0].copy()
    return crop, probabilities, explanation.occlusion_map(classify, crop, probabilities.argmax())


def test_the_map_agrees_with_keras_gradients(explained, shipped):
    import tensorflow as tf

    crop, probabilities, importance = explained
    model, patches, sharp = model_files.load_model(shipped), explanation._patches(), crop[..., 0].astype(np.float32)
    change, rise = patches * (cv2.GaussianBlur(sharp, (0, 0), 8) - sharp), 0
    for share in (0.25, 0.75):  # of the way from the sharp face to one with a blurred patch, whose slopes add up
        faces = tf.Variable((sharp + share * change)[..., None])
        with tf.GradientTape() as tape:
            logarithms = tf.math.log(model(faces)[:, probabilities.argmax()])
        rise += (tape.gradient(logarithms, faces)[..., 0].numpy() * change).sum(axis=(1, 2)) / 2
    expected = np.tensordot(-rise, patches, 1) / patches.sum(axis=0)
    assert np.corrcoef(importance.ravel(), expected.ravel())[0, 1] > 0.98


def test_the_part_that_decides_is_found():
    def classify(faces):  # happy is how light the left part of the mouth is
        light = faces[:, 32:40, 14:22].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - light, *[0 * light] * 2, light, *[0 * light] * 3], axis=1)

    face = np.full((48, 48, 1), 60, np.uint8)
    face[32:40, 14:22] = 220
    importance = explanation.occlusion_map(classify, face, EXPRESSIONS.index("happy"))
    down, right = np.unravel_index(importance.argmax(), importance.shape)
    assert abs(down - 35.5) < 3 and abs(right - 17.5) < 3
    assert importance[35, 17] > 10 * np.abs(importance[:16]).max()


def test_the_picture_shows_the_face_its_parts_and_seven_bars(explained):
    crop, probabilities, _ = explained
    importance = np.zeros((48, 48))
    importance[40:, :8], importance[:8, 40:] = 1, -1
    picture = explanation.draw_explanation(crop, importance, make_face((0, 0, 9, 9), probabilities, 1))
    size = explanation.SIZE
    assert picture.dtype == np.uint8 and picture.shape[0] == size
    large, coloured, bars = picture[:, :size], picture[:, size:2 * size], picture[:, 2 * size:]
    np.testing.assert_array_equal(large[100:180, 100:180], coloured[100:180, 100:180])  # nothing speaks there
    blue, _, red = coloured.astype(int).transpose(2, 0, 1)
    assert (red - blue)[-20:, :20].mean() > 60 and (blue - red)[:20, -20:].mean() > 60
    row, start = size / 7.6, 12 + round(4.6 * size / 7.6)
    lengths = [(bars[4 + round((number + 0.6) * row), start:, 0] != 40).sum() for number in range(7)]
    assert lengths.index(max(lengths)) == probabilities.argmax()
