"""Measure how much around a detected face the network should see.

FER2013's validation faces (PublicTest) are enlarged four times in a grey border and detected like any face; then the
model labels what crop_faces cuts out, wider or narrower, higher or lower.
Reads fdataX.npy, flabels.npy and fusage.npy, which preprocessing.py wrote into data/, and models/.
Prints top-1 accuracy on the detected faces: a row for each scale of the box, a column for each shift downwards.

$ python benchmarks/crop_margin.py
"""
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions.artifacts import DATA
from expressions.console import run, script_parser
from expressions.detection import crop_faces, detect_faces
from expressions.fer2013 import load_dataset
from expressions.labels import PUBLIC_TEST
from expressions.model_files import load_classifier

SCALES = (0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4)  # of the box's width
SHIFTS = (-0.05, 0, 0.025, 0.05, 0.075, 0.1)  # downwards, of the box's height
ZOOM, BORDER = 4, 96  # pixels


def detect_again(faces):
    """Enlarge faces uint8 (n, 48, 48, 1) in a border and detect them.

    Returns the images, boxes int (m, 4), and the indices int (m,) of those where exactly one face was found.
    """
    images, found, indices = [], [], []
    for index, face in enumerate(faces):
        image = cv2.resize(face, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
        image = cv2.copyMakeBorder(image, *4 * [BORDER], cv2.BORDER_REPLICATE)
        boxes = detect_faces(image)
        if len(boxes) == 1:
            images.append(image)
            found.append(boxes[0])
            indices.append(index)
    return images, np.array(found), np.array(indices)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what preprocessing.py wrote")
    args = parser.parse_args(argv)
    faces, labels, splits, _ = load_dataset(args.data)
    faces, labels = faces[splits == PUBLIC_TEST], labels[splits == PUBLIC_TEST]
    classify = load_classifier()
    images, boxes, indices = detect_again(faces)
    total, faces, labels = len(faces), faces[indices], labels[indices]

    x, y = np.median((boxes[:, :2] + boxes[:, 2:] / 2 - BORDER) / ZOOM, axis=0)
    print(f"median of the boxes in FER2013's 48 pixels: centre ({x:.1f}, {y:.1f}), "
          f"width {np.median(boxes[:, 2]) / ZOOM:.1f}")
    print(f"{len(faces):,} of {total:,} faces are detected; accuracy on these as FER2013 has them "
          f"{np.mean(classify(faces).argmax(axis=1) == labels):.2%}")
    print("scale x shift  " + "".join(f"{shift:8.3f}" for shift in SHIFTS))
    for scale in SCALES:
        accuracies = []
        for shift in SHIFTS:
            crops = np.concatenate([crop_faces(image, [box], scale, shift) for image, box in zip(images, boxes)])
            accuracies.append(np.mean(classify(crops).argmax(axis=1) == labels))
        print(f"{scale:14.2f} " + "".join(f"{accuracy:8.2%}" for accuracy in accuracies), flush=True)


if __name__ == "__main__":
    run(main)
