"""Measure the model on the test faces, which training never used.

Reads models/model.json and models/model.weights.h5, and from data/ modXtest.npy and modytest.npy.
Writes truey.npy int (n,), predy.npy int (n,) and predp.npy float32 (n, 7) into data/, the true
expressions, the most probable ones, and the probabilities of all seven, and truey.sha256,
which tells that they belong together.

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
)
from saved_model import load_model, models_folder
from train_model import load_labels, save_test_faces

import numpy as np


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
    save_arrays({args.data / "truey.npy": truey, args.data / "predy.npy": predy, args.data / "predp.npy": predp},
                made_from=["modXtest.npy", "modytest.npy"])
    blank = flat(faces).sum()
    if blank:
        print(f"{blank:,} of the faces are one flat colour: what is said of them means nothing")

    from sklearn.metrics import accuracy_score, classification_report, f1_score
    labels = range(len(EXPRESSIONS))
    print(classification_report(truey, predy, labels=labels, target_names=EXPRESSIONS, digits=4, zero_division=0))
    print(f"top-1 accuracy {accuracy_score(truey, predy):.2%}")
    print(f"macro F1 {f1_score(truey, predy, labels=labels, average='macro', zero_division=0):.4f}")
    print(f"wrote truey.npy, predy.npy and predp.npy ({len(faces):,} faces) to {args.data}")


if __name__ == "__main__":
    run(main)
