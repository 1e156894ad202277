"""Labelled images give faces as recognition crops them; a refitted last layer is what scikit-learn says it is."""
import cv2
import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from expressions import own_faces
from expressions.console import InputError
from expressions.detection import detect_faces
from expressions.evaluation import predict


def test_each_image_gives_its_largest_face_or_itself(tmp_path, portrait):
    image, _ = portrait
    for name, picture in (("happiness/party.jpg", np.hstack([cv2.resize(image, None, fx=0.5, fy=0.5), np.zeros(
            (300, 44, 3), np.uint8)])), ("happy/large.png", image), ("sad/face.png", image[60:300, 130:370][::3, ::3]),
            ("neutral/wall.png", np.full((400, 400, 3), 90, np.uint8)), ("contempt/other.png", image)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), picture)
    faces, labels, n_left_out = own_faces.read_labelled_faces(tmp_path, detect_faces)
    assert labels.tolist() == [3, 4, 3] and n_left_out == 1  # happy, sad, happiness
    large, _, small = faces.astype(int)
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.7  # the same face of the same woman, at half the size
    whole, labels, n_left_out = own_faces.read_labelled_faces(tmp_path)
    assert labels.tolist() == [3, 4, 6, 3] and n_left_out == 0 and (whole[2] == 90).all()
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(whole[0, ..., 0], cv2.resize(grey, (48, 48), interpolation=cv2.INTER_AREA))


def test_the_last_layer_becomes_a_calibrated_logistic_regression(small_set):
    faces, labels, _ = small_set
    faces = np.clip(faces // 4 + 20 * labels[:, None, None, None], 0, 255).astype(np.uint8)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input((48, 48, 1)), keras.layers.Rescaling(1 / 16), keras.layers.AveragePooling2D(16),
        keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")])
    features = predict(keras.Model(model.inputs, model.layers[-2].output), faces)
    before, after = own_faces.refit_last_layer(model, faces, labels)
    assert before < 0.3 < after
    expected = LogisticRegression(C=own_faces.REGULARISATION, max_iter=1000).fit(features, labels)
    probabilities = predict(model, faces)
    assert (probabilities.argmax(axis=1) == expected.predict(features)).mean() > 0.95
    # a temperature scales all differences of the logarithms alike
    ratios = np.diff(np.log(probabilities)) / np.diff(expected.predict_log_proba(features))
    assert np.median(ratios) == pytest.approx(np.percentile(ratios, [5, 95]), rel=0.02)

    weights = model.get_weights()
    with pytest.raises(InputError, match="would be right on"):
        own_faces.refit_last_layer(model, faces, labels)  # it has learned from all of them already
    with pytest.raises(InputError, match="there are 4 faces for neutral"):
        own_faces.refit_last_layer(model, faces[:64], labels[:64])
    for found, kept in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(found, kept)
