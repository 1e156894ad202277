"""Show which expressions the model takes for which.

Reads truey.npy and predy.npy, which test_model.py wrote into data/.
Writes data/confusion_matrix.png: counts, and shares of each true expression. Prints the counts.

$ python confmatrix.py
$ python confmatrix.py --show         # in a window, too
"""
from pathlib import Path

import numpy as np

from expressions.artifacts import DATA, load_arrays, replace_when_whole
from expressions.console import run, script_parser
from expressions.labels import EXPRESSIONS


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what test_model.py wrote")
    parser.add_argument("--show", action="store_true", help="open a window with the figure")
    args = parser.parse_args(argv)

    y_true, y_pred = load_arrays(args.data, ("truey.npy", "predy.npy"), "run test_model.py")
    path = args.data / "confusion_matrix.png"

    import pandas as pd
    from sklearn.metrics import confusion_matrix

    from expressions.figures import plot_confusion
    with replace_when_whole(path) as [temporary]:
        plot_confusion(y_true, y_pred).savefig(temporary, dpi=100)
    matrix = confusion_matrix(y_true, y_pred, labels=range(len(EXPRESSIONS)))
    table = pd.DataFrame(matrix, index=EXPRESSIONS, columns=pd.Index(EXPRESSIONS, name="true \\ predicted"))
    print(table.to_string())
    print(f"wrote {path}: {np.trace(matrix):,} of {len(y_true):,} faces are right, {np.mean(y_true == y_pred):.2%}")
    if args.show:
        from expressions.camera import show_image
        from expressions.images import read_image
        show_image(read_image(path), "confusion matrix", path)


if __name__ == "__main__":
    run(main)
