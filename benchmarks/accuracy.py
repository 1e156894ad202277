"""Measure how often the model is right: on each split, without duplicates, and on damaged faces.

Reads fdataX.npy, flabels.npy and fusage.npy, which preprocessing.py wrote into data/, and models/.
Prints tables for models/README.md: top-1 accuracy on each split with its 95 % interval, also without the faces that
stand in Training; and on faces damaged as cameras and face detectors do; between them how many faces have which
probability, which --min-probability is chosen by. Says for how many faces the mirror image gets another label: none,
where the network is mirror-invariant.

With a FOLDER of angry/*.jpg to neutral/*.jpg (RAF-DB, CK+, one's own) it measures the model on these instead: on the
faces that the detector finds and crops, and on the whole images. Of each image the largest face counts.

$ python benchmarks/accuracy.py
$ python benchmarks/accuracy.py faces/ --detector yunet
$ python benchmarks/accuracy.py --models data/sample/models --split PublicTest
"""
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions.artifacts import DATA, MODELS
from expressions.console import run, script_parser
from expressions.evaluation import calibration_table, expected_calibration_error, margin, predict
from expressions.fer2013 import duplicate_groups, load_dataset
from expressions.labels import EXPRESSIONS, PRIVATE_TEST, PUBLIC_TEST, SPLITS, TRAINING
from expressions.model_files import load_classifier, load_model
from expressions.own_faces import read_labelled_faces
from expressions.recognition import DETECTORS, Recogniser, choose_detector
from expressions.training import resize

SAME_PHOTOGRAPH = 0.95  # correlation of 12 x 12 thumbnails: see same_photographs


def same_photographs(faces, others):
    """Return bool (n,): faces that are likely one of the others, mirrored or with another scale, crop or watermark.

    Both are uint8 (n, 48, 48, 1). Of pairs of a PublicTest and a Training face whose thumbnails correlate by
    SAME_PHOTOGRAPH or more, all that were looked at showed the same photograph; of pairs below 0.94 half did.
    """
    def thumbnails(faces):
        small = resize(faces, 12).reshape(len(faces), -1).astype(np.float32)
        small -= small.mean(axis=1, keepdims=True)
        return small / np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)

    theirs = thumbnails(np.concatenate([others, others[:, :, ::-1]])).T
    chunks = np.array_split(thumbnails(faces), 8)
    return np.concatenate([(chunk @ theirs).max(axis=1) >= SAME_PHOTOGRAPH for chunk in chunks])


def select_faces(faces, splits):
    """Return {name of a table row: bool (N,)}, the faces that count in it."""
    training = splits == TRAINING
    group = duplicate_groups(faces)
    is_duplicate = np.isin(group, group[training])
    selections = {}
    for split in (PRIVATE_TEST, PUBLIC_TEST):
        rows, name = splits == split, SPLITS[split]
        is_copy = rows & is_duplicate
        is_copy[rows] |= same_photographs(faces[rows], faces[training])
        selections |= {name: rows, f"{name} without exact duplicates in Training": rows & ~is_duplicate,
                       f"{name} without the same photographs in Training": rows & ~is_copy}
    return selections


# ---- damage: faces uint8 (n, 48, 48, 1) in and out ---------------------------------------------

def move(faces, degrees=0, zoom=1, right=0, down=0):
    """Rotate anticlockwise, draw larger, and shift by fractions of the face's size."""
    size = faces.shape[1]
    warp = cv2.getRotationMatrix2D(((size - 1) / 2,) * 2, degrees, zoom)
    warp += np.array([[0, 0, right], [0, 0, down]]) * size
    return np.stack([cv2.warpAffine(face, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                     for face in faces])[..., None]


def light(faces, factor):
    return np.clip(np.rint(faces * factor), 0, 255).astype(np.uint8)


def blur(faces, sigma):
    return np.stack([cv2.GaussianBlur(face, (0, 0), sigma) for face in faces])[..., None]


def compress(faces, quality):
    files = [cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for face in faces]
    return np.stack([cv2.imdecode(file, cv2.IMREAD_GRAYSCALE) for file in files])[..., None]


DAMAGES = {
    "blurred, sigma 1 pixel": lambda faces: blur(faces, 1),
    "40 % darker": lambda faces: light(faces, 0.6),
    "40 % brighter": lambda faces: light(faces, 1.4),
    "JPEG of quality 20": lambda faces: compress(faces, 20),
    "rotated 15° left": lambda faces: move(faces, degrees=15),
    "rotated 15° right": lambda faces: move(faces, degrees=-15),
    "shifted 10 % left": lambda faces: move(faces, right=-0.1),
    "shifted 10 % right": lambda faces: move(faces, right=0.1),
    "shifted 10 % up": lambda faces: move(faces, down=-0.1),
    "shifted 10 % down": lambda faces: move(faces, down=0.1),
    "crop 15 % looser": lambda faces: move(faces, zoom=1 / 1.15),
    "crop 15 % tighter": lambda faces: move(faces, zoom=1.15),
}


def measure_folder(folder, models, detector):
    """Print tables of how good the model is on a folder of one's own."""
    import pandas as pd
    from sklearn.metrics import recall_score

    classify, texts = load_classifier(models), []
    print("| faces | number | left out | top-1 accuracy | mean recall | calibration error |\n" + "| --- " * 6 + "|")
    for name, find in ((f"found by {detector}", Recogniser(models, detector).detector), ("whole images", None)):
        faces, y_true, n_left_out = read_labelled_faces(folder, find)
        y_prob = np.concatenate([classify(faces[start:start + 256]) for start in range(0, len(faces), 256)])
        y_pred = y_prob.argmax(axis=1)
        accuracy, error = (y_true == y_pred).mean(), expected_calibration_error(calibration_table(y_true, y_prob))
        recall = recall_score(y_true, y_pred, average="macro", zero_division=0)
        print(f"| {name} | {len(faces):,} | {n_left_out:,} | {accuracy:.2%} ± {100 * margin(accuracy, len(faces)):.1f} "
              f"| {recall:.2%} | {error:.3f} |")
        names = pd.Categorical.from_codes(y_true, EXPRESSIONS), pd.Categorical.from_codes(y_pred, EXPRESSIONS)
        matrix = pd.crosstab(*names, rownames=["true"], colnames=["predicted"], dropna=False)
        texts.append(f"{name}, true expressions in rows:\n{matrix}")
    print("", *texts, sep="\n\n")


def measure_fer2013(data, models, damaged_split):
    """Print the tables of FER2013's splits, and of the damaged faces of one of them."""
    faces, labels, splits, _ = load_dataset(data)
    model = load_model(models)

    print("| faces | number | top-1 accuracy | 95 % interval |\n| --- | --- | --- | --- |")
    predicted, confidence = np.full(len(faces), -1), np.empty(len(faces))
    for split in (PRIVATE_TEST, PUBLIC_TEST):
        y_prob = predict(model, faces[splits == split])
        predicted[splits == split], confidence[splits == split] = y_prob.argmax(axis=1), y_prob.max(axis=1)
    for name, rows in select_faces(faces, splits).items():
        accuracy = (predicted[rows] == labels[rows]).mean()
        half = margin(accuracy, rows.sum())
        print(f"| {name} | {rows.sum():,} | {accuracy:.2%} | {100 * (accuracy - half):.1f} to "
              f"{100 * (accuracy + half):.1f} |")

    print("\n| PublicTest, probability | faces above | right above | right below |\n| --- | --- | --- | --- |")
    rows = splits == PUBLIC_TEST
    is_right, confidence = (predicted == labels)[rows], confidence[rows]
    for least in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        above = confidence >= least
        print(f"| {least} | {above.mean():.1%} | {is_right[above].mean():.1%} | {is_right[~above].mean():.1%} |")

    rows = splits == SPLITS.index(damaged_split)
    faces, labels, predicted = faces[rows], labels[rows], predicted[rows]
    changed = predict(model, faces[:, :, ::-1]).argmax(axis=1) != predicted
    print(f"\nOf {len(faces):,} {damaged_split} faces {changed.sum():,} get another label when mirrored.")

    print(f"\n| {damaged_split}, damaged | top-1 accuracy | points lost |\n| --- | --- | --- |")
    whole, accuracies = (predicted == labels).mean(), []
    for name, damage in DAMAGES.items():
        accuracies.append((predict(model, damage(faces)).argmax(axis=1) == labels).mean())
        print(f"| {name} | {accuracies[-1]:.2%} | {100 * (whole - accuracies[-1]):.1f} |", flush=True)
    print(f"| mean of these | {np.mean(accuracies):.2%} | {100 * (whole - np.mean(accuracies)):.1f} |")


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="of folders named angry to neutral")
    parser.add_argument("--detector", choices=DETECTORS, help="with FOLDER; as in recognise_image.py")
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what preprocessing.py wrote")
    parser.add_argument("--models", type=Path, metavar="FOLDER", default=MODELS, help="where the model is")
    parser.add_argument("--split", choices=SPLITS[1:], default=SPLITS[PRIVATE_TEST],
                        help="whose faces are damaged; to choose by, take PublicTest (default: %(default)s)")
    args = parser.parse_args(argv)
    if args.folder:
        measure_folder(args.folder, args.models, choose_detector(args.detector))
    else:
        measure_fer2013(args.data, args.models, args.split)


if __name__ == "__main__":
    run(main)
