"""preprocessing.py turns every form of FER2013 into arrays and figures, and says what it found."""
import numpy as np
import pytest
from conftest import csv_text
from fer2013_test import votes_file

import preprocessing
from expressions.console import InputError


def test_it_writes_arrays_and_figures_and_says_so(small_set, tmp_path, capsys):
    votes = np.random.default_rng(1).integers(0, 11, (70, 10), np.uint8)
    votes[np.arange(70), small_set[1]] = 20
    ferplus = votes_file(tmp_path / "fer2013new.csv", small_set[2], votes)
    (tmp_path / "fer2013.csv").write_text(csv_text(*small_set))
    preprocessing.main([str(tmp_path / "fer2013.csv"), "--data", str(tmp_path / "data"), "--ferplus", str(ferplus)])
    text = capsys.readouterr().out
    for line in ("this is not the original FER2013", "0 faces are one flat colour",
                 "FER+: on 100% of the faces most votes go to the label of FER2013",
                 "wrote fdataX.npy, flabels.npy, fusage.npy, fvotes.npy (70 faces)"):
        assert line in text
    assert np.array_equal(np.load(tmp_path / "data" / "fdataX.npy"), small_set[0])
    assert np.array_equal(np.load(tmp_path / "data" / "flabels.npy"), np.eye(7)[small_set[1]])
    for name in ("dataset_distribution.png", "samples.png"):
        assert (tmp_path / "data" / name).read_bytes().startswith(b"\x89PNG")


def test_without_usage_the_missing_splits_are_drawn_and_said(small_set, tmp_path, capsys):
    path = tmp_path / "train.csv"
    path.write_text(csv_text(*small_set, "emotion,pixels"))
    preprocessing.main([str(path), "--data", str(tmp_path)])
    assert "has no PublicTest split: a stratified tenth of the faces is drawn" in capsys.readouterr().out
    assert np.bincount(np.load(tmp_path / "fusage.npy")).tolist() == [56, 7, 7]


def test_after_a_bad_row_the_arrays_are_as_they_were(small_set, tmp_path):
    (tmp_path / "fdataX.npy").write_text("before")
    (tmp_path / "fer2013.csv").write_text(csv_text(*small_set) + "9,1 2 3,Training\n")
    with pytest.raises(InputError, match="row 71"):
        preprocessing.main([str(tmp_path / "fer2013.csv"), "--data", str(tmp_path)])
    assert (tmp_path / "fdataX.npy").read_text() == "before"


@pytest.mark.parametrize("arguments, words", [
    (["nowhere.csv"], "nowhere.csv is not there: the README says where to get it"),
    (["--sample", "faces.csv"], "--sample draws its own faces"),
])
def test_what_cannot_be_done_is_said(tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        preprocessing.main([*arguments, "--data", str(tmp_path)])


def test_votes_need_the_splits(small_set, tmp_path):
    (tmp_path / "train.csv").write_text(csv_text(*small_set, "emotion,pixels"))
    ferplus = votes_file(tmp_path / "fer2013new.csv", small_set[2], np.ones((70, 10), np.uint8))
    with pytest.raises(InputError, match="differ in Usage.*give it with the fer2013.csv of the challenge"):
        preprocessing.main([str(tmp_path / "train.csv"), "--data", str(tmp_path), "--ferplus", str(ferplus)])
