"""What is counted is what one counts by hand."""
import numpy as np
import pytest

from expressions.evaluation import (
    calibration_table,
    expected_calibration_error,
    fit_temperature,
    majority_vote,
    margin,
)


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
