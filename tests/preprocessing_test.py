import gzip
import io
import lzma
import tarfile
import zipfile

import preprocessing
from preprocessing import (
    EXPRESSIONS,
    InputError,
    describe,
    distribution,
    draw_face,
    flat,
    identities,
    is_genuine,
    parse_pixels,
    read_csv,
    read_folder,
    split_official,
    split_random,
    written_whole,
)

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import assert_refused, csv_text, run_script
from sklearn.model_selection import train_test_split


def as_text(values):
    return " ".join(map(str, values)).encode()


def test_parse_pixels_reads_every_value_in_every_neighbourhood():
    every = np.arange(2304) % 256
    assert parse_pixels(as_text(every)).tolist() == every.tolist()
    random = np.random.default_rng(0)
    for highest in (2, 10, 11, 100, 101, 256):
        values = random.integers(0, highest, 2304)
        assert parse_pixels(as_text(values)).tolist() == values.tolist()
    assert parse_pixels(as_text([0] * 2304)).dtype == np.uint8


@pytest.mark.parametrize("text, complaint", [
    (as_text([1] * 2303), "2,303 pixels instead of 2,304"),
    (as_text([1] * 2305), "2,305 pixels"),
    (b"", "0 pixels"),
    (as_text([1] * 2303 + [256]), "above 255"),
    (as_text([1] * 2303 + [1255]), "above 255"),
    (as_text([65792] + [1] * 2303), "above 255"),
    (as_text([1] * 2303 + [-1]), "'-'"),
    (as_text([1] * 2303 + ["1.0"]), "'.'"),
    (as_text(["x"] + [1] * 2303), "'x'"),
])
def test_parse_pixels_says_what_is_wrong(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_pixels(text)


def packed(form, text, tmp_path):
    """The CSV text in one of the forms FER2013 is found in, under a name that says nothing."""
    path = tmp_path / "download"
    data = text.encode()
    if form == "gz":
        path.write_bytes(gzip.compress(data))
    elif form == "xz":
        path.write_bytes(lzma.compress(data))
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("folder/example_submission.csv", "id,emotion\n1,2\n")
            archive.writestr("folder/train.csv", "emotion,pixels\n0,1 2 3\n")
            archive.writestr("folder/fer2013.csv", text)
    elif form == "tar.gz":
        with tarfile.open(path, "w:gz") as archive:
            for name, content in (("fer2013/README", b"FER2013"), ("fer2013/fer2013.csv", data)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    elif form == "windows":
        path.write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    elif form == "quoted":
        pd.read_csv(io.StringIO(text)).to_csv(path, index=False, quoting=1)
    else:
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", ["plain", "gz", "xz", "zip", "tar.gz", "windows", "quoted"])
@pytest.mark.parametrize("header", ["emotion,pixels,Usage", "emotion, Usage, pixels"])
def test_every_form_of_the_csv_gives_the_same_faces(small_set, tmp_path, form, header):
    faces, labels, usage = read_csv(packed(form, csv_text(*small_set, header=header), tmp_path))
    assert faces.dtype == labels.dtype == usage.dtype == np.uint8
    np.testing.assert_array_equal(faces, small_set[0])
    np.testing.assert_array_equal(labels, small_set[1])
    np.testing.assert_array_equal(usage, small_set[2])


@pytest.mark.parametrize("numbered", [True, False])
def test_folders_give_the_same_faces(small_set, tmp_path, numbered):
    for number, (face, label, split) in enumerate(zip(*small_set)):
        folder = tmp_path / ("train", "validation", "test")[split] / (str(label) if numbered else EXPRESSIONS[label])
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), face)
    faces, labels, usage = read_folder(tmp_path)
    known = {face.tobytes(): (label, split) for face, label, split in zip(*small_set)}
    assert {face.tobytes(): (label, split) for face, label, split in zip(faces, labels, usage)} == known
    assert len(faces) == 70


def test_a_folder_without_validation_gets_one_from_training(small_set, tmp_path):
    for number, (face, label) in enumerate(zip(*small_set[:2])):
        folder = tmp_path / ("test" if number % 10 == 9 else "train") / EXPRESSIONS[label]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), face)
    process = run_script("preprocessing.py", tmp_path, "--data", tmp_path / "out")
    assert process.returncode == 0, process.stderr
    assert "no PublicTest part" in process.stdout
    labels, usage = (np.load(tmp_path / "out" / name) for name in ("flabels.npy", "fusage.npy"))
    assert np.bincount(usage).tolist() == [56, 7, 7]
    assert labels[usage == 1].sum(axis=0).tolist() == [1] * 7


def test_without_usage_the_split_is_stratified_and_keeps_twins_together(small_set):
    faces, labels = (np.concatenate([array] * 3) for array in small_set[:2])  # each face three times
    usage = split_official(faces, labels, None)
    assert np.bincount(usage).tolist() == [168, 21, 21]
    for part in (1, 2):
        assert np.bincount(labels[usage == part], minlength=7).tolist() == [3] * 7
    assert not set(map(bytes, faces[usage == 2])) & set(map(bytes, faces[usage != 2]))
    assert not set(map(bytes, faces[usage == 1])) & set(map(bytes, faces[usage != 1]))
    np.testing.assert_array_equal(split_official(faces, labels, None), usage)


def test_the_official_split_is_left_as_it_is(small_set):
    np.testing.assert_array_equal(split_official(*small_set), small_set[2])


def test_the_random_split_is_the_originals(small_set):
    faces, labels, _ = small_set
    usage = split_random(len(faces))
    rest, test, rest_labels, _ = train_test_split(faces, labels, test_size=0.1, random_state=42)
    training, validation, _, _ = train_test_split(rest, rest_labels, test_size=0.1, random_state=41)
    for part, expected in enumerate((training, validation, test)):
        assert set(map(bytes, faces[usage == part])) == set(map(bytes, expected))


def test_flat_and_repeated_faces_are_counted(small_set):
    faces, _, usage = (array.copy() for array in small_set)
    faces[3] = 17
    faces[10] = faces[0]   # both Training
    faces[18] = faces[0]   # PublicTest
    faces[29] = faces[20]  # PrivateTest
    assert np.flatnonzero(flat(faces)).tolist() == [3]
    assert identities(faces)[[0, 10, 18]].tolist() == [0, 0, 0]
    assert [sentence.split(" ")[0] for sentence in describe(faces, usage)] == ["1", "2", "1", "1"]
    assert "hold 5 faces" in list(describe(faces, usage))[1]


def test_the_distribution_counts_every_cell():
    table = distribution(np.array([0, 0, 3, 6, 6, 6]), np.array([0, 1, 0, 2, 2, 0]))
    assert table.loc["angry"].tolist() == [1, 1, 0, 2]
    assert table.loc["happy"].tolist() == [1, 0, 0, 1]
    assert table.loc["disgust"].tolist() == [0, 0, 0, 0]
    assert table.loc["neutral"].tolist() == [1, 0, 2, 3]
    assert table.loc["total"].tolist() == [3, 1, 2, 6]


def test_the_script_writes_the_arrays_and_the_pictures(small_set, small_csv, tmp_path):
    process = run_script("preprocessing.py", small_csv, "--data", tmp_path / "out")
    assert process.returncode == 0, process.stderr
    assert "not the genuine FER2013" in process.stdout
    np.testing.assert_array_equal(np.load(tmp_path / "out/fdataX.npy"), small_set[0])
    flabels = np.load(tmp_path / "out/flabels.npy")
    assert flabels.dtype == np.uint8 and flabels.shape == (70, 7) and (flabels.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(flabels.argmax(axis=1), small_set[1])
    np.testing.assert_array_equal(np.load(tmp_path / "out/fusage.npy"), small_set[2])
    for name in ("dataset_distribution.png", "samples.png"):
        picture = cv2.imread(str(tmp_path / "out" / name))
        assert picture.shape[1] > 900 and picture.std() > 10
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dataset_distribution.png", "fdataX.npy", "fdataX.sha256", "flabels.npy", "fusage.npy", "samples.png"]


PIXELS = " ".join(["7"] * 2304)


@pytest.mark.parametrize("rows, words", [
    ([f"0,{PIXELS} 7,Training"], ["row 1", "2,305 pixels"]),
    ([f"0,{PIXELS},Training", f"6,{PIXELS[:-2]},Training"], ["row 2", "line 3", "2,303 pixels"]),
    ([f"0,{PIXELS[:-1]}256,Training"], ["row 1", "above 255"]),
    ([f"7,{PIXELS},Training"], ["row 1", "label '7'"]),
    ([f"0,{PIXELS},Trainig"], ["row 1", "Usage 'Trainig'"]),
    ([f"0,{PIXELS}"], ["row 1", "2 fields instead of 3"]),
    ([f"0,{PIXELS},Training", f"0,{PIXELS[:1000]}"], ["row 2", "fields"]),
    ([], ["no rows"]),
])
def test_a_bad_row_is_named_and_nothing_is_touched(small_csv, tmp_path, rows, words):
    out = tmp_path / "out"
    assert run_script("preprocessing.py", small_csv, "--data", out).returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    bad = tmp_path / "bad.csv"
    bad.write_text("\n".join(["emotion,pixels,Usage", *rows]))
    assert_refused(run_script("preprocessing.py", bad, "--data", out), bad, *words)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("content, words", [
    (b"", ["empty"]),
    (b"emotion,Usage\n0,Training\n", ["no column 'pixels'"]),
    (b"pixels\n1 2 3\n", ["no column 'emotion'", "test.csv"]),
    (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), ["no column"]),
    (gzip.compress(b"emotion,pixels,Usage\n" * 5000)[:60], ["damaged or cut short"]),
    (b"PK\x03\x04" + bytes(200), ["damaged or cut short"]),
    (b"\xfd7zXZ\x00" + bytes(200), ["damaged or cut short"]),
])
def test_a_file_of_something_else_is_refused(tmp_path, content, words):
    path = tmp_path / "fer2013.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_csv(path)
    for word in [str(path), *words]:
        assert word in str(refusal.value)


def test_an_archive_without_faces_is_refused(tmp_path):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "x,y\n1,2\n")
    with pytest.raises(InputError, match="no CSV with the columns emotion and pixels"):
        read_csv(path)


def test_a_missing_file_and_too_few_faces_are_refused(tmp_path):
    assert_refused(run_script("preprocessing.py", tmp_path / "none.csv"), tmp_path / "none.csv", "is not there")
    few = tmp_path / "few.csv"
    few.write_text(f"emotion,pixels\n0,{PIXELS}\n1,{PIXELS}\n")
    assert_refused(run_script("preprocessing.py", few, "--data", tmp_path), "2 faces are too few")


def test_files_that_belong_together_are_replaced_together(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("old")
    with pytest.raises(RuntimeError), written_whole(one, two) as (beside, _):
        beside.write_text("new")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["one"] and one.read_text() == "old"
    with written_whole(one, two) as (first, second):
        first.write_text("new")
        second.write_text("new too")
        assert one.read_text() == "old"
    assert one.read_text() == "new" and two.read_text() == "new too"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_sample_is_drawn_the_same_each_time_and_its_expressions_differ():
    again = [draw_face("happy", np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    means = [np.mean([draw_face(expression, np.random.default_rng(seed)) for seed in range(20)], axis=0)
             for expression in EXPRESSIONS]
    for first in range(7):
        for second in range(first):
            assert np.abs(means[first] - means[second]).max() > 25, (EXPRESSIONS[first], EXPRESSIONS[second])


def test_the_sample_has_the_csvs_layout(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocessing, "SAMPLE_FACES", 10)
    preprocessing.main(["--sample", "--data", str(tmp_path)])
    table = pd.read_csv(tmp_path / "sample.csv")
    assert list(table.columns) == ["emotion", "pixels", "Usage"]
    assert table.emotion.value_counts().to_dict() == dict.fromkeys(range(7), 10)
    assert table.Usage.value_counts().to_dict() == {"Training": 56, "PublicTest": 7, "PrivateTest": 7}
    first = np.array(table.pixels[0].split(), int)
    np.testing.assert_array_equal(np.load(tmp_path / "fdataX.npy")[0].ravel(), first)


def test_the_genuine_file_is_known_by_its_content(genuine_csv):
    faces, labels, usage = read_csv(genuine_csv)
    assert is_genuine(faces, labels, usage)
    assert np.bincount(usage).tolist() == [28709, 3589, 3589]
    assert np.bincount(labels).tolist() == [4953, 547, 5121, 8989, 6077, 4002, 6198]
    assert [int(word.replace(",", "")) for word in " ".join(describe(faces, usage)).split()
            if word[0].isdigit()] == [12, 1516, 3369, 288, 280]
    changed = faces.copy()
    changed[35886, 47, 47] ^= 1
    assert not is_genuine(changed, labels, usage)
    assert not is_genuine(faces, labels, usage[::-1])


def votes_text(usage, votes):
    """FER+'s layout, by plain Python; its columns are not in the order of FER2013's labels."""
    names = ("Training", "PublicTest", "PrivateTest")
    rows = ["Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"]
    for number, (split, row) in enumerate(zip(usage, votes)):
        angry, disgust, fear, happy, sad, surprise, neutral, *others = row
        cells = (neutral, happy, surprise, sad, angry, disgust, fear, *others)
        rows.append(",".join(map(str, (names[split], f"fer{number:07}.png", *cells))))
    return "\n".join(rows) + "\n"


def test_votes_stand_in_the_order_of_the_expressions(small_set, small_csv, tmp_path):
    usage, random = small_set[2], np.random.default_rng(0)
    votes = random.multinomial(10, [0.1] * 10, 70)
    packed = tmp_path / "fer2013new.csv.xz"
    packed.write_bytes(lzma.compress(votes_text(usage, votes).encode()))
    process = run_script("preprocessing.py", small_csv, "--data", tmp_path / "out", "--ferplus", packed)
    assert process.returncode == 0, process.stderr
    written = np.load(tmp_path / "out" / "fvotes.npy")
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, votes)
    agree = (votes[:, :7].argmax(axis=1) == small_set[1]).mean()
    assert f"on {agree:.0%} of the faces most votes go to the label" in process.stdout
    assert "fvotes.npy" in (tmp_path / "out" / "fdataX.sha256").read_text()
    process = run_script("preprocessing.py", small_csv, "--data", tmp_path / "out")  # now without: the old votes are
    assert process.returncode == 0 and "fvotes.npy" not in (tmp_path / "out" / "fdataX.sha256").read_text()  # not used
    assert_refused(run_script("train_model.py", "--data", tmp_path / "out", "--labels", "both"), "run preprocessing.py "
                   "with --ferplus")


def test_votes_that_do_not_belong_to_the_faces_are_refused(small_set, small_csv, tmp_path):
    usage, votes = small_set[2], np.full((70, 10), 1)
    text, path = votes_text(usage, votes), tmp_path / "fer2013new.csv"
    lines = text.splitlines(keepends=True)
    for damaged, words in ((text[:len(text) // 2], "its 35 rows are not those of the 70 faces"),
                           ("".join([lines[0], *lines[:0:-1]]), "its 70 rows are not those"),
                           (text.replace("contempt", "pride"), "no column 'contempt'"),
                           (text.replace(",1\n", ",-1\n", 1), "whole numbers from 0 to 255"),
                           (text.replace(",1\n", ",1.5\n", 1), "whole numbers from 0 to 255"),
                           (text.replace(",1\n", ",some\n", 1), "could not convert"),
                           ("", "No columns")):
        path.write_text(damaged)
        assert_refused(run_script("preprocessing.py", small_csv, "--data", tmp_path / "out", "--ferplus", path), path,
                       words, "fer2013new.csv again")
        assert not (tmp_path / "out").exists()
    path.write_bytes(lzma.compress(b"x" * (80 << 20)))
    assert_refused(run_script("preprocessing.py", small_csv, "--data", tmp_path / "out", "--ferplus", path), "64 MB")
    without_usage = tmp_path / "train.csv"
    without_usage.write_text(csv_text(*small_set, header="emotion,pixels"))
    path.write_text(text)
    assert_refused(run_script("preprocessing.py", without_usage, "--data", tmp_path / "out", "--ferplus", path),
                   "has no Usage")
    assert_refused(run_script("preprocessing.py", small_csv, "--ferplus", tmp_path / "nowhere.csv"), "nowhere.csv")
