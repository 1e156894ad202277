"""What is counted is what one counts by hand."""
import keras
import numpy as np
import pytest

from expressions import evaluation
from expressions.evaluation import calibration_table, expected_calibration_error, fit_temperature, majority_vote, margin


def test_the_calibration_error_is_the_one_counted_by_hand():
    y_prob = np.array([[0.95, 0.05], [0.91, 0.09], [0.55, 0.45], [0.35, 0.65]])
    table = calibration_table(np.array([0, 1, 0, 1]), y_prob, bins=10)
    assert table.faces.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 2]
    assert table.accuracy[9] == 0.5 and table.probability[9] == pytest.approx(0.93)
    assert expected_calibration_error(table) == pytest.approx((2 * 0.43 + 1 * 0.45 + 1 * 0.35) / 4)


def test_the_temperature_makes_confidence_match_accuracy():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 7))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(7, p=row) for row in true])
    for temperature in (0.5, 3):  # logits that are twice too large, or three times too small
        wrong = np.exp(logits / temperature)
        found = fit_temperature(wrong / wrong.sum(axis=1, keepdims=True), labels)
        assert found == pytest.approx(1 / temperature, rel=0.06)


def test_a_majority_is_more_than_half_of_the_votes_that_do_not_stand_alone():
    votes = np.zeros((5, 10), np.uint8)
    votes[0, [3, 6]] = 6, 4
    votes[1, [3, 6]] = 5, 5             # no majority
    votes[2, [0, 1, 2, 4]] = 3, 1, 1, 1  # three stand alone
    votes[3, 7] = 10                    # contempt
    votes[4, :10] = 1                   # all stand alone
    assert majority_vote(votes).tolist() == [3, -1, 0, 7, -1]


def test_the_margin_is_the_textbooks():
    assert margin(0.698, 3589) == pytest.approx(0.015, abs=1e-4)


def test_the_temperature_is_kept_in_the_weights():
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (2000, 48, 48, 1), np.uint8)
    model = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Rescaling(1 / 20), keras.layers.Flatten(),
                              keras.layers.Dense(7, activation="softmax")])
    model.set_weights([random.normal(0, 0.02, (2304, 7)), random.normal(0, 0.5, 7)])
    logits = np.log(evaluation.predict(model, faces).astype(float))
    softer = np.exp(logits / 3) / np.exp(logits / 3).sum(axis=1, keepdims=True)
    labels = (np.cumsum(softer, axis=1) > random.random((2000, 1))).argmax(axis=1)  # the model is three times too sure
    temperature = evaluation.calibrate(model, faces, labels)
    assert temperature == pytest.approx(3, rel=0.1)
    softer = np.exp(logits / temperature)
    np.testing.assert_allclose(evaluation.predict(model, faces), softer / softer.sum(axis=1, keepdims=True), atol=1e-4)


def test_a_rare_expression_is_predicted_as_often_as_its_recall_gains():
    random = np.random.default_rng(0)
    labels = np.repeat([3, 1], [900, 100])
    faces = np.zeros((1000, 48, 48, 1), np.uint8)
    faces[:, 0, 0, 0] = np.clip(random.normal(np.where(labels == 1, 150, 100), 30), 0, 255)  # the two overlap
    model = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(),
                              keras.layers.Dense(7, activation="softmax")])
    kernel, bias = np.zeros((2304, 7)), np.full(7, -50.0)
    kernel[0, [1, 3]], bias[[1, 3]] = (14, 0), (-7 + np.log(1 / 9), 0)  # Bayes's rule for these faces, about
    model.set_weights([kernel, bias])
    before = evaluation.predict(model, faces).argmax(axis=1) == labels
    power = evaluation.adjust_prior(model, faces, labels, np.array([0, 0.1, 0, 0.9, 0, 0, 0]))
    after = evaluation.predict(model, faces).argmax(axis=1) == labels
    assert 0 < power < 1 and after.mean() >= before.mean() - evaluation.ACCURACY_LOSS
    assert after[labels == 1].mean() > before[labels == 1].mean() + 0.02
    assert evaluation.adjust_prior(model, faces, labels, np.full(7, 1 / 7)) == 0  # nothing is rare
