"""confmatrix.py prints and draws the matrix that one counts by hand."""
import cv2
import numpy as np
import pytest
from windows import ScriptInWindow

import confmatrix
from expressions.artifacts import save_arrays
from expressions.console import InputError
from expressions.labels import EXPRESSIONS

Y_TRUE, Y_PRED = np.array([0, 0, 0, 3, 3, 6]), np.array([0, 3, 0, 3, 3, 0])


@pytest.fixture
def data(tmp_path):
    save_arrays(tmp_path, {"truey.npy": Y_TRUE, "predy.npy": Y_PRED})
    return tmp_path


def test_the_matrix_is_printed_and_drawn(data, capsys):
    confmatrix.main(["--data", str(data)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["true", "\\", "predicted", *EXPRESSIONS]
    assert lines[1].split() == ["angry", "2", "0", "0", "1", "0", "0", "0"]
    assert lines[7].split() == ["neutral", "1", "0", "0", "0", "0", "0", "0"]
    assert lines[8].endswith("confusion_matrix.png: 4 of 6 faces are right, 66.67%")
    assert (data / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_display_it_says_which_file_to_open(data, no_display, capsys):
    confmatrix.main(["--data", str(data), "--show"])
    assert f"open {data / 'confusion_matrix.png'}" in capsys.readouterr().err


def test_a_window_shows_the_figure_until_it_is_closed(data, display):
    confmatrix.main(["--data", str(data)])
    piece = cv2.imread(str(data / "confusion_matrix.png"))[100:200, 100:400]
    script = ScriptInWindow(data, "confusion matrix", piece, (100, 100), "confmatrix.py", "--data", data, "--show")
    script.press("X")
    script.finish()


@pytest.mark.parametrize("name", ["truey.npy", "predy.npy"])
def test_what_is_missing_is_said(data, name):
    (data / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing or damaged .*: run test_model.py"):
        confmatrix.main(["--data", str(data)])
