"""Measure the model on the test faces, which training never used.

Reads models/model.json and models/model.weights.h5, and from data/ modXtest.npy and modytest.npy, and
modvtest.npy where there is one.
Writes truey.npy int (n,), predy.npy int (n,) and predp.npy float32 (n, 7) into data/, the true
expressions, the most probable ones, and the probabilities of all seven, and truey.sha256,
which tells that they belong together; reliability.png, whether the probabilities mean what they say.

$ python test_model.py
$ python test_model.py --data data/sample
"""
import sys
from pathlib import Path

from preprocessing import (
    DATA,
    EXPRESSIONS,
    FACE_SIZE,
    InputError,
    check_stamp,
    flat,
    load_array,
    run,
    save_arrays,
    script_parser,
    written_whole,
)
from saved_model import load_model, models_folder
from train_model import load_labels, load_votes, save_test_faces

import numpy as np

BINS = 15  # of the calibration error


def predict(network, faces, batch_size=256):
    """Probabilities float32 (n, 7) of grey faces uint8 (n, 48, 48, 1), through Keras."""
    from tqdm import tqdm

    batches = [faces[start:start + batch_size] for start in range(0, len(faces), batch_size)]
    return np.concatenate([np.asarray(network.predict_on_batch(batch.astype(np.float32)))
                           for batch in tqdm(batches, desc="predicting", leave=False,
                                             disable=True if len(batches) == 1 else None)])


def load_test_faces(data):
    """The test faces uint8 (n, 48, 48, 1) and their labels int (n,)."""
    if not (data / "modXtest.npy").exists() and (data / "fdataX.npy").exists():
        save_test_faces(data)  # to measure the shipped model nobody need train first
    check_stamp(data / "modXtest.sha256", "run train_model.py, or to test the model as it is, remove modXtest.npy")
    faces = load_array(data / "modXtest.npy", (None, FACE_SIZE, FACE_SIZE, 1), "train_model.py")
    labels = load_labels(data / "modytest.npy", len(faces), "train_model.py")
    if not len(faces):
        raise InputError(f"{data / 'modXtest.npy'} holds no faces: run preprocessing.py and train_model.py again")
    return faces, labels.argmax(axis=1)


def reliability(truey, predp, bins=BINS):
    """How often the most probable expression is the true one, where the network is about as sure: a pandas table.

    A row for each of so many equal ranges of its probability: `faces` in it, their mean `probability` and the
    `accuracy` among them, nan where there are none. truey is int (n,), predp float (n, 7).
    """
    import pandas as pd

    sure, right = predp.max(axis=1).astype(float), predp.argmax(axis=1) == truey
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    groups = pd.DataFrame({"probability": sure, "accuracy": right}).groupby(bin_of)
    return groups.mean().assign(faces=groups.size()).reindex(range(bins)).fillna({"faces": 0})


def calibration_error(table):
    """The expected calibration error (Guo et al. 2017, equation 3) of such a table: 0 is best."""
    gaps = (table.accuracy - table.probability).abs() * table.faces
    return gaps.sum() / table.faces.sum()


def draw_reliability(table):
    """A matplotlib figure of such a table: accuracy over probability, and how many faces there are of each."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(6.5, 7), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width = 1 / len(table)
    middles = (table.index.to_numpy() + 0.5) * width
    axes.bar(middles, table.accuracy, width, color="#4477aa", edgecolor="white", label="of the faces recognised")
    axes.plot((0, 1), (0, 1), color="#ee6677", linestyle="--", label="as sure as right")
    axes.plot(table.probability, table.probability, "o", color="#ee6677", markersize=4, label="mean probability")
    axes.set_title(f"expected calibration error {calibration_error(table):.3f}", fontsize=14)
    axes.set_ylabel("share recognised", fontsize=12)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(fontsize=11, loc="upper left")
    below.bar(middles, table.faces, width, color="#bbbbbb", edgecolor="white")
    below.set_ylabel("faces", fontsize=12)
    below.set_xlabel("probability of the most probable expression", fontsize=12)
    below.xaxis.set_major_formatter(PercentFormatter(1))
    below.set_xlim(0, 1)
    return figure


def majority(votes):
    """What most people see in a face, int (n,): 0 to 9, -1 where there is no majority.

    As Barsoum et al. 2016 and their code count: votes that stand alone are left out, and of the others one
    must have more than half. votes are uint8 (n, 10), as preprocessing.py writes them.
    """
    votes = np.where(votes > 1, votes, 0)
    return np.where(2 * votes.max(axis=1) > votes.sum(axis=1), votes.argmax(axis=1), -1)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what train_model.py wrote")
    parser.add_argument("--models", type=Path, metavar="FOLDER",
                        help="where the model is (default: models/, or FOLDER/models with --data FOLDER)")
    args = parser.parse_args(argv)
    models = args.models or models_folder(args.data)

    faces, truey = load_test_faces(args.data)
    print(f"testing {models} on {len(faces):,} faces", file=sys.stderr)
    predp = predict(load_model(models), faces)
    predy = predp.argmax(axis=1)
    votes = load_votes(args.data, "modvtest.npy", len(faces), "train_model.py")
    table = reliability(truey, predp)
    save_arrays({args.data / "truey.npy": truey, args.data / "predy.npy": predy, args.data / "predp.npy": predp},
                made_from=["modXtest.npy", "modytest.npy"])
    with written_whole(args.data / "reliability.png") as [picture]:
        draw_reliability(table).savefig(picture, dpi=100)
    blank = flat(faces).sum()
    if blank:
        print(f"{blank:,} of the faces are one flat colour: what is said of them means nothing")

    from sklearn.metrics import accuracy_score, classification_report, f1_score
    labels = range(len(EXPRESSIONS))
    print(classification_report(truey, predy, labels=labels, target_names=EXPRESSIONS, digits=4, zero_division=0))
    print(f"top-1 accuracy {accuracy_score(truey, predy):.2%}")
    print(f"macro F1 {f1_score(truey, predy, labels=labels, average='macro', zero_division=0):.4f}")
    print(f"expected calibration error {calibration_error(table):.4f} ({BINS} bins)")
    if votes is not None:
        seen = majority(votes)
        counted = (seen >= 0) & (seen <= len(EXPRESSIONS))  # contempt, too, though the network cannot say it
        print(f"of {counted.sum():,} faces with a majority of FER+'s votes for one of eight expressions "
              f"{(predy == seen)[counted].mean():.2%} are recognised")
    print(f"wrote truey.npy, predy.npy and predp.npy ({len(faces):,} faces) and reliability.png to {args.data}")


if __name__ == "__main__":
    run(main)
