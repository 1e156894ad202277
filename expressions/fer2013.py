"""FER2013 in every published form, FER+'s votes on its faces, and what is known about both."""
import hashlib
import re
import tarfile
from pathlib import PurePosixPath

import cv2
import numpy as np

from expressions.artifacts import load_array, require_same_run, save_arrays
from expressions.console import InputError, first_line
from expressions.labels import EXPRESSIONS, FACE_SIZE, PRIVATE_TEST, PUBLIC_TEST, SPLITS, TRAINING

FER2013_SHA256 = "9631e285f959a067332002e8153d0607d812894f06b08213da1d809a15afa98a"
# of the labels, splits and faces of fer2013.csv as the challenge published it, MD5 f8428a1edbd21e88f42c73edd2a14f95
FERPLUS_COLUMNS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral",  # as EXPRESSIONS
                   "contempt", "unknown", "NF")  # NF: not a face
FOLDER_SPLITS = {"train": TRAINING, "training": TRAINING, "validation": PUBLIC_TEST, "val": PUBLIC_TEST,
                 "publictest": PUBLIC_TEST, "test": PRIVATE_TEST, "privatetest": PRIVATE_TEST}
ROWS_AT_ONCE = 2000  # of the CSV, 18 MB of text


# ---- reading the published files ---------------------------------------------------------------

def read_csv(path):
    """Read FER2013 from a CSV: plain, in .gz, .xz or .zip, or in the challenge's .tar.gz of several files.

    Returns faces uint8 (N, 48, 48, 1), labels uint8 (N,) from 0 to 6, and splits uint8 (N,), or None where the file
    has no column Usage. Raises InputError, with the row that is wrong.
    """
    import pandas as pd

    faces, labels, splits, row = [], [], [], 1
    try:
        with tarfile.open(path) if tarfile.is_tarfile(path) else open(path, "rb") as file:
            source = path if not isinstance(file, tarfile.TarFile) else _csv_in_archive(path, file)
            for part in pd.read_csv(source, chunksize=ROWS_AT_ONCE, skipinitialspace=True, dtype=str,
                                    keep_default_na=False, skip_blank_lines=True):
                part.columns = part.columns.str.strip().str.lower()
                for name in ("pixels", "emotion"):
                    if name not in part:
                        raise InputError(f"{path} has no column {name!r} in its first line: give fer2013.csv, "
                                         "icml_face_data.csv or train.csv (test.csv has no labels)")
                if part.empty:
                    break
                faces.append(_parse_pixels(path, part.pixels, row))
                labels.append(_codes(path, part.emotion, map(str, range(len(EXPRESSIONS))), "label", row))
                if "usage" in part:
                    splits.append(_codes(path, part.usage, SPLITS, "Usage", row))
                row += len(part)
    except InputError:
        raise
    except OSError as error:
        if error.errno:
            raise
        raise InputError(f"{path} is damaged or cut short ({first_line(error)}): download it again") from None
    except Exception as error:  # pandas and the packers raise whatever they stumble over
        raise InputError(f"{path} is damaged, or not a CSV of FER2013 ({first_line(error)}): download it again"
                         ) from None
    if not faces:
        raise InputError(f"{path} has a header but no rows: download it again")
    return (np.concatenate(faces).reshape(-1, FACE_SIZE, FACE_SIZE, 1), np.concatenate(labels),
            np.concatenate(splits) if splits else None)


def _csv_in_archive(path, archive):
    """Return the CSV of all the faces in the challenge's archive as a stream; nothing is unpacked to the disk."""
    names = [member.name for member in archive if member.isfile()]
    for wanted in ("fer2013.csv", "icml_face_data.csv", "train.csv"):
        for name in names:
            if PurePosixPath(name).name == wanted:
                return archive.extractfile(name)
    raise InputError(f"{path} holds no fer2013.csv: unpack it and give the CSV")


def _parse_pixels(path, column, first_row):
    """Return a column of blank-separated grey values as uint8 (n, 2304)."""
    try:
        faces, complaint = np.loadtxt(column, np.uint8, ndmin=2, comments=None), "0"
        if faces.shape == (len(column), FACE_SIZE ** 2):
            return faces
    except ValueError as error:  # "could not convert string '256' to uint8 at row 3, column 7."
        complaint = first_line(error)
    index = int(re.findall(r"\d+", complaint.partition("at row")[2] or "0")[0])
    counts = column.str.split().str.len().to_numpy()
    if (counts != FACE_SIZE ** 2).any():
        index = int((counts != FACE_SIZE ** 2).argmax())
        complaint = f"{counts[index]:,} pixels instead of {FACE_SIZE ** 2:,}"
    raise _bad_row(path, first_row + index, complaint.partition(" at row")[0])


def _bad_row(path, row, complaint):
    return InputError(f"{path}, row {row} (line {row + 1}) is damaged: {complaint}: "
                      "mend the row or download the file again")


def _codes(path, column, names, title, first_row):
    """Return a column of names as their positions among `names`, uint8 (n,), whatever their case and blanks."""
    position = {name.lower(): index for index, name in enumerate(names)}
    codes = column.str.strip().str.lower().map(position)
    if codes.isna().any():
        index = int(codes.isna().to_numpy().argmax())
        raise _bad_row(path, first_row + index,
                       f"the {title} {column.iloc[index][:40]!r} instead of {', '.join(position)}")
    return codes.to_numpy(np.uint8)


def read_folder(folder):
    """Read face images from train|validation|test/<expression>/*.png or *.jpg, in grey and at 48 x 48 pixels.

    Folders of expressions have the names of EXPRESSIONS, or 0 to 6. Returns faces, labels and splits like read_csv.
    Raises InputError.
    """
    label_of = {**{name: label for label, name in enumerate(EXPRESSIONS)},
                **{str(label): label for label in range(len(EXPRESSIONS))}}
    faces, labels, splits = [], [], []
    for path in sorted(folder.glob("*/*/*")):
        split = FOLDER_SPLITS.get(path.parent.parent.name.lower())
        if split is None or path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            continue
        if path.parent.name.lower() not in label_of:
            raise InputError(f"{path.parent} is not an expression: name the folder {', '.join(EXPRESSIONS)}")
        encoded = np.fromfile(path, np.uint8)  # cv2.imread fails on letters outside Windows's code page
        face = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE) if len(encoded) else None
        if face is None:
            raise InputError(f"{path} is not an image of a face: remove it or download the folder again")
        if face.shape != (FACE_SIZE, FACE_SIZE):
            face = cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)
        faces.append(face[..., None])
        labels.append(label_of[path.parent.name.lower()])
        splits.append(split)
    if not faces:
        raise InputError(f"{folder} holds no train|validation|test/<expression>/*.png or *.jpg: "
                         "give the folder above train and test")
    return np.stack(faces), np.array(labels, np.uint8), np.array(splits, np.uint8)


def read_ferplus(path, splits):
    """Read FER+'s votes from fer2013new.csv, uint8 (N, 10), columns as FERPLUS_COLUMNS.

    The file has a row for each row of fer2013.csv; `splits` uint8 (N,) shows whether they belong together. Raises
    InputError.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, skipinitialspace=True)
        if table.Usage.tolist() != [SPLITS[split] for split in splits]:
            raise ValueError(f"its {len(table):,} rows are not those of the {len(splits):,} faces")
        votes = table[list(FERPLUS_COLUMNS)].to_numpy(float)
        if not ((votes >= 0) & (votes <= 255) & (votes % 1 == 0)).all():
            raise ValueError("not all its votes are whole numbers from 0 to 255")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or first_line(error)}: check the path") from None
    except Exception as error:  # pandas raises whatever it stumbles over
        raise InputError(f"{path} is not FER+'s file of votes for these faces ({first_line(error)}): download "
                         "fer2013new.csv again, and give it with the fer2013.csv of the challenge") from None
    return votes.astype(np.uint8)


# ---- what the faces are ------------------------------------------------------------------------

def is_original_fer2013(faces, labels, splits):
    """Return whether these are FER2013's faces, labels uint8 (N,) and splits, all of them and in their order."""
    content = labels.tobytes() + splits.tobytes() + faces.tobytes() if splits is not None else b""
    return hashlib.sha256(content).hexdigest() == FER2013_SHA256


def duplicate_groups(faces):
    """Return int (N,): faces with the same pixels have the same number, counted from 0."""
    numbers = {}
    return np.array([numbers.setdefault(face.tobytes(), len(numbers)) for face in faces])


def is_uniform(faces):
    """Return bool (N,): faces that are one flat colour."""
    pixels = faces.reshape(len(faces), -1)
    return pixels.min(axis=1) == pixels.max(axis=1)


def training_mask(faces, splits):
    """Return bool (N,): Training faces that are not uniform and have no exact duplicate in another split."""
    group = duplicate_groups(faces)
    return (splits == TRAINING) & ~is_uniform(faces) & ~np.isin(group, group[splits != TRAINING])


def fill_missing_splits(faces, labels, splits, seed=42):
    """Return the splits uint8 (N,) with a missing test or validation split drawn from Training.

    Each is a tenth of the distinct faces, stratified by expression; exact duplicates stay on one side. `splits` is
    uint8 (N,), or None where the source has none. Raises InputError where there are too few faces.
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

    table = pd.crosstab(pd.Categorical.from_codes(labels, EXPRESSIONS), pd.Categorical.from_codes(splits, SPLITS),
                        dropna=False)
    table.index.name = table.columns.name = None
    table["total"] = table.sum(axis=1)
    table.loc["total"] = table.sum()
    return table


# ---- the arrays between the scripts ------------------------------------------------------------

def save_dataset(folder, faces, labels, splits, votes=None):
    """Write fdataX.npy, flabels.npy (one-hot), fusage.npy and, with votes, fvotes.npy; return their names."""
    arrays = {"fdataX.npy": faces, "flabels.npy": np.eye(len(EXPRESSIONS), dtype=np.uint8)[labels],
              "fusage.npy": splits, **({} if votes is None else {"fvotes.npy": votes})}
    save_arrays({folder / name: array for name, array in arrays.items()})
    if votes is None:
        (folder / "fvotes.npy").unlink(missing_ok=True)  # of another run
    return list(arrays)


def load_dataset(folder):
    """Load what save_dataset wrote: faces uint8 (N, 48, 48, 1), labels (N,), splits (N,), votes (N, 10) or None.

    Raises InputError where a file is missing, damaged or of another run.
    """
    require_same_run(folder / "fdataX.sha256", "run preprocessing.py again")
    faces, labels = _load_faces(folder, "fdataX.npy", "flabels.npy", "preprocessing.py")
    splits = load_array(folder / "fusage.npy", (len(faces),), "preprocessing.py")
    if (splits > PRIVATE_TEST).any():
        raise InputError(f"{folder / 'fusage.npy'} holds numbers other than 0, 1 and 2: run preprocessing.py again")
    return faces, labels, splits, _load_votes(folder / "fvotes.npy", len(faces))


def export_test_split(folder):
    """Write the PrivateTest faces, their labels and votes as modXtest.npy, modytest.npy and modvtest.npy; return
    their number."""
    faces, labels, splits, votes = load_dataset(folder)
    test = splits == PRIVATE_TEST
    arrays = {folder / "modXtest.npy": faces[test],
              folder / "modytest.npy": np.eye(len(EXPRESSIONS), dtype=np.uint8)[labels[test]]}
    if votes is not None:
        arrays[folder / "modvtest.npy"] = votes[test]
    else:
        (folder / "modvtest.npy").unlink(missing_ok=True)  # of another run
    save_arrays(arrays, inputs=["fdataX.npy", "flabels.npy", "fusage.npy"])
    return int(test.sum())


def load_test_split(folder):
    """Load the test faces uint8 (n, 48, 48, 1), their labels (n,) and votes uint8 (n, 10) or None.

    They are exported first where only preprocessing.py was run: nobody need train to measure the shipped model.
    Raises InputError.
    """
    if not (folder / "modXtest.npy").exists() and (folder / "fdataX.npy").exists():
        export_test_split(folder)
    require_same_run(folder / "modXtest.sha256",
                     "run train_model.py, or, to test the model as it is, remove modXtest.npy")
    faces, labels = _load_faces(folder, "modXtest.npy", "modytest.npy", "train_model.py")
    if not len(faces):
        raise InputError(f"{folder / 'modXtest.npy'} holds no faces: run preprocessing.py and train_model.py again")
    return faces, labels, _load_votes(folder / "modvtest.npy", len(faces))


def _load_faces(folder, faces_name, labels_name, producer):
    """Return faces uint8 (n, 48, 48, 1) and their labels int (n,), from one-hot ones."""
    faces = load_array(folder / faces_name, (None, FACE_SIZE, FACE_SIZE, 1), producer)
    one_hot = load_array(folder / labels_name, (len(faces), len(EXPRESSIONS)), producer)
    if (one_hot.max(axis=1, initial=0) != 1).any() or (one_hot.sum(axis=1) != 1).any():
        raise InputError(f"{folder / labels_name} has a row without a single 1: run {producer} again")
    return faces, one_hot.argmax(axis=1)


def _load_votes(path, count):
    return load_array(path, (count, len(FERPLUS_COLUMNS)), "preprocessing.py --ferplus") if path.exists() else None
