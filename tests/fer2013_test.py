"""FER2013 is read in every published form, and what is known about it is counted right."""
import gzip
import io
import lzma
import shutil
import tarfile
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import csv_text

from expressions import fer2013
from expressions.console import InputError
from expressions.labels import EXPRESSIONS


def pack(text, path):
    """Write a CSV as the file's ending says, with the means of Python's own library."""
    content = text.encode()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("fer2013.csv", content)
    elif path.name.endswith(".tar.gz"):
        with tarfile.open(path, "w:gz") as archive:
            for name, data in (("fer2013/README", b"words"), ("fer2013/fer2013.csv", content)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    else:
        path.write_bytes({".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(content))
    return path


@pytest.mark.parametrize("name", ["fer2013.csv", "fer2013.csv.gz", "fer2013.csv.xz", "archive.zip", "fer2013.tar.gz"])
@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_every_form_of_the_csv_gives_the_same_faces(small_set, tmp_path, name, header):
    path = pack(csv_text(*small_set, header), tmp_path / name)
    for found, expected in zip(fer2013.read_csv(path), small_set):
        assert found.dtype == np.uint8 and np.array_equal(found, expected)


@pytest.mark.filterwarnings("error:loadtxt")
@pytest.mark.parametrize("field, value", [
    *((1, " ".join(["1"] * 2303 + end)) for end in ([], ["1", "1"], ["256"], ["-1"], ["1.5"])),
    (1, ""), (0, "7"), (0, "1.0"), (0, ""), (0, "12"), (2, "Test"), (slice(1, 3), ["1 2"])])
def test_a_bad_row_is_named(small_set, tmp_path, field, value):
    path, rows = tmp_path / "fer2013.csv", [row.split(",") for row in csv_text(*small_set).splitlines()]
    rows[42][field] = value
    path.write_text("\n".join(map(",".join, rows)))
    with pytest.raises(InputError, match=r"fer2013\.csv .*row 42 \(line 43\) needs 2,304 pixels from 0 to 255"):
        fer2013.read_csv(path)


@pytest.mark.parametrize("name, content, words", [
    ("fer2013.csv", b"", "is not a whole CSV"), ("fer2013.csv", bytes(range(256)) * 9, "is not a whole CSV"),
    ("fer2013.csv.gz", gzip.compress(b"emotion,pixels\n" * 999)[:-9], "is not a whole CSV"),
    ("fer2013.tar.gz", gzip.compress(bytes(10240)), "the archive holds no fer2013.csv"),
    ("test.csv", b"pixels\n1 2\n", "no rows with the columns emotion and pixels"),
    ("train.csv", b"emotion,pixels,Usage\n", "no rows with the columns emotion and pixels")])
def test_a_file_of_something_else_or_cut_short_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} .*{words}"):
        fer2013.read_csv(tmp_path / name)


@pytest.mark.parametrize("numbered", [False, True])
def test_folders_give_the_same_faces(small_set, tmp_path, numbered):
    def in_order(faces, labels, splits):
        return sorted(zip(labels.tolist(), splits.tolist(), map(bytes, faces)))

    for index, (face, label, split) in enumerate(zip(*small_set)):
        folder = tmp_path / ("train", "validation", "test")[split] / (str(label) if numbered else EXPRESSIONS[label])
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{index:03}.png"), face)
    assert in_order(*fer2013.read_folder(tmp_path)) == in_order(*small_set)


def test_folders_that_are_not_faces_are_refused(tmp_path):
    for name, words in (("readme", "holds no train"), ("train/joy", "joy is not an expression"),
                        ("train/happy", r"a\.png is not an image of a face")):
        (tmp_path / name / "new").mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(b"no image")
        with pytest.raises(InputError, match=words):
            fer2013.read_folder(tmp_path)
        shutil.rmtree(tmp_path / name)


def votes_file(path, splits, votes):
    """fer2013new.csv as Microsoft published it: other columns and another order of the expressions."""
    columns = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]
    table = pd.DataFrame(votes, columns=fer2013.FERPLUS_COLUMNS)[columns]
    table.insert(0, "Usage", [("Training", "PublicTest", "PrivateTest")[split] for split in splits])
    table.insert(1, "Image name", "")
    table.to_csv(path, index=False)
    return path


def test_ferplus_votes_are_in_the_order_of_the_expressions(small_set, tmp_path):
    votes = np.random.default_rng(1).integers(0, 11, (70, 10), np.uint8)
    path = votes_file(tmp_path / "fer2013new.csv", small_set[2], votes)
    assert fer2013.read_ferplus(path, small_set[2]).tolist() == votes.tolist()
    for splits in (small_set[2][:-1], None):
        with pytest.raises(InputError, match="its 70 rows and the faces differ in Usage"):
            fer2013.read_ferplus(path, splits)
    votes_file(path, small_set[2], votes + 0.5)
    with pytest.raises(InputError, match="is not FER\\+'s file of votes .*safely convert"):
        fer2013.read_ferplus(path, small_set[2])


def test_uniform_and_repeated_faces_are_counted_and_not_trained_on(small_set):
    faces, _, splits = (array.copy() for array in small_set)
    faces[3] = 17          # uniform
    faces[8] = faces[1]    # PublicTest and Training
    faces[19] = faces[20]  # PrivateTest and Training
    faces[30] = faces[31]  # both Training: both stay
    assert list(fer2013.duplicate_report(faces, splits)) == [
        "1 faces are one flat colour", "3 groups of pixel-identical faces hold 6 faces",
        "1 PrivateTest faces have an exact duplicate in Training (those are not trained on)",
        "1 PublicTest faces have an exact duplicate in Training (those are not trained on)"]
    trained_on = set(np.flatnonzero(splits == 0)) - {3, 1, 20}
    assert set(np.flatnonzero(fer2013.training_mask(faces, splits))) == trained_on


def test_missing_splits_are_stratified_and_keep_duplicates_together(small_set):
    faces, labels, splits = small_set
    assert fer2013.fill_missing_splits(faces, labels, splits).tolist() == splits.tolist()
    faces, labels = np.concatenate([faces, faces]), np.concatenate([labels, labels])
    filled = fer2013.fill_missing_splits(faces, labels, None)
    assert filled[:70].tolist() == filled[70:].tolist()
    for split, count in ((0, 8), (1, 1), (2, 1)):
        assert np.bincount(labels[:70][filled[:70] == split]).tolist() == [count] * 7
    with pytest.raises(InputError, match="are too few to draw"):
        fer2013.fill_missing_splits(faces[:70:10], labels[:70:10], None)


def test_class_counts_count_every_cell():
    table = fer2013.class_counts(np.array([0, 0, 3, 6], np.uint8), np.array([0, 2, 0, 1], np.uint8))
    assert table.loc[["angry", "disgust", "total"]].to_numpy().tolist() == [[1, 0, 1, 2], [0, 0, 0, 0], [2, 1, 1, 4]]


def test_the_arrays_come_back_and_those_of_two_runs_are_refused(small_set, tmp_path):
    votes = np.ones((70, 10), np.uint8)
    assert fer2013.save_dataset(tmp_path, *small_set, votes)[-1] == "fvotes.npy"
    for found, expected in zip(fer2013.load_dataset(tmp_path), (*small_set, votes)):
        assert np.array_equal(found, expected)
    test = small_set[2] == 2
    for found, expected in zip(fer2013.load_test_split(tmp_path), (small_set[0][test], range(7), votes[test])):
        assert np.array_equal(found, expected)
    fer2013.save_dataset(tmp_path, small_set[0][::-1], *small_set[1:])
    assert fer2013.load_dataset(tmp_path)[3] is None  # votes of an earlier run are gone
    with pytest.raises(InputError, match="fdataX.npy changed since .*modXtest.sha256"):
        fer2013.load_test_split(tmp_path)


def test_the_original_is_known_by_its_content(small_set, request):
    assert not fer2013.is_original_fer2013(*small_set)
    path = request.config.rootpath / "data" / "fer2013.csv"
    if not path.exists():
        pytest.skip("data/fer2013.csv is not there; the README says where to get it")
    faces, labels, splits = fer2013.read_csv(path)
    assert fer2013.is_original_fer2013(faces, labels, splits)
    assert not fer2013.is_original_fer2013(faces[::-1], labels, splits)
    assert np.bincount(labels).tolist() == [4953, 547, 5121, 8989, 6077, 4002, 6198]
    assert (~fer2013.training_mask(faces, splits) & (splits == 0)).sum() == 703
