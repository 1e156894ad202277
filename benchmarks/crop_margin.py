"""How large a part of the picture the network should see about a face that was found.

FER2013's validation faces (PublicTest) are drawn four times as large into a grey border and found like
any face; then the model recognises what crop_faces cuts out, wider or narrower, higher or lower.
Reads data/fdataX.npy, flabels.npy and fusage.npy, which preprocessing.py wrote, and models/.
Prints top-1 accuracy on the faces found: for each widening of the box a row, for each lowering a column.

$ python benchmarks/crop_margin.py
"""
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from preprocessing import DATA, FACE_SIZE, PUBLIC_TEST, load_array, run
from recognise_image import crop_faces, find_faces, load_recogniser

WIDENINGS = (0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4)
LOWERINGS = (-0.05, 0, 0.025, 0.05, 0.075, 0.1)
ZOOM, BORDER = 4, 96


def main():
    usage = load_array(DATA / "fusage.npy", (None,), "preprocessing.py")
    faces = load_array(DATA / "fdataX.npy", (len(usage), FACE_SIZE, FACE_SIZE, 1), "preprocessing.py")
    labels = load_array(DATA / "flabels.npy", (len(usage), None), "preprocessing.py").argmax(axis=1)
    recogniser = load_recogniser()
    found = []
    for face, label in zip(faces[usage == PUBLIC_TEST], labels[usage == PUBLIC_TEST]):
        picture = cv2.resize(face, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC)
        picture = cv2.copyMakeBorder(picture, *4 * [BORDER], cv2.BORDER_REPLICATE)
        boxes = find_faces(picture)
        if len(boxes) == 1:
            found.append((picture, boxes, face, label))
    pictures, boxes, faces, labels = zip(*found)
    where = (np.concatenate(boxes)[:, [0, 1, 2]] - [BORDER, BORDER, 0]) / ZOOM
    where[:, :2] += where[:, 2:] / 2
    print("median of the boxes in FER2013's 48 pixels: centre ({:.1f}, {:.1f}), width {:.1f}".format(
        *np.median(where, axis=0)))
    print(f"{len(found):,} of {np.sum(usage == PUBLIC_TEST):,} faces found; "
          f"{np.mean(recogniser(np.array(faces)).argmax(axis=1) == labels):.2%} of these recognised as they are")
    print("wider x  lower " + "".join(f"{lower:8.3f}" for lower in LOWERINGS))
    for widen in WIDENINGS:
        shares = []
        for lower in LOWERINGS:
            crops = np.concatenate([crop_faces(*pair, widen, lower) for pair in zip(pictures, boxes)])
            shares.append(np.mean(recogniser(crops).argmax(axis=1) == labels))
        print(f"{widen:14.2f} " + "".join(f"{share:8.2%}" for share in shares), flush=True)


if __name__ == "__main__":
    run(main)
