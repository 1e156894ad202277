"""The figures hold the numbers they are drawn from."""
import io

import cv2
import numpy as np
import pandas as pd

from expressions import figures
from expressions.drawing import EXPRESSION_COLOURS
from expressions.evaluation import calibration_table
from expressions.fer2013 import class_counts
from expressions.labels import EXPRESSIONS


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_confusion_matrix_is_the_one_counted_by_hand():
    y_true, y_pred = np.array([0, 0, 0, 0, 3, 6]), np.array([0, 0, 3, 6, 3, 6])
    counts, shares = figures.plot_confusion(y_true, y_pred).axes
    assert [texts(counts)[7 * row + column] for row, column in ((0, 0), (0, 3), (0, 6), (3, 3), (1, 1))] == [
        "2", "1", "1", "1", "0"]
    assert [texts(shares)[cell] for cell in (0, 3, 6, 24)] == ["50%", "25%", "25%", "100%"]


def test_the_distribution_has_a_bar_for_each_cell():
    table = class_counts(np.repeat(np.arange(7, dtype=np.uint8), 3), np.tile(np.array([0, 1, 2], np.uint8), 7))
    axes, = figures.plot_distribution(table).axes
    assert [bar.get_height() for bar in axes.patches] == [1] * 21 and axes.get_title() == "21 faces"


def test_samples_show_each_expression_in_its_row(small_set):
    axes = np.reshape(figures.plot_samples(*small_set[:2]).axes, (7, 12))
    assert [row[0].get_ylabel() for row in axes] == list(EXPRESSIONS)
    for label, row in enumerate(axes):
        shown = {bytes(np.uint8(image.get_array())) for cell in row for image in cell.images}
        assert shown == {bytes(face[..., 0]) for face in small_set[0][small_set[1] == label]}


def test_the_surest_mistakes_and_the_least_sure_hits_come_first(small_set):
    faces = small_set[0][:5]
    y_prob = np.full((5, 7), 0.01)
    for row, (label, probability) in enumerate([(3, 0.6), (3, 0.9), (0, 0.5), (0, 0.4), (6, 0.8)]):
        y_prob[row, label] = probability
    mistakes, hits = figures.plot_mistakes(faces, np.array([0, 0, 0, 0, 6]), y_prob).subfigs
    assert [axes.get_title() for axes in mistakes.axes[:3]] == ["happy 90%", "happy 60%", ""]
    assert [axes.get_title() for axes in hits.axes[:3]] == ["angry 40%", "angry 50%", ""]
    np.testing.assert_array_equal(hits.axes[0].images[0].get_array(), faces[3, ..., 0])
    assert hits.axes[36].get_title() == "neutral 80%" and mistakes.axes[36].get_ylabel() == "neutral"


def test_curves_draw_the_history():
    history = pd.DataFrame({"epoch": [1, 2, 3], "size": [32, 48, 48], "loss": [2, 1, 5], "accuracy": [0.2, 0.6, 0.1],
                            "val_loss": [1.9, 1.1, 1.0], "val_accuracy": [0.3, 0.5, 0.6], "training": [1, 1, 2]})
    figure = figures.plot_curves(history)
    loss, accuracy = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines[:3]] == [[2.0, 1.0], [5.0], [1.9, 1.1, 1.0]]
    assert [list(line.get_ydata()) for line in accuracy.lines[:3]] == [[0.2, 0.6], [0.1], [0.3, 0.5, 0.6]]
    assert [line.get_xdata()[0] for line in loss.lines[3:]] == [1.5, 2.5]  # the faces grow, fine-tuning begins
    assert loss.get_xlabel() == "epoch (dotted: larger faces, dashed: fine-tuning)"
    assert len(figure.legends[0].get_texts()) == 2


def test_reliability_draws_accuracy_over_confidence():
    y_prob = np.tile(np.eye(7)[0] * 0.86 + 0.02, (10, 1))
    table = calibration_table(np.array([0] * 6 + [1] * 4), y_prob, bins=10)
    above, below = figures.plot_reliability(table).axes
    assert above.patches[8].get_height() == 0.6 and below.patches[8].get_height() == 10
    assert above.get_title() == "expected calibration error 0.280"


def test_the_timeline_stacks_probabilities_of_each_face_and_names_what_has_room():
    points = np.array([[second, *np.eye(7)[0]] for second in np.arange(0, 3, 0.1)])
    points[-8:, 1:] = np.eye(7)[3]  # happy for most of the last second, too short for its name in an hour
    for end, names in ((9.5, ["angry", "happy"]), (3600, [])):
        figure = figures.plot_timeline({1: points, 2: points + np.eye(8)[0] * 2}, end, "a.mp4")
        assert figure.legends[0].get_title().get_text() == "a.mp4"
        assert [axes.get_ylabel() for axes in figure.axes] == ["face 1", "face 2"]
        angry = figure.axes[1].collections[0].get_paths()[0].vertices
        assert angry[:, 0].min() == 2 and 4.8 < angry[:, 0].max() < 5 and angry[:, 1].max() == 1
        assert figure.axes[1].get_xlim() == (0, end) and texts(figure.axes[1]) == names
    assert figure.axes[1].xaxis.get_major_formatter()(60.0, 0) == "0:01:00"
    single = figures.plot_timeline({1: points[:1]}, 0, "image.mp4")
    single.savefig(file := io.BytesIO())
    inside = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)[150:200, 200:1300]
    assert (inside == EXPRESSION_COLOURS["angry"]).all(axis=2).mean() > 0.9
    assert figures.plot_timeline({}, 0, "none.mp4").axes[0].get_ylabel() == "no face"
