import json
import types

from preprocessing import PRIVATE_TEST, read_csv, save_arrays
from saved_model import save_model
from test_model import calibration_error, majority, predict, reliability
from train_model import build_network

import numpy as np
import pytest
from conftest import assert_refused, run_script
from sklearn.metrics import accuracy_score, f1_score


@pytest.fixture
def tested(small_set, tmp_path):
    """A data folder with the arrays of preprocessing.py and, in models/, an untrained network."""
    faces, labels, usage = small_set
    save_arrays({tmp_path / "fdataX.npy": faces, tmp_path / "flabels.npy": np.eye(7, dtype=np.uint8)[labels],
                 tmp_path / "fusage.npy": usage})
    network = build_network()
    save_model(network, tmp_path / "models")
    return tmp_path, network


def test_it_writes_what_the_network_says_of_the_test_faces(tested, small_set):
    data, network = tested
    process = run_script("test_model.py", "--data", data)
    assert process.returncode == 0, process.stderr
    faces, labels, usage = small_set
    expected = np.asarray(network(faces[usage == 2].astype(np.float32), training=False))
    truey, predy, predp = (np.load(data / name) for name in ("truey.npy", "predy.npy", "predp.npy"))
    np.testing.assert_array_equal(truey, labels[usage == 2])
    np.testing.assert_allclose(predp, expected, atol=1e-5)
    np.testing.assert_array_equal(predy, expected.argmax(axis=1))
    assert truey.dtype.kind == predy.dtype.kind == "i" and predp.dtype == np.float32
    assert f"top-1 accuracy {accuracy_score(truey, predy):.2%}" in process.stdout
    assert f"macro F1 {f1_score(truey, predy, average='macro', zero_division=0):.4f}" in process.stdout
    assert "surprise" in process.stdout and "support" in process.stdout


def test_predictions_stand_in_the_order_of_the_faces(small_set):
    def means(batch):
        return np.repeat(batch.mean(axis=(1, 2, 3))[:, None], 7, axis=1)
    seen = predict(types.SimpleNamespace(predict_on_batch=means), small_set[0], batch_size=16)  # the last one has 6
    assert seen.shape == (70, 7)
    np.testing.assert_allclose(seen[:, 0], [face.mean() for face in small_set[0]], rtol=1e-5)


def test_the_calibration_error_is_that_counted_by_hand():
    predp = np.full((5, 7), 0.0)
    predp[:, 0], predp[:, 1] = (0.61, 0.65, 0.9, 0.95, 1.0), (0.39, 0.35, 0.1, 0.05, 0.0)
    table = reliability(np.array([0, 1, 0, 2, 0]), predp, bins=10)
    assert table.faces.tolist() == [0, 0, 0, 0, 0, 0, 2, 0, 0, 3]
    assert table.accuracy[6] == 0.5 and table.accuracy[9] == pytest.approx(2 / 3) and np.isnan(table.accuracy[0])
    assert table.probability[6] == pytest.approx(0.63)
    assert calibration_error(table) == pytest.approx((2 * 0.13 + 3 * (0.95 - 2 / 3)) / 5)


def test_a_majority_is_more_than_half_of_the_votes_that_do_not_stand_alone():
    votes = np.zeros((6, 10), np.uint8)
    votes[0, [3, 6, 1]] = 5, 4, 1   # 5 of 9
    votes[1, [3, 6]] = 5, 5         # a tie
    votes[2, [2, 4, 5]] = 4, 3, 3   # no majority
    votes[3, [7, 0, 1, 2]] = 4, 1, 1, 1   # contempt
    votes[4, 9] = 10                # not a face
    votes[5, :] = 1                 # everybody sees something else
    assert majority(votes).tolist() == [3, -1, -1, 7, 9, -1]


def test_faces_with_votes_are_tested_the_ferplus_way_too(tested, small_set):
    data, network = tested
    faces, labels, usage = small_set
    predy = predict(network, faces[usage == 2]).argmax(axis=1)
    votes = np.zeros((70, 10), np.uint8)
    test = np.flatnonzero(usage == 2)
    votes[test[:2], predy[:2]] = 9               # two are right,
    votes[test[2], (predy[2] + 1) % 7] = 9       # one is wrong,
    votes[test[3], 7] = 9                        # contempt is wrong,
    votes[test[4], 8] = votes[test[5], 9] = 9    # unknown, and not a face, do not count,
    votes[test[6], :2] = 5                       # nor does a tie
    save_arrays({data / "fdataX.npy": faces, data / "flabels.npy": np.eye(7, dtype=np.uint8)[labels],
                 data / "fusage.npy": usage, data / "fvotes.npy": votes})
    process = run_script("test_model.py", "--data", data)
    assert process.returncode == 0, process.stderr
    assert "of 4 faces with a majority of FER+'s votes" in process.stdout and "50.00% are recognised" in process.stdout
    np.testing.assert_array_equal(np.load(data / "modvtest.npy"), votes[test])
    assert (data / "reliability.png").stat().st_size > 10_000


def test_what_is_missing_or_wrong_is_said(tested, tmp_path_factory):
    data, _ = tested
    nothing = tmp_path_factory.mktemp("nothing")
    assert_refused(run_script("test_model.py", "--data", nothing), nothing / "modXtest.npy", "run train_model.py")
    assert_refused(run_script("test_model.py", "--data", data, "--models", nothing), nothing / "model.json")
    np.save(data / "modXtest.npy", np.zeros((3, 48, 48), np.uint8))
    assert_refused(run_script("test_model.py", "--data", data), "modXtest.npy", "changed since", "run train_model.py")
    (data / "modXtest.sha256").unlink()
    assert_refused(run_script("test_model.py", "--data", data), "modXtest.npy", "(3, 48, 48)")
    assert not (data / "truey.npy").exists()


def test_the_shipped_model_beats_the_original_on_faces_it_never_saw(genuine_csv, shipped, tmp_path):
    faces, labels, usage = read_csv(genuine_csv)
    save_arrays({tmp_path / "modXtest.npy": faces[usage == PRIVATE_TEST],
                 tmp_path / "modytest.npy": np.eye(7, dtype=np.uint8)[labels[usage == PRIVATE_TEST]]})
    process = run_script("test_model.py", "--data", tmp_path, "--models", shipped)
    assert process.returncode == 0, process.stderr
    accuracy = (np.load(tmp_path / "predp.npy").argmax(axis=1) == labels[usage == PRIVATE_TEST]).mean()
    assert accuracy > 0.6637  # what the original claims
    assert f"top-1 accuracy {accuracy:.2%}" in process.stdout


def test_the_shipped_model_is_plain_data(shipped):
    layers = json.loads((shipped / "model.json").read_text())["config"]["layers"]
    assert {layer["module"] for layer in layers} <= {"keras.layers"}
    assert "Lambda" not in {layer["class_name"] for layer in layers}
