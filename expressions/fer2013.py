"""FER2013 in every published form, FER+'s votes on its faces, and what is known about both."""
import hashlib
import tarfile
from pathlib import PurePosixPath

import cv2
import numpy as np

from expressions.artifacts import load_arrays, save_arrays
from expressions.console import InputError, first_line
from expressions.labels import EXPRESSIONS, FACE_SIZE, PRIVATE_TEST, PUBLIC_TEST, SPLITS, TRAINING

FER2013_SHA256 = "9631e285f959a067332002e8153d0607d812894f06b08213da1d809a15afa98a"
# of the labels, splits and faces of fer2013.csv as the challenge published it, MD5 f8428a1edbd21e88f42c73edd2a14f95
FERPLUS_COLUMNS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral",  # as EXPRESSIONS
                   "contempt", "unknown", "NF")  # NF: not a face
FOLDER_SPLITS = {"train": TRAINING, "validation": PUBLIC_TEST, "val": PUBLIC_TEST, "test": PRIVATE_TEST}
DATASET = ("fdataX.npy", "flabels.npy", "fusage.npy", "fvotes.npy")  # faces, one-hot labels, splits, votes
TEST_SPLIT = ("modXtest.npy", "modytest.npy", "modvtest.npy")  # faces, one-hot labels, votes
ROWS_AT_ONCE = 2000  # of the CSV, 18 MB of text


def read_csv(path):
    """Read FER2013 from a CSV: plain, in .gz, .xz or .zip, or in the challenge's .tar.gz of several files.

    Returns faces uint8 (N, 48, 48, 1), labels uint8 (N,) from 0 to 6, and splits uint8 (N,), or None where the file
    has no column Usage. Raises InputError, with the row that is wrong.
    """
    import pandas as pd

    parts, number = [], 0
    try:
        for table in pd.read_csv(_open_csv(path), chunksize=ROWS_AT_ONCE, skipinitialspace=True, dtype=str,
                                 keep_default_na=False):
            if table.empty or not {"pixels", "emotion"} <= set(table):
                raise ValueError("it has no rows with the columns emotion and pixels")
            has_usage = "Usage" in table
            parts.append(_parse_rows(number, table.assign(Usage=table.get("Usage", SPLITS[TRAINING]))))
            number += len(table)
    except Exception as error:  # pandas and the packers raise whatever they stumble over
        raise InputError(f"{path} is not a whole CSV of FER2013 ({first_line(error)}): download it again") from None
    faces, labels, splits = map(np.concatenate, zip(*parts))
    return faces, labels, splits if has_usage else None


def _open_csv(path):
    """Return what pandas reads: the path, or from the challenge's archive the CSV of all the faces as a stream."""
    if not tarfile.is_tarfile(path):
        return path
    archive = tarfile.open(path)
    members = {PurePosixPath(name).name: name for name in archive.getnames()}
    for name in ("fer2013.csv", "icml_face_data.csv", "train.csv"):
        if name in members:
            return archive.extractfile(members[name])
    raise ValueError("the archive holds no fer2013.csv")


def _parse_rows(before, table):
    """Return the faces, labels and splits of a table of texts; `before` rows came before it. Raises ValueError."""
    try:
        pixels = np.loadtxt(table.pixels.replace("", "none"), np.uint8, comments=None, ndmin=2)  # empty ones it skips
        faces = pixels.reshape(len(table), FACE_SIZE, FACE_SIZE, 1)
        labels, splits = ([names.index(text.strip()) for text in column]
                          for names, column in (([*"0123456"], table.emotion), (SPLITS, table.Usage)))
        return faces, np.uint8(labels), np.uint8(splits)
    except (ValueError, TypeError, AttributeError):  # the last two where a field is missing
        for number in range(len(table) if len(table) > 1 else 0):  # which of them is it?
            _parse_rows(before + number, table[number:number + 1])
        raise ValueError(f"row {before + 1} (line {before + 2}) needs {FACE_SIZE ** 2:,} pixels from 0 to 255, a label "
                         f"from 0 to 6, and {', '.join(SPLITS)} as Usage") from None


def read_folder(folder):
    """Read face images from train|validation|test/<expression>/*.png or *.jpg, in grey and at 48 x 48 pixels.

    Expressions are called as in EXPRESSIONS, or 0 to 6. Returns what read_csv returns. Raises InputError.
    """
    names, rows = [*EXPRESSIONS, *"0123456"], []
    for path in sorted(folder.glob("*/*/*")):
        split, name = FOLDER_SPLITS.get(path.parts[-3].lower()), path.parts[-2].lower()
        if split is None or path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            continue
        if name not in names:
            raise InputError(f"{path.parent} is not an expression: name the folder {', '.join(EXPRESSIONS)}")
        encoded = np.fromfile(path, np.uint8)  # cv2.imread fails on letters outside Windows's code page
        face = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE) if len(encoded) else None
        if face is None:
            raise InputError(f"{path} is not an image of a face: remove it or download the folder again")
        face = cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)
        rows.append((face[..., None], names.index(name) % len(EXPRESSIONS), split))
    if not rows:
        raise InputError(f"{folder} holds no train|validation|test/<expression>/*.png or *.jpg: give the folder above")
    return tuple(np.array(column, np.uint8) for column in zip(*rows))


def read_ferplus(path, splits):
    """Read FER+'s votes from fer2013new.csv, uint8 (N, 10), columns as FERPLUS_COLUMNS.

    Its rows are those of fer2013.csv, which `splits` uint8 (N,) or None must agree with. Raises InputError.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(FERPLUS_COLUMNS, np.uint8))
        if splits is None or table.Usage.tolist() != [SPLITS[split] for split in splits]:
            raise ValueError(f"its {len(table):,} rows and the faces differ in Usage")
        return table[[*FERPLUS_COLUMNS]].to_numpy()
    except Exception as error:  # pandas raises whatever it stumbles over
        raise InputError(f"{path} is not FER+'s file of votes for these faces ({first_line(error)}): download "
                         "fer2013new.csv again, and give it with the fer2013.csv of the challenge") from None


def is_original_fer2013(faces, labels, splits):
    """Return whether these are FER2013's faces, labels uint8 (N,) and splits, all of them and in their order."""
    content = b"" if splits is None else labels.tobytes() + splits.tobytes() + faces.tobytes()
    return hashlib.sha256(content).hexdigest() == FER2013_SHA256


def duplicate_groups(faces):
    """Return int (N,): faces with the same pixels have the same number, counted from 0."""
    numbers = {}
    return np.array([numbers.setdefault(face.tobytes(), len(numbers)) for face in faces])


def is_uniform(faces):
    """Return bool (N,): faces that are one flat colour."""
    return np.ptp(faces.reshape(len(faces), -1), axis=1) == 0


def training_mask(faces, splits):
    """Return bool (N,): Training faces that are not uniform and have no exact duplicate in another split."""
    group = duplicate_groups(faces)
    return (splits == TRAINING) & ~is_uniform(faces) & ~np.isin(group, group[splits != TRAINING])


def fill_missing_splits(faces, labels, splits, seed=42):
    """Return the splits uint8 (N,), or None, with a missing test or validation split drawn from Training.

    Each is a tenth of the distinct faces, stratified by expression. Raises InputError where there are too few faces.
    """
    splits = np.full(len(faces), TRAINING, np.uint8) if splits is None else splits.copy()
    group = duplicate_groups(faces)
    for split in (PRIVATE_TEST, PUBLIC_TEST):
        if (splits == split).any():
            continue
        from sklearn.model_selection import train_test_split  # a second to load, and seldom needed
        rows = np.flatnonzero(splits == TRAINING)
        distinct, first = np.unique(group[rows], return_index=True)
        try:
            _, drawn = train_test_split(distinct, test_size=round(len(np.unique(group)) / 10),
                                        stratify=labels[rows][first], random_state=seed)
        except ValueError:
            raise InputError(f"{len(faces)} faces are too few to draw a {SPLITS[split]} split from: "
                             "give ten or more of each expression, or a Usage column") from None
        splits[rows[np.isin(group[rows], drawn)]] = split
    return splits


def duplicate_report(faces, splits):
    """Yield sentences about uniform and repeated faces, which training leaves out."""
    group = duplicate_groups(faces)
    sizes = np.bincount(group)
    yield f"{is_uniform(faces).sum():,} faces are one flat colour"
    yield f"{(sizes > 1).sum():,} groups of pixel-identical faces hold {sizes[sizes > 1].sum():,} faces"
    for split in (PRIVATE_TEST, PUBLIC_TEST):
        count = np.isin(group[splits == split], group[splits == TRAINING]).sum()
        yield f"{count:,} {SPLITS[split]} faces have an exact duplicate in Training (those are not trained on)"


def class_counts(labels, splits):
    """Return a pandas table of counts: a row for each expression, a column for each split, and totals."""
    import pandas as pd

    expressions, usage = pd.Categorical.from_codes(labels, EXPRESSIONS), pd.Categorical.from_codes(splits, SPLITS)
    table = pd.crosstab(expressions, usage, margins=True, margins_name="total", dropna=False)
    return table.rename_axis(index=None, columns=None)


def save_dataset(folder, faces, labels, splits, votes=None):
    """Write fdataX.npy, flabels.npy (one-hot), fusage.npy and, with votes, fvotes.npy; return their names."""
    one_hot = np.eye(len(EXPRESSIONS), dtype=np.uint8)[labels]
    return save_arrays(folder, dict(zip(DATASET, (faces, one_hot, splits, votes))))


def load_dataset(folder):
    """Load save_dataset's faces uint8 (N, 48, 48, 1), labels, splits (N,), votes (N, 10) or None. Raises InputError."""
    faces, one_hot, splits, votes = load_arrays(folder, DATASET, "run preprocessing.py", optional=DATASET[3:])
    return faces, one_hot.argmax(axis=1), splits, votes


def export_test_split(folder):
    """Write PrivateTest's faces, labels and votes as modXtest.npy, modytest.npy and modvtest.npy."""
    faces, labels, splits, votes = load_dataset(folder)
    test = splits == PRIVATE_TEST
    arrays = faces[test], np.eye(len(EXPRESSIONS), dtype=np.uint8)[labels[test]], None if votes is None else votes[test]
    save_arrays(folder, dict(zip(TEST_SPLIT, arrays)), inputs=DATASET[:3])


def load_test_split(folder):
    """Load the test faces uint8 (n, 48, 48, 1), their labels (n,) and votes uint8 (n, 10) or None.

    Where only preprocessing.py was run they are exported first, to measure the shipped model. Raises InputError.
    """
    if not (folder / "modXtest.npy").exists():
        export_test_split(folder)
    remedy = "run train_model.py, or, to test the model as it is, remove modXtest.npy"
    faces, one_hot, votes = load_arrays(folder, TEST_SPLIT, remedy, optional=TEST_SPLIT[2:])
    return faces, one_hot.argmax(axis=1), votes
