"""test_model.py counts right, and the shipped model is as good as its card says."""
import shutil

import numpy as np
import pytest
from conftest import ROOT
from sklearn.metrics import f1_score

import test_model
from expressions import fer2013
from expressions.console import InputError
from expressions.evaluation import calibration_table, predict
from expressions.model_files import load_model


def test_it_writes_and_prints_what_the_network_says_of_the_test_faces(chain):
    folder, texts = chain
    y_true, y_pred, y_prob = (np.load(folder / f"{name}.npy") for name in ("truey", "predy", "predp"))
    faces, labels, _ = fer2013.load_test_split(folder)
    np.testing.assert_allclose(y_prob, predict(load_model(folder / "models"), faces), atol=1e-6)
    assert y_true.tolist() == labels.tolist() and y_pred.tolist() == y_prob.argmax(axis=1).tolist()
    right = sum(int(one == other) for one, other in zip(y_true, y_pred))
    for line in (f"top-1 accuracy {right / 7:.2%} ± ", f"macro F1 {f1_score(y_true, y_pred, average='macro'):.4f}",
                 f"mean recall of the expressions {right / 7:.2%}",  # one face of each
                 "wrote truey.npy, predy.npy and predp.npy (7 faces), reliability.png and mistakes.png"):
        assert line in texts["test_model"]
    for name in ("reliability.png", "mistakes.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_mean_recall_counts_each_expression_alike(small_set, capsys):
    y_true, y_prob = np.array([3, 3, 3, 3, 1, 1]), np.eye(7)[[3, 3, 3, 3, 1, 3]]
    y_prob[5, 1] = 0.9  # the true one comes second
    test_model.report(small_set[0][:6], y_true, y_prob, calibration_table(y_true, y_prob))
    text = capsys.readouterr().out
    assert "mean recall of the expressions 75.00%" in text and "top-2 accuracy 100.00%" in text  # (4/4 + 1/2) / 2


def test_votes_are_counted_the_ferplus_way_too(chain, tmp_path, capsys):
    folder = shutil.copytree(chain[0], tmp_path / "data")
    y_pred = np.load(folder / "predy.npy")
    votes = np.zeros((7, 10), np.uint8)
    votes[:5, y_pred[0]] = 10  # a majority for what the network says of the first face
    votes[5, 8] = 10           # most people see nothing they know
    np.save(folder / "modvtest.npy", votes)
    test_model.main(["--data", str(folder)])
    share = (y_pred[:5] == y_pred[0]).mean()
    assert f"accuracy {share:.2%} on the 5 faces with a majority of FER+'s votes" in capsys.readouterr().out


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match="fdataX.npy is missing or damaged .*: run preprocessing.py"):
        test_model.main(["--data", str(tmp_path)])


@pytest.mark.exhaustive
def test_the_shipped_model_is_as_accurate_as_its_card_says(shipped, tmp_path, capsys):
    if not (ROOT / "data" / "fer2013.csv").exists():
        pytest.skip("data/fer2013.csv is not there; the README says where to get it")
    fer2013.save_dataset(tmp_path, *fer2013.read_csv(ROOT / "data" / "fer2013.csv"))
    test_model.main(["--data", str(tmp_path), "--models", str(shipped)])
    accuracy = capsys.readouterr().out.partition("top-1 accuracy ")[2].split(" ")[0]
    assert accuracy.replace("%", " %") in (shipped / "README.md").read_text()
