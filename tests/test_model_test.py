import json
import types

from preprocessing import PRIVATE_TEST, read_csv, save_arrays
from saved_model import save_model
from test_model import predict
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
