"""How many faces the model recognises: by split, with mirrored faces, and when the faces are damaged.

Reads fdataX.npy, flabels.npy and fusage.npy, which preprocessing.py wrote into data/, and models/.
Prints two tables for models/README.md: top-1 accuracy on each split, also without the faces that stand in Training,
once as it is and once with the probabilities of the face and of its mirror image averaged; and on PrivateTest
damaged as cameras and face detectors do.

$ python benchmarks/accuracy.py
$ python benchmarks/accuracy.py --models data/sample/models --split PublicTest
"""
import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from preprocessing import DATA, PRIVATE_TEST, PUBLIC_TEST, TRAINING, USAGES, identities, run
from saved_model import MODELS, load_model
from test_model import predict
from train_model import load_dataset, resize


def same_photographs(faces, others):
    """bool (n,): faces that are likely one of the others, perhaps mirrored, with another scale, crop or watermark.

    Their 12 x 12 thumbnails correlate by 0.95 or more: of pairs of a PublicTest and a Training face that do, those that
    were looked at showed the same photograph, of pairs below 0.94 half did. Both are uint8 (n, 48, 48, 1).
    """
    def thumbnails(faces):
        small = resize(faces, 12).reshape(len(faces), -1).astype(np.float32)
        small -= small.mean(axis=1, keepdims=True)
        return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)

    theirs = thumbnails(np.concatenate([others, others[:, :, ::-1]])).T
    return np.concatenate([(part @ theirs).max(axis=1) >= 0.95 for part in np.array_split(thumbnails(faces), 8)])


def moved(faces, turn=0, zoom=1, right=0, down=0):
    """Faces uint8 (n, 48, 48, 1) turned by degrees, drawn larger, and shifted by parts of their size."""
    size = faces.shape[1]
    warp = cv2.getRotationMatrix2D(((size - 1) / 2,) * 2, turn, zoom) + np.array([[0, 0, right], [0, 0, down]]) * size
    return np.stack([cv2.warpAffine(face, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                     for face in faces])[..., None]


def lit(faces, factor):
    return np.clip(np.rint(faces * factor), 0, 255).astype(np.uint8)


def blurred(faces, sigma):
    return np.stack([cv2.GaussianBlur(face, (0, 0), sigma) for face in faces])[..., None]


def compressed(faces, quality):
    files = [cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for face in faces]
    return np.stack([cv2.imdecode(file, cv2.IMREAD_GRAYSCALE) for file in files])[..., None]


DAMAGES = {
    "blurred, sigma 1 pixel": lambda faces: blurred(faces, 1),
    "40 % darker": lambda faces: lit(faces, 0.6),
    "40 % brighter": lambda faces: lit(faces, 1.4),
    "JPEG of quality 20": lambda faces: compressed(faces, 20),
    "turned 15° left": lambda faces: moved(faces, turn=15),
    "turned 15° right": lambda faces: moved(faces, turn=-15),
    "shifted 10 % left": lambda faces: moved(faces, right=-0.1),
    "shifted 10 % right": lambda faces: moved(faces, right=0.1),
    "shifted 10 % up": lambda faces: moved(faces, down=-0.1),
    "shifted 10 % down": lambda faces: moved(faces, down=0.1),
    "crop 15 % looser": lambda faces: moved(faces, zoom=1 / 1.15),
    "crop 15 % tighter": lambda faces: moved(faces, zoom=1.15),
}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, metavar="FOLDER", default=MODELS, help="where the model is")
    parser.add_argument("--split", choices=USAGES[1:], default=USAGES[PRIVATE_TEST],
                        help="whose faces are damaged; to choose by, take PublicTest (default: %(default)s)")
    args = parser.parse_args(argv)
    faces, labels, usage = load_dataset(DATA)
    labels, identity, network = labels.argmax(axis=1), identities(faces), load_model(args.models)

    print("| faces | number | top-1 accuracy | with the mirror image |\n| --- | --- | --- | --- |")
    training = usage == TRAINING
    twins = np.isin(identity, identity[training])
    parts = {}
    for split in (PRIVATE_TEST, PUBLIC_TEST):
        rows = usage == split
        alike = rows & twins
        alike[rows] |= same_photographs(faces[rows], faces[training])
        parts |= {USAGES[split]: rows, f"{USAGES[split]} without twins in Training": rows & ~twins,
                  f"{USAGES[split]} without the same photographs in Training": rows & ~alike}
    for name, rows in parts.items():
        once = predict(network, faces[rows])
        twice = once + predict(network, faces[rows][:, :, ::-1])
        accuracies = [(shares.argmax(axis=1) == labels[rows]).mean() for shares in (once, twice)]
        print(f"| {name} | {rows.sum():,} | {accuracies[0]:.2%} | {accuracies[1]:.2%} |")

    rows = usage == USAGES.index(args.split)
    print(f"\n| {args.split}, damaged | top-1 accuracy | lost |\n| --- | --- | --- |")

    def accuracy(damage):
        return (predict(network, damage(faces[rows])).argmax(axis=1) == labels[rows]).mean()

    whole, accuracies = accuracy(lambda faces: faces), []
    for name, damage in DAMAGES.items():
        accuracies.append(accuracy(damage))
        print(f"| {name} | {accuracies[-1]:.2%} | {100 * (whole - accuracies[-1]):.1f} |", flush=True)
    print(f"| mean of these | {np.mean(accuracies):.2%} | {100 * (whole - np.mean(accuracies)):.1f} |")


if __name__ == "__main__":
    run(main)
