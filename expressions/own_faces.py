"""Faces of one's own: a folder of images for each expression, and a model's last layer refitted to them."""
import cv2
import numpy as np

from expressions.console import InputError
from expressions.detection import crop_faces, run_detector
from expressions.evaluation import fit_temperature, predict
from expressions.fer2013 import FERPLUS_COLUMNS
from expressions.images import find_images, read_image
from expressions.labels import EXPRESSIONS, FACE_SIZE

LARGEST_FACE_IMAGE = 112  # pixels, the longer side: images up to this size count as faces, found or not
FOLDS = 5  # of the cross-validation
REGULARISATION = 0.01  # scikit-learn's C; as good from 10 faces per expression to 100 (models/EXPERIMENTS.md)


def read_labelled_faces(folder, detector=None):
    """Read the images in the folders angry/ to neutral/, also called anger, happiness and sadness.

    Each image gives one face: the largest that the detector (see detection) finds, cropped as for recognition, or
    the whole image where there is no detector, or where a small image shows none. Returns faces uint8 (n, 48, 48, 1),
    labels int (n,), and how many images were left out, because no face was found. Raises InputError.
    """
    faces, labels, n_left_out = [], [], 0
    names = {name: label for columns in (EXPRESSIONS, FERPLUS_COLUMNS) for label, name in enumerate(columns[:7])}
    for name, label in names.items():
        for path, _ in find_images(str(folder / name)) if (folder / name).is_dir() else ():
            image = read_image(path)
            grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            boxes, _, eyes = run_detector(detector, image) if detector else ((), None, None)
            if len(boxes):
                face = crop_faces(grey, eyes[boxes[:, 2].argmax()])[0]
            elif detector and max(grey.shape) > LARGEST_FACE_IMAGE:
                n_left_out += 1
                continue
            else:
                face = cv2.resize(grey, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)[..., None]
            faces.append(face)
            labels.append(label)
    if not faces:
        raise InputError(f"{folder} holds no images in folders named {', '.join(EXPRESSIONS)}, or none shows a face")
    return np.stack(faces), np.array(labels), n_left_out


def refit_last_layer(model, faces, labels):
    """Refit a Keras model's last layer to labelled faces, by a logistic regression on its inputs; calibrate it.

    faces are uint8 (n, 48, 48, 1), labels int (n,). Returns the accuracy before and after, which is cross-validated:
    each face is judged by a layer that was fitted without it. Raises InputError where faces are too few, or where the
    accuracy would not rise; the model is then as it was.
    """
    import keras
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    counts = np.bincount(labels, minlength=len(EXPRESSIONS))
    if counts.min() < FOLDS:
        raise InputError(f"there are {counts.min()} faces for {EXPRESSIONS[counts.argmin()]}: give ten or more of each")
    features = predict(keras.Model(model.inputs, model.layers[-2].output), faces)
    before = (predict(model, faces).argmax(axis=1) == labels).mean()
    order = np.random.default_rng(0).permutation(len(faces))  # images of one person or day often follow each other
    features, labels = features[order], labels[order]
    regression = LogisticRegression(C=REGULARISATION, max_iter=1000)
    probabilities = cross_val_predict(regression, features, labels, cv=FOLDS, method="predict_proba")
    after = (probabilities.argmax(axis=1) == labels).mean()
    if after <= before:
        raise InputError(f"the last layer refitted would be right on {after:.1%} of these faces, now it is on "
                         f"{before:.1%}: the model is left as it is; give more faces")
    regression.fit(features, labels)
    temperature = fit_temperature(probabilities, labels)
    model.layers[-1].set_weights([regression.coef_.T / temperature, regression.intercept_ / temperature])
    return before, after
