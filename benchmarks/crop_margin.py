"""Measure how a detected face should be framed for the network: how far apart the eyes come, and how far down.

FER2013's validation faces (PublicTest) are enlarged four times in a grey border and detected like any face; then the
model labels what crop_faces cuts out, with the eyes at several places. 36 % and 38 % is where YuNet sees FER2013's.
Reads fdataX.npy, flabels.npy and fusage.npy, which preprocessing.py wrote into data/, and models/.
Prints top-1 accuracy on the detected faces: a row for how far apart the eyes are, a column for how far down, as
fractions of the crop's width.

$ python benchmarks/crop_margin.py                    # with the cascades, which guess the eyes from the box
$ python benchmarks/crop_margin.py --detector yunet   # which finds them
"""
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions import detection
from expressions.artifacts import DATA
from expressions.console import run, script_parser
from expressions.fer2013 import load_dataset
from expressions.labels import PUBLIC_TEST
from expressions.recognition import DETECTORS, Recogniser

APART = (0.34, 0.36, 0.38, 0.4, 0.42)
DOWN = (0.34, 0.36, 0.38, 0.4, 0.42)
ZOOM, BORDER = 4, 96  # pixels


def detect_again(faces, detector):
    """Enlarge faces uint8 (n, 48, 48, 1) in a border and detect them.

    Returns the grey images, eyes float (m, 2, 2), and the indices int (m,) of those where exactly one face was found.
    """
    images, found, indices = [], [], []
    for index, face in enumerate(faces):
        image = cv2.resize(face, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
        image = cv2.copyMakeBorder(image, *4 * [BORDER], cv2.BORDER_REPLICATE)
        boxes, _, eyes = detection.run_detector(detector, cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
        if len(boxes) == 1:
            images.append(image)
            found.append(eyes[0])
            indices.append(index)
    return images, np.array(found), np.array(indices)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what preprocessing.py wrote")
    parser.add_argument("--detector", choices=DETECTORS, default="haar", help="default: %(default)s")
    args = parser.parse_args(argv)
    faces, labels, splits, _ = load_dataset(args.data)
    faces, labels = faces[splits == PUBLIC_TEST], labels[splits == PUBLIC_TEST]
    recogniser = Recogniser(detector=args.detector)
    images, eyes, indices = detect_again(faces, recogniser.detector)
    total, faces, labels = len(faces), faces[indices], labels[indices]

    distance = np.median(np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)) / ZOOM / 48
    height = np.median((eyes[:, :, 1] - BORDER) / ZOOM) / 48
    print(f"median of the eyes in FER2013's faces: {distance:.2f} of the width apart, {height:.2f} down")
    print(f"{len(faces):,} of {total:,} faces are detected; accuracy on these as FER2013 has them "
          f"{np.mean(recogniser.classify(faces).argmax(axis=1) == labels):.2%}")
    print("apart x down   " + "".join(f"{down:8.2f}" for down in DOWN))
    for detection.EYES_APART in APART:
        accuracies = []
        for detection.EYES_DOWN in DOWN:
            crops = np.concatenate([detection.crop_faces(image, [pair]) for image, pair in zip(images, eyes)])
            accuracies.append(np.mean(recogniser.classify(crops).argmax(axis=1) == labels))
        print(f"{detection.EYES_APART:14.2f} " + "".join(f"{accuracy:8.2%}" for accuracy in accuracies), flush=True)


if __name__ == "__main__":
    run(main)
