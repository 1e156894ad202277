"""Show which expressions the model takes for which.

Reads truey.npy and predy.npy, which test_model.py wrote into data/.
Writes data/confusion_matrix.png: counts, and shares of each true expression. Prints the counts.

$ python confmatrix.py
$ python confmatrix.py --show         # in a window, too
"""
import os
import subprocess
import sys
from pathlib import Path

from preprocessing import (
    DATA,
    EXPRESSIONS,
    InputError,
    check_stamp,
    load_array,
    printable,
    run,
    script_parser,
    written_whole,
)

import cv2
import numpy as np


def can_show():
    """Whether a window can open. Asked in a process of its own: where none can, OpenCV aborts the one that asks."""
    if not sys.platform.startswith("linux"):
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    attempt = subprocess.run([sys.executable, "-c", "import cv2; cv2.namedWindow('attempt')"], capture_output=True)
    return attempt.returncode == 0


def open_window(title, picture):
    """Open a window that shows a picture, uint8 BGR (h, w, 3), and fits an ordinary screen."""
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    height, width = picture.shape[:2]
    zoom = min(1, 1280 / width, 720 / height)
    cv2.resizeWindow(title, round(width * zoom), round(height * zoom))
    cv2.imshow(title, picture)


def window_is_open(title):
    """Whether the user has not closed the window."""
    return cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1


def show_if_possible(picture, title, written):
    """Show a picture, uint8 BGR (h, w, 3), until a key is pressed or its window closed.

    Where there is no display, say which file holds it.
    """
    if can_show():
        print("press a key in the window to go on", file=sys.stderr)
        title = printable(title)  # OpenCV crashes at letters that are no UTF-8
        open_window(title, picture)
        while cv2.waitKey(50) < 0 and window_is_open(title):
            pass
        cv2.destroyAllWindows()
    else:
        print(f"there is no display to show it on: open {written}", file=sys.stderr)


def load_predictions(data):
    """True and predicted expressions, int (n,) each."""
    check_stamp(data / "truey.sha256", "run test_model.py again")
    truey = load_array(data / "truey.npy", (None,), "test_model.py", "iu")
    predy = load_array(data / "predy.npy", truey.shape, "test_model.py", "iu")
    for name, labels in (("truey.npy", truey), ("predy.npy", predy)):
        if not len(labels) or labels.min() < 0 or labels.max() >= len(EXPRESSIONS):
            raise InputError(f"{data / name} holds something else than labels 0 to {len(EXPRESSIONS) - 1}: "
                             "run test_model.py again")
    return truey, predy


def draw_confusion(truey, predy):
    """A matplotlib figure of the confusion matrix: counts, and each row as shares of the true expression."""
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(15, 7), layout="constrained")
    for axes, normalize, form, title in zip(figure.subplots(1, 2), (None, "true"), ("d", ".0%"),
                                            ("faces", "share of the true expression")):
        ConfusionMatrixDisplay.from_predictions(
            truey, predy, labels=range(len(EXPRESSIONS)), display_labels=EXPRESSIONS, normalize=normalize,
            values_format=form, cmap="Blues", ax=axes, colorbar=False, text_kw={"fontsize": 13})
        axes.set_title(title, fontsize=15)
        axes.set_xlabel("predicted", fontsize=13)
        axes.set_ylabel("true", fontsize=13)
        axes.tick_params(labelsize=12)
    figure.suptitle(f"{np.mean(truey == predy):.2%} of {len(truey):,} faces recognised", fontsize=16)
    return figure


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what test_model.py wrote")
    parser.add_argument("--show", action="store_true", help="open a window with the picture")
    args = parser.parse_args(argv)

    truey, predy = load_predictions(args.data)
    written = args.data / "confusion_matrix.png"
    with written_whole(written) as [beside]:
        draw_confusion(truey, predy).savefig(beside, dpi=100)

    import pandas as pd
    from sklearn.metrics import confusion_matrix
    matrix = confusion_matrix(truey, predy, labels=range(len(EXPRESSIONS)))
    print(pd.DataFrame(matrix, index=pd.Index(EXPRESSIONS, name="true \\ predicted"), columns=EXPRESSIONS))
    print(f"wrote {written}: {np.trace(matrix):,} of {len(truey):,} faces recognised, {np.mean(truey == predy):.2%}")
    if args.show:
        show_if_possible(cv2.imdecode(np.fromfile(written, np.uint8), cv2.IMREAD_COLOR), "confusion matrix", written)


if __name__ == "__main__":
    run(main)
