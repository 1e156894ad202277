"""Saving and loading are inverse, in Keras and in OpenCV, and files of strangers are only read."""
import json
import shutil

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from expressions.console import InputError
from expressions.evaluation import predict
from expressions.model_files import load_classifier, load_model, onnx_bytes, read_model_config, save_model


@pytest.fixture(scope="module")
def own_model():
    """A network of one's own with every layer that may be saved, and random weights."""
    model = keras.Sequential([
        keras.Input((48, 48, 1)), layers.Rescaling(1 / 255), layers.BatchNormalization(),
        layers.Conv2D(6, 5, strides=2, padding="same", activation="relu"), layers.BatchNormalization(),
        layers.MaxPooling2D(3, 2, padding="same"), layers.Conv2D(8, 3, use_bias=False),
        layers.BatchNormalization(scale=False), layers.Activation("tanh"), layers.AveragePooling2D(2),
        layers.Flatten(), layers.Dense(20), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.5),
        layers.Dense(7), layers.Softmax()])
    random = np.random.default_rng(1)
    model.set_weights([random.uniform(0.3, 1.5, value.shape) if "variance" in variable.name
                       else random.normal(0, 1.5 / np.prod(value.shape[:-1]) ** 0.5, value.shape)
                       for variable, value in zip(model.weights, model.get_weights())])
    return model


@pytest.fixture
def folder(shipped, tmp_path):
    """A copy of the shipped models/ folder."""
    return shutil.copytree(shipped, tmp_path / "models", ignore=shutil.ignore_patterns("*.png", "*.md"))


def test_what_is_saved_is_loaded_again_in_keras_and_in_opencv(small_set, own_model, tmp_path, shipped):
    save_model(own_model, tmp_path, {"history.csv": lambda path: path.write_text("epoch\n1\n")})
    expected = predict(own_model, small_set[0])
    assert expected.std(axis=0).max() > 0.01  # the faces are told apart
    np.testing.assert_allclose(predict(load_model(tmp_path), small_set[0]), expected, atol=1e-6)
    np.testing.assert_allclose(load_classifier(tmp_path)(small_set[0]), expected, atol=1e-5)
    np.testing.assert_allclose(load_classifier(onnx_bytes(tmp_path))(small_set[0][:1]), expected[:1], atol=1e-5)
    assert (tmp_path / "model.sha256").read_text().count("history.csv") == 1
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))
    expected = predict(load_model(shipped), small_set[0])
    np.testing.assert_allclose(load_classifier(shipped)(small_set[0]), expected, atol=1e-5)


@pytest.mark.parametrize("layer, words", [
    (layers.UpSampling2D(), "cannot hold the layer up_sampling2d"),
    (layers.Activation("swish"), "cannot hold the layer activation"),
    (layers.ReLU(max_value=6), "cannot hold the layer re_lu"),
    (layers.BatchNormalization(beta_initializer=keras.initializers.Constant(np.nan)), "not all weights are numbers")])
def test_networks_that_have_no_place_in_onnx_or_are_not_finite_are_not_saved(layer, words, tmp_path):
    model = keras.Sequential([keras.Input((48, 48, 1)), layers.Rescaling(1 / 255), layer, layers.Flatten(),
                              layers.Dense(7, activation="softmax")])
    with pytest.raises(InputError, match=words):
        save_model(model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, words", [("model.json", "is missing"), ("model.onnx", "is not there"),
                                         ("model.sha256", "does not name it")])
def test_opencv_needs_the_layers_the_onnx_file_and_the_stamp_that_names_it(folder, name, words):
    (folder / "model.weights.h5").unlink()
    load_classifier(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} {words}.*run train_model.py, or restore the shipped models/ folder"):
        load_classifier(folder)


@pytest.mark.parametrize("load", [load_classifier, load_model])
@pytest.mark.parametrize("name", ["model.onnx", "model.json", "model.weights.h5"])
def test_files_of_two_runs_are_not_mixed(folder, name, load):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / "history.csv").write_text("looked at and saved again")
    load_classifier(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^{name} changed since .*model.sha256 was written"):
        load(folder)


def with_layer(module, name, **config):
    return lambda tree: tree["config"]["layers"].insert(1, {"module": module, "class_name": name, "config": config})


@pytest.mark.parametrize("edit, words", [
    (with_layer("keras.layers", "Lambda", function="x"), "it names keras.layers.Lambda"),
    (with_layer("keras.layers", "TorchModuleWrapper"), "it names keras.layers.TorchModuleWrapper"),
    (with_layer("os", "system"), "it names os.system"),
    (with_layer("keras.layers", "Dense", units=1, kernel_regularizer={"module": "evil", "class_name": "Evil"}),
     "it names evil.Evil"),
    (with_layer("keras.layers", "Dense", units={"class_name": "__lambda__", "config": {"value": "x"}}),
     "it names keras.layers.__lambda__"),
    (lambda tree: tree.update(class_name="Functional"), "it names keras.Functional"),
    (lambda tree: tree["config"]["layers"][0]["config"].update(batch_shape=[None, 64, 64, 3]), "from grey faces"),
    (lambda tree: tree.update(expressions=["angry", "happy"]), "of 48 x 48 pixels to angry, disgust"),
    (lambda tree: tree["config"]["layers"].pop(1), "does not scale its pixels: begin it with keras.layers.Rescaling"),
    (lambda tree: tree.pop("config"), "config"),
])
def test_a_model_that_could_run_code_or_is_another_is_refused(folder, edit, words):
    (folder / "model.sha256").unlink()
    tree = json.loads((folder / "model.json").read_text())
    edit(tree)
    (folder / "model.json").write_text(json.dumps(tree))
    with pytest.raises(InputError, match=rf"model\.json is missing, or no model to load here \(.*{words}"):
        read_model_config(folder)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_file_of_keras_loads_unless_it_could_run_code_or_is_another(own_model, small_set, tmp_path, suffix):
    path = tmp_path / f"model.{suffix}"
    own_model.compile("adam", "categorical_crossentropy")
    own_model.save(path)
    expected = predict(own_model, small_set[0])
    np.testing.assert_allclose(load_classifier(path)(small_set[0]), expected, atol=1e-5)
    np.testing.assert_allclose(predict(load_model(path), small_set[0]), expected, atol=1e-6)
    for first, words in ((layers.Lambda(lambda x: x / 255), "__lambda__"), (layers.ReLU(), "not scale")):
        keras.Sequential([keras.Input((48, 48, 1)), first, layers.Flatten(), layers.Dense(7)]).save(path)
        with pytest.raises(InputError, match=f"no model to load here .*{words}"):
            load_classifier(path)
    for content in (b"cut", path.read_bytes()[:-200]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"model.{suffix} is missing, or no model to load here"):
            load_classifier(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_a_model_of_nonsense_is_refused(tmp_path, content):
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(InputError, match="no model to load here"):
        read_model_config(tmp_path)


def test_damaged_or_foreign_weights_are_refused(folder, own_model):
    (folder / "model.sha256").unlink()
    for spoil in (own_model.save_weights, lambda path: path.write_bytes(b"cut")):
        spoil(folder / "model.weights.h5")
        with pytest.raises(InputError, match="does not load"):
            load_model(folder)
