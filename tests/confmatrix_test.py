from confmatrix import draw_confusion
from preprocessing import EXPRESSIONS

import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, assert_refused, press, run_script, screenshot, wait_for_window


@pytest.fixture
def predictions(tmp_path):
    """Nine faces: of three angry ones one is taken for disgust; happy 2 of 2; a surprise and two neutral for sad..."""
    np.save(tmp_path / "truey.npy", np.array([0, 0, 0, 3, 3, 5, 6, 6, 6]))
    np.save(tmp_path / "predy.npy", np.array([0, 0, 1, 3, 3, 4, 4, 4, 6]))
    return tmp_path


def test_the_matrix_is_the_one_counted_by_hand(predictions):
    process = run_script("confmatrix.py", "--data", predictions)
    assert process.returncode == 0, process.stderr
    rows = {line.split()[0]: [int(count) for count in line.split()[1:]]
            for line in process.stdout.splitlines() if line.split()[0] in
            ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral") and len(line.split()) == 8
            and line.split()[1].isdigit()}
    assert rows == {"angry": [2, 1, 0, 0, 0, 0, 0], "disgust": [0] * 7, "fear": [0] * 7,
                    "happy": [0, 0, 0, 2, 0, 0, 0], "sad": [0] * 7, "surprise": [0, 0, 0, 0, 1, 0, 0],
                    "neutral": [0, 0, 0, 0, 2, 0, 1]}
    assert "5 of 9 faces recognised, 55.56%" in process.stdout
    picture = cv2.imread(str(predictions / "confusion_matrix.png"))
    assert picture.shape == (700, 1500, 3)


def test_the_drawn_matrix_is_the_one_counted_by_hand(predictions):
    figure = draw_confusion(np.load(predictions / "truey.npy"), np.load(predictions / "predy.npy"))
    expected = [{(0, 0): "2", (0, 1): "1", (3, 3): "2", (5, 4): "1", (6, 4): "2", (6, 6): "1"},  # (true, predicted)
                {(0, 0): "67%", (0, 1): "33%", (3, 3): "100%", (5, 4): "100%", (6, 4): "67%", (6, 6): "33%"}]
    for axes, drawn in zip(figure.axes, expected):
        cells = {text.get_position()[::-1]: text.get_text() for text in axes.texts}  # (row, column)
        assert len(cells) == 49 and {place: text for place, text in cells.items() if text not in ("0", "0%")} == drawn
        assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
        for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
            assert [tick.get_text() for tick in ticks] == list(EXPRESSIONS)


def test_without_a_display_it_says_which_file_to_open(predictions):
    process = run_script("confmatrix.py", "--data", predictions, "--show", env=NO_DISPLAY)
    assert process.returncode == 0, process.stderr
    assert f"no display to show it on: open {predictions / 'confusion_matrix.png'}" in process.stderr
    process = run_script("confmatrix.py", "--data", predictions, "--show", env={"DISPLAY": ":987"})
    assert process.returncode == 0 and "no display" in process.stderr  # one that is set but not there


def test_show_opens_a_window_with_the_picture(predictions, display):
    import os
    import subprocess
    import sys

    process = subprocess.Popen([sys.executable, str(ROOT / "confmatrix.py"), "--data", str(predictions), "--show"],
                               env={**os.environ, **display}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    window = wait_for_window(display, "confusion matrix")
    shown = screenshot(display)
    picture = cv2.imread(str(predictions / "confusion_matrix.png"))
    smaller = cv2.resize(picture, (1280, round(700 * 1280 / 1500)), interpolation=cv2.INTER_AREA)
    best = cv2.minMaxLoc(cv2.matchTemplate(shown, smaller[20:580, 20:1260], cv2.TM_CCOEFF_NORMED))[1]
    assert best > 0.9
    press(display, window, "a")
    assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("truey, predy, words", [
    (None, None, ["truey.npy", "run test_model.py"]),
    ([0, 1, 2], [0, 1], ["predy.npy", "(2,)", "(3,)"]),
    ([0, 1], [0, 7], ["predy.npy", "labels 0 to 6"]),
    ([0.5, 1.0], [0, 1], ["truey.npy", "float64"]),
    ([], [], ["truey.npy"]),
    ([[0, 1]], [[0, 1]], ["truey.npy", "(1, 2)"]),
])
def test_what_is_missing_or_wrong_is_said(tmp_path, truey, predy, words):
    if truey is not None:
        np.save(tmp_path / "truey.npy", np.array(truey))
        np.save(tmp_path / "predy.npy", np.array(predy))
    assert_refused(run_script("confmatrix.py", "--data", tmp_path), *words)
    assert not (tmp_path / "confusion_matrix.png").exists()
