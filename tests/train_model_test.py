import os
import signal
import subprocess
import sys
import time

import train_model
from preprocessing import DATA, InputError, save_arrays
from recognise_image import load_recogniser
from saved_model import MODELS, load_model, models_folder, save_model
from test_model import calibration_error, predict, reliability
from train_model import (
    augment,
    build_network,
    calibrate,
    course,
    fused_normalization,
    learning_rate,
    read_checkpoint,
    resize,
    save_checkpoint,
    taught,
    tie_mirror_images,
    train,
    trainable_rows,
    training_batches,
    training_targets,
    weights_stamp,
)

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, assert_refused, run_script
from scipy.special import softmax


def write_data(folder, faces, labels, usage):
    """A data folder as preprocessing.py leaves it."""
    save_arrays({folder / "fdataX.npy": faces, folder / "flabels.npy": np.eye(7, dtype=np.uint8)[labels],
                 folder / "fusage.npy": usage})
    return folder


@pytest.fixture(scope="module")
def small_data(small_set, tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), *small_set)


WAYS = pytest.mark.parametrize("way, pooling", [(train_model.THOROUGH, "Max"), (train_model.QUICK, "Average")])


@WAYS
def test_the_network_is_a_plain_stack_that_gives_probabilities(small_set, way, pooling):
    network = build_network(way=way)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert set(kinds) == {"Rescaling", "Conv2D", "BatchNormalization", "ReLU", "MaxPooling2D",
                          f"Global{pooling}Pooling2D", "Dropout", "Dense"}
    probabilities = predict(network, small_set[0])
    assert probabilities.shape == (70, 7) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    scaled = network.layers[0](np.array([[[[0]], [[127.5]], [[255]]]], np.float32))
    np.testing.assert_allclose(np.ravel(scaled), [-1, 0, 1], atol=1e-6)


def test_the_same_weights_serve_faces_of_any_size(small_set):
    any_size, fixed = build_network(size=None), build_network()
    fixed.set_weights(any_size.get_weights())
    np.testing.assert_allclose(predict(any_size, small_set[0][:5]), predict(fixed, small_set[0][:5]), atol=1e-6)
    assert predict(any_size, resize(small_set[0][:5], 32)).shape == (5, 7)


@WAYS
def test_load_is_the_inverse_of_save_in_keras_and_in_opencv(small_set, tmp_path, way, pooling):
    network = build_network(way=way)
    random = np.random.default_rng(0)
    network.set_weights([random.uniform(0.5, 1.5, weight.shape) if variable.name in ("gamma", "moving_variance")
                         else weight + random.normal(0, 0.02, weight.shape)
                         for weight, variable in zip(network.get_weights(), network.weights)])
    save_model(network, tmp_path)
    expected = np.asarray(network(small_set[0].astype(np.float32), training=False))
    assert expected.std(axis=0).max() > 1e-4  # the faces are told apart
    np.testing.assert_allclose(predict(load_model(tmp_path), small_set[0]), expected, atol=1e-5)
    np.testing.assert_allclose(load_recogniser(tmp_path)(small_set[0]), expected, atol=1e-4)


def test_flat_faces_and_twins_of_other_splits_are_left_out(small_set):
    faces, _, usage = (array.copy() for array in small_set)
    faces[3] = 17
    faces[8] = faces[1]    # PublicTest
    faces[19] = faces[20]  # PrivateTest
    faces[30] = faces[31]  # both Training: both stay
    expected = set(np.flatnonzero(usage == 0)) - {3, 1, 20}
    assert set(np.flatnonzero(trainable_rows(faces, usage))) == expected


def test_augmentation_lights_whole_faces(monkeypatch):
    monkeypatch.setattr(train_model, "AUGMENTATION", {"rotation": 15, "scale": 0.1, "shift": 0.1, "light": 0.4})
    lit = augment(np.full((500, 48, 48, 1), 200, np.uint8), 40, np.random.default_rng(0))
    assert lit.shape == (500, 40, 40, 1) and lit.dtype == np.uint8
    assert (lit == lit[:, :1, :1]).all()
    assert 120 <= lit.min() < 122 and lit.max() == 255  # 280 would have begun anew at 24
    assert 0.11 < (lit[:, 0, 0, 0] == 255).mean() < 0.2  # from 255 / 200 to 1.4 of 0.6 to 1.4: 16 %


def test_augmentation_moves_faces_only_as_far_as_it_says(small_set, monkeypatch):
    random = np.random.default_rng(0)
    monkeypatch.setitem(train_model.AUGMENTATION, "light", 0)
    flat = np.full((4, 48, 48, 1), 77, np.uint8)
    assert (augment(flat, 40, random) == 77).all() and augment(flat, 40, random).shape == (4, 40, 40, 1)

    dots = np.zeros((200, 48, 48, 1), np.uint8)
    dots[:, 22:26, 22:26] = 255
    moved = augment(dots, 48, random)[..., 0].astype(float)
    rows, columns = np.mgrid[:48, :48]
    weight = moved.sum(axis=(1, 2))
    x, y = (moved * columns).sum(axis=(1, 2)) / weight - 23.5, (moved * rows).sum(axis=(1, 2)) / weight - 23.5
    furthest = train_model.AUGMENTATION["shift"] * 48
    for shift in (x, y):
        assert furthest * 0.9 < np.abs(shift).max() < furthest + 0.1

    monkeypatch.setattr(train_model, "AUGMENTATION", {"rotation": 0, "scale": 0, "shift": 0, "light": 0})
    same = augment(small_set[0], 48, random)
    mirrored = (same == small_set[0][:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (same == small_set[0]).all(axis=(1, 2, 3))).all() and 20 < mirrored.sum() < 50


def test_augmentation_may_be_gentler(monkeypatch):
    monkeypatch.setattr(train_model, "AUGMENTATION", {"rotation": 0, "scale": 0, "shift": 0, "light": 0.4})
    half = augment(np.full((500, 48, 48, 1), 100, np.uint8), 48, np.random.default_rng(0), 0.5)
    assert 80 <= half.min() < 81 and 119 < half.max() <= 120
    strengths = []
    monkeypatch.setattr(train_model, "augment", lambda faces, *given: strengths.extend(given[2:]) or faces)
    training_batches(np.zeros((4, 48, 48, 1)), np.eye(7), 48, 2, [0, 0], 0.7)[1]
    assert strengths == [0.7]


def test_augmentation_turns_and_mirrors_without_skewing(monkeypatch):
    beside, below = np.zeros((2, 200, 48, 48, 1), np.uint8)
    beside[:, 22:26, 34:38] = below[:, 34:38, 22:26] = 255  # a dot 12 pixels from the centre

    def moved():
        """Where the dots have gone, x and y from the centre: both in the same way."""
        grid = np.mgrid[:48, :48][::-1].reshape(2, -1).T - 23.5
        for dots in (beside, below):
            weights = augment(dots, 48, np.random.default_rng(0)).reshape(200, -1).astype(float)
            yield weights @ grid / weights.sum(axis=1, keepdims=True)

    monkeypatch.setattr(train_model, "AUGMENTATION", {"rotation": 12, "scale": 0, "shift": 0, "light": 0})
    one, other = moved()
    np.testing.assert_allclose(np.hypot(*one.T), 12, atol=0.15)
    np.testing.assert_allclose(np.hypot(*other.T), 12, atol=0.15)
    np.testing.assert_allclose((one * other).sum(axis=1), 0, atol=4)  # still a right angle, within 2 degrees
    turns = np.degrees(np.arctan2(*other.T))  # the chin stays below
    assert 11 < turns.max() < 12.5 and -12.5 < turns.min() < -11
    assert 70 < (one[:, 0] < 0).sum() < 130  # every other one is mirrored

    monkeypatch.setattr(train_model, "AUGMENTATION", {"rotation": 0, "scale": 0.12, "shift": 0, "light": 0})
    for dots in moved():
        lengths = np.hypot(*dots.T) / 12
        assert 0.87 < lengths.min() < 0.89 and 1.11 < lengths.max() < 1.13


def test_an_epoch_gives_each_face_once_with_its_label(small_set, monkeypatch):
    monkeypatch.setattr(train_model, "AUGMENTATION", {"rotation": 0, "scale": 0, "shift": 0, "light": 0})
    faces, labels = small_set[0], np.eye(7, dtype=np.uint8)[small_set[1]]
    number_of = {picture.tobytes(): number for number, face in enumerate(faces) for picture in (face, face[:, ::-1])}
    orders = []
    for epoch in range(2):
        batches = training_batches(faces, labels, 48, 16, [5, epoch])
        assert len(batches) == 4
        order = []
        for number in range(4):
            pictures, targets = batches[number]
            rows = [number_of[picture.astype(np.uint8).tobytes()] for picture in pictures]
            np.testing.assert_array_equal(targets, labels[rows])
            order += rows
        assert len(order) == len(set(order)) == 64
        orders.append(order)
    assert orders[0] != orders[1] and sorted(orders[0]) != orders[0]


def test_the_losses_are_those_counted_by_hand(small_set, tmp_path, monkeypatch):
    monkeypatch.setitem(train_model.THOROUGH, "sizes", ((1, 16),))
    monkeypatch.setitem(train_model.THOROUGH, "peak", 0.3)  # so that it soon is sure of something
    monkeypatch.setattr(train_model, "processor_has_bfloat16", lambda: False)
    faces, labels = small_set[0], np.arange(70) % 2
    one_hot = np.eye(7, dtype=np.uint8)
    network, [epoch] = train((faces[:56], one_hot[[3] * 56]), (faces[56:], one_hot[3 * labels[56:]]),
                             {"epochs": 1, "batch_size": 14, "seed": 0}, tmp_path / "checkpoint.weights.h5")
    for_small_faces = build_network(size=None)
    for_small_faces.set_weights(network.get_weights())
    shares = predict(for_small_faces, resize(faces[56:], 16)).astype(float)
    assert epoch["val_loss"] == pytest.approx(-np.log(shares[range(14), 3 * labels[56:]]).mean(), rel=1e-3)
    assert epoch["val_accuracy"] == pytest.approx((shares.argmax(axis=1) == 3 * labels[56:]).mean())


def test_labels_are_smoothed_or_softened_by_the_votes():
    random = np.random.default_rng(0)
    votes = random.multinomial(10, [0.1] * 10, 400).astype(np.uint8)
    votes[:3] = [[4, 0, 1, 1, 0, 1, 2, 0, 1, 0], [2, 0, 0, 0, 0, 0, 2, 2, 4, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
    labels = np.concatenate([votes[:200, :7].argmax(axis=1), random.integers(0, 7, 200)])
    one_hot, rows = np.eye(7, dtype=np.uint8)[labels], np.arange(400) < 300

    smoothed, known = training_targets("fer2013", one_hot, None, rows)
    expected = np.full(7, 0.1 / 7)  # Szegedy et al. 2016, section 7
    expected[labels[5]] += 0.9
    np.testing.assert_allclose(smoothed[5], expected, rtol=1e-6)
    assert known.all() and smoothed.dtype == np.float32

    shares, known = training_targets("ferplus", one_hot, votes, rows)
    np.testing.assert_allclose(shares[0], [4 / 6, 0, 0, 0, 0, 0, 2 / 6], rtol=1e-6)  # single votes do not count
    assert known[:3].tolist() == [True, False, False]

    both, known = training_targets("both", one_hot, votes, rows)
    opinion = 2 * both - one_hot
    assert known.all() and opinion.min() > -1e-6
    np.testing.assert_allclose(opinion.sum(axis=1), 1, rtol=1e-5)
    # On the faces it learned from, a logistic regression gives each label as often as it is there.
    np.testing.assert_allclose(opinion[rows].mean(axis=0), one_hot[rows].mean(axis=0), atol=2e-3)
    assert (opinion[:200].argmax(axis=1) == labels[:200]).mean() > 0.6  # by chance 0.14; half of the votes are ties
    relabelled = one_hot.copy()
    relabelled[300:] = np.eye(7, dtype=np.uint8)[(labels[300:] + 1) % 7]
    unseen = 2 * training_targets("both", relabelled, votes, rows)[0] - relabelled
    np.testing.assert_allclose(unseen, opinion, atol=1e-5)  # labels that are not to be learned from teach nothing
    with pytest.raises(InputError, match="no face to train on"):
        training_targets("both", one_hot, votes, rows & (labels != 3))


def test_the_fused_normalisation_does_what_keras_does(small_set):
    import keras
    import tensorflow as tf

    inputs = tf.constant(np.random.default_rng(0).normal(3, 2, (32, 6, 6, 5)), tf.float32)
    seen = []
    for kind in (fused_normalization(), keras.layers.BatchNormalization):
        layer = kind(momentum=0.9)
        layer.build(inputs.shape)
        layer.gamma.assign([1, 2, 3, 4, 5])
        layer.beta.assign([5, 4, 3, 2, 1])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(outputs ** 3)
        seen.append([outputs, *layer.get_weights(), *tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value]),
                     layer(inputs, training=False)])
    assert fused_normalization() is not keras.layers.BatchNormalization
    for ours, theirs in zip(*seen):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)  # it divides the variance by n - 1


def test_calibration_finds_the_temperature_and_keeps_it_in_the_weights():
    import keras

    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (4000, 48, 48, 1), np.uint8)
    network = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.Rescaling(1 / 20), keras.layers.Flatten(),
                                keras.layers.Dense(7, activation="softmax")])
    network.set_weights([random.normal(0, 0.02, (2304, 7)), random.normal(0, 0.5, 7)])
    before = predict(network, faces)
    logits = np.log(before.astype(float))
    # Labels drawn from what the network says at three times its temperature: it is three times too sure.
    labels = (np.cumsum(softmax(logits / 3, axis=1), axis=1) > random.random((4000, 1))).argmax(axis=1)
    temperature = calibrate(network, faces, np.eye(7, dtype=np.uint8)[labels])
    assert temperature == pytest.approx(3, rel=0.06)
    np.testing.assert_allclose(predict(network, faces), softmax(logits / temperature, axis=1), atol=1e-4)
    assert calibration_error(reliability(labels, before)) > 0.1
    assert calibration_error(reliability(labels, predict(network, faces))) < 0.03


TWO_DEVICES = """
import os, sys
import keras
if keras.backend.backend() == "tensorflow":
    import tensorflow
    cpu = tensorflow.config.list_physical_devices("CPU")[0]
    tensorflow.config.set_logical_device_configuration(cpu, [tensorflow.config.LogicalDeviceConfiguration()] * 2)
    tensorflow.config.threading.set_inter_op_parallelism_threads(8)  # both wait for each other in threads of these
sys.path.insert(0, os.getcwd())
import train_model
build = train_model.build_network
def build_and_tell(*given, **named):
    if keras.backend.backend() == "tensorflow":
        devices = tensorflow.distribute.get_strategy().num_replicas_in_sync
    else:
        devices = keras.distribution.distribution().device_mesh.devices.size if keras.distribution.distribution() else 1
    print("built for", devices)
    return build(*given, **named)
train_model.build_network = build_and_tell
train_model.main(sys.argv[1:])
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_several_devices_share_the_training(small_data, tmp_path, backend):
    if backend == "jax":
        pytest.importorskip("jax")
    process = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, "--data", str(small_data), "--models", str(tmp_path), "--epochs", "1",
         "--batch-size", "14"], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
    assert process.returncode == 0, process.stderr
    assert "built for 2\n" in process.stdout
    history = pd.read_csv(tmp_path / "history.csv")
    assert np.isfinite(history).all(axis=None) and load_model(tmp_path).count_params() == build_network().count_params()


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_what_another_backend_trained_is_the_same_under_tensorflow(small_set, tmp_path, backend):
    pytest.importorskip(backend)
    faces, labels, usage = small_set
    faces = faces // 4 + 24 * labels[:, None, None, None]  # each expression of another brightness: something to learn
    data = write_data(tmp_path, faces, labels, usage)
    arguments = "--data", data, "--models", tmp_path
    process = run_script("train_model.py", *arguments, "--epochs", 3, "--batch-size", 14,
                         env={"KERAS_BACKEND": backend})
    assert process.returncode == 0, process.stderr
    process = run_script("test_model.py", *arguments, env={"KERAS_BACKEND": backend})
    assert process.returncode == 0, process.stderr
    theirs, faces = np.log(np.load(data / "predp.npy")), np.load(data / "modXtest.npy")
    assert theirs.std(axis=0).min() > 5e-4  # noise is hard to tell apart, and calibration makes that known
    np.testing.assert_allclose(np.log(predict(load_model(tmp_path), faces)), theirs, atol=2e-5)
    assert not (tmp_path / "model.tflite").exists()
    process = run_script("train_model.py", "--models", tmp_path, "--export")
    assert process.returncode == 0, process.stderr
    np.testing.assert_allclose(np.log(load_recogniser(tmp_path)(faces)), theirs, atol=2e-5)


def test_a_resumed_run_ends_like_an_uninterrupted_one(small_set, tmp_path, monkeypatch):
    """In this process, with small faces; the killed run below does it for real."""
    monkeypatch.setitem(train_model.THOROUGH, "sizes", ((1, 16),))
    monkeypatch.setitem(train_model.THOROUGH, "refining", 1 / 3)
    schedule, steps = train_model.learning_rate, []
    monkeypatch.setattr(train_model, "learning_rate", lambda *asked: steps.append(asked) or schedule(*asked))
    faces, labels = small_set[0], np.eye(7, dtype=np.uint8)[small_set[1]]
    parts = (faces[:56], labels[:56]), (faces[56:], labels[56:])
    settings = {"epochs": 3, "batch_size": 14, "seed": 3}
    whole, history = train(*parts, settings, tmp_path / "whole.weights.h5")
    assert steps == [(8, 14, 0.1, 4)]  # of two epochs, and of the one that refines

    save, checkpoint = train_model.save_checkpoint, tmp_path / "begun.weights.h5"

    def save_and_stop(*given):
        save(*given)
        raise KeyboardInterrupt
    monkeypatch.setattr(train_model, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        train(*parts, settings, checkpoint)
    monkeypatch.setattr(train_model, "save_checkpoint", save)
    resumed, histories = train(*parts, settings, checkpoint, resume=True)
    pd.testing.assert_frame_equal(pd.DataFrame(histories), pd.DataFrame(history), rtol=1e-3)
    for variable, expected, seen in zip(whole.weights, whole.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(seen, expected, atol=1e-4, err_msg=variable.path)


def test_training_never_sees_the_test_faces(small_data, small_set, tmp_path, monkeypatch):
    given = {}

    def note(training, validation, *_):
        given.update(training=training, validation=validation)
        return None, [{"val_accuracy": 0.5}]
    monkeypatch.setattr(train_model, "train", note)
    monkeypatch.setattr(train_model, "calibrate", lambda _, *validation: given.update(calibration=validation) or 1)
    monkeypatch.setattr(train_model, "save_model", lambda *_: None)
    train_model.main(["--data", str(small_data), "--models", str(tmp_path)])
    faces, labels, usage = small_set
    for part, number in (("training", 0), ("validation", 1), ("calibration", 1)):
        np.testing.assert_array_equal(given[part][0], faces[usage == number])
        np.testing.assert_array_equal(given[part][1].argmax(axis=1), labels[usage == number])
    np.testing.assert_array_equal(np.load(small_data / "modXtest.npy"), faces[usage == 2])
    np.testing.assert_array_equal(np.load(small_data / "modytest.npy").argmax(axis=1), labels[usage == 2])


def test_with_ferplus_faces_are_learned_and_judged_by_the_votes(small_set, tmp_path, monkeypatch):
    faces, labels, usage = small_set
    votes = np.random.default_rng(1).multinomial(10, [0.2, 0.02, 0.02, 0.4, 0.02, 0.02, 0.2, 0.02, 0.05, 0.05], 70)
    save_arrays({tmp_path / "fdataX.npy": faces, tmp_path / "flabels.npy": np.eye(7, dtype=np.uint8)[labels],
                 tmp_path / "fusage.npy": usage, tmp_path / "fvotes.npy": votes.astype(np.uint8)})
    given = {}

    def note(training, validation, *_):
        given.update(training=training, validation=validation)
        return None, [{"val_accuracy": 0.5}]
    monkeypatch.setattr(train_model, "train", note)
    monkeypatch.setattr(train_model, "calibrate", lambda *_: 1)
    monkeypatch.setattr(train_model, "save_model", lambda *_: None)
    train_model.main(["--data", str(tmp_path), "--labels", "ferplus"])

    learned, judged = [], []
    for row in range(70):  # by plain Python
        counts = [int(count) if count > 1 else 0 for count in votes[row]]
        expressions, others = counts[:7], counts[7:]
        if usage[row] == 0 and max(expressions) > max(others):
            learned.append((faces[row], [count / sum(expressions) for count in expressions]))
        most = max(range(7), key=expressions.__getitem__)
        if usage[row] == 1 and max(expressions) > max(others) and 2 * expressions[most] > sum(expressions):
            judged.append((faces[row], [float(number == most) for number in range(7)]))
    for part, expected in (("training", learned), ("validation", judged)):
        np.testing.assert_array_equal(given[part][0], [face for face, _ in expected])
        np.testing.assert_allclose(given[part][1], [share for _, share in expected], rtol=1e-6)
    assert 3 <= len(judged) < 7 and 20 < len(learned) < 56


def test_the_learning_rate_climbs_to_its_peak_and_falls_to_nothing():
    rates = [float(learning_rate(1000, 128)(step)) for step in range(1001)]
    assert rates[0] == pytest.approx(0.01) and rates[200] == pytest.approx(0.1) and rates[1000] == pytest.approx(0)
    assert np.argmax(rates) == 200
    assert float(learning_rate(1000, 32)(200)) == pytest.approx(0.025)
    assert float(learning_rate(1000, 128, 0.3)(200)) == pytest.approx(0.3)


def test_the_learning_rate_climbs_again_to_refine():
    whole, rate = learning_rate(600, 64), learning_rate(600, 64, refining=400)
    rates = [float(rate(step)) for step in range(1001)]
    assert rates[:600] == pytest.approx([float(whole(step)) for step in range(600)])
    assert rates[600] == pytest.approx(0.0025) and rates[680] == pytest.approx(0.025)  # half of 0.05
    assert rates[1000] == pytest.approx(0) and np.argmax(rates[600:]) == 80


def test_the_last_epochs_of_a_training_see_faces_changed_less(small_set, tmp_path, monkeypatch):
    monkeypatch.setitem(train_model.THOROUGH, "sizes", ((1, 16),))
    given, build = [], train_model.training_batches

    def note(faces, labels, size, batch_size, seed, strength, workers):
        given.append(strength)
        return build(faces, labels, size, batch_size, seed, strength, workers)
    monkeypatch.setattr(train_model, "training_batches", note)
    faces, labels = small_set[0], np.eye(7, dtype=np.uint8)[small_set[1]]
    train((faces[:56], labels[:56]), (faces[56:], labels[56:]), {"epochs": 7, "batch_size": 56, "seed": 0},
          tmp_path / "checkpoint.weights.h5")
    assert given == pytest.approx([1] * 5 + [1 / 3] * 2)


def test_faces_grow_and_in_the_last_epochs_they_are_changed_less():
    plan, growing = course(84)
    assert growing == 60 and plan == [(32, 1)] * 24 + [(40, 1)] * 26 + [(48, 1)] * 10 + [(48, 1 / 3)] * 24
    assert [course(epochs)[0][-1][0] for epochs in (1, 2, 3, 7)] == [48] * 4
    assert course(2, only_refining=True) == ([(48, 1 / 3)] * 2, 0)
    assert course(1, train_model.QUICK) == ([(48, 0.7)], 1)


def test_a_quick_training_begins_with_smaller_faces_and_is_resumed_as_such(small_data, tmp_path, monkeypatch):
    given, build = [], train_model.training_batches

    def note(faces, labels, size, batch_size, seed, strength, workers):
        given.append((size, strength))
        return build(faces, labels, size, batch_size, seed, strength, workers)
    monkeypatch.setattr(train_model, "training_batches", note)
    arguments = ["--data", str(small_data), "--models", str(tmp_path), "--batch-size", "28"]
    save, checkpoint = train_model.save_checkpoint, tmp_path / "checkpoint.weights.h5"

    def save_and_stop(*it):
        save(*it)
        raise KeyboardInterrupt
    monkeypatch.setattr(train_model, "save_checkpoint", save_and_stop)
    with pytest.raises(KeyboardInterrupt, match="1 of 4 epochs are kept"):
        train_model.main([*arguments, "--quick", "--epochs", "4"])
    assert read_checkpoint(checkpoint)[0]["quick"]
    monkeypatch.setattr(train_model, "save_checkpoint", save)
    train_model.main([*arguments, "--resume"])
    assert given == [(24, 0.7), (32, 0.7), (40, 0.7), (48, 0.7)]
    assert pd.read_csv(tmp_path / "history.csv")["size"].tolist() == [24, 32, 40, 48]
    assert load_model(tmp_path).count_params() < build_network().count_params()
    assert "GlobalAveragePooling2D" in (tmp_path / "model.json").read_text()
    train_model.main([*arguments, "--quick", "--epochs", "1", "--after", str(tmp_path)])
    assert given[4:] == [(48, pytest.approx(0.7 / 3))]
    with pytest.raises(InputError, match="--quick if that was"):
        train_model.main([*arguments, "--after", str(tmp_path)])


def test_other_data_never_replaces_the_shipped_model(tmp_path):
    assert models_folder(DATA) == MODELS
    assert models_folder(DATA / "sample") == DATA / "sample" / "models"
    assert models_folder(tmp_path) == tmp_path / "models"


def train_arguments(data, models):
    return ["--data", data, "--models", models, "--epochs", 3, "--batch-size", 28, "--seed", 5]


def test_a_killed_run_resumes_and_ends_like_an_uninterrupted_one(small_data, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = run_script("train_model.py", *train_arguments(small_data, whole))
    assert process.returncode == 0, process.stderr
    assert "training on 56 of 56" in process.stdout
    assert sorted(path.name for path in whole.iterdir()) == [
        "architecture.png", "history.csv", "model.json", "model.sha256", "model.tflite", "model.weights.h5",
        "training_curves.png"]

    command = [sys.executable, str(ROOT / "train_model.py"), *map(str, train_arguments(small_data, killed))]
    victim = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not (killed / "checkpoint.weights.h5").exists() and victim.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (killed / "model.json").exists()
    for path in killed.glob(".*"):
        path.unlink()  # what it was writing when it was killed

    resumed = run_script("train_model.py", "--data", small_data, "--models", killed, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    histories = [pd.read_csv(folder / "history.csv") for folder in (whole, killed)]
    assert histories[1].epoch.tolist() == [1, 2, 3] and histories[1]["size"].tolist() == [40, 48, 48]
    pd.testing.assert_frame_equal(*histories, rtol=1e-3)
    faces = np.load(small_data / "fdataX.npy")
    np.testing.assert_allclose(predict(load_model(killed), faces), predict(load_model(whole), faces), atol=1e-3)

    np.testing.assert_array_equal(np.load(small_data / "modXtest.npy"), faces[np.load(small_data / "fusage.npy") == 2])
    assert np.load(small_data / "modytest.npy").shape == (7, 7)


def test_missing_and_misshapen_arrays_are_refused(small_data, tmp_path):
    assert_refused(run_script("train_model.py", "--data", tmp_path), tmp_path / "fdataX.npy", "run preprocessing.py")
    faces, labels = (np.load(small_data / name) for name in ("fdataX.npy", "flabels.npy"))
    save_arrays({tmp_path / "fdataX.npy": faces, tmp_path / "flabels.npy": labels[1:],
                 tmp_path / "fusage.npy": np.load(small_data / "fusage.npy")})
    assert_refused(run_script("train_model.py", "--data", tmp_path), tmp_path / "flabels.npy", "(69, 7)", "(70, 7)")
    (tmp_path / "fdataX.npy").write_bytes(b"not an array")
    assert_refused(run_script("train_model.py", "--data", tmp_path), tmp_path / "fdataX.npy", "changed since")
    (tmp_path / "fdataX.sha256").unlink()
    assert_refused(run_script("train_model.py", "--data", tmp_path), tmp_path / "fdataX.npy", "not a whole .npy array")
    assert_refused(run_script("train_model.py", "--data", small_data, "--models", tmp_path, "--resume"),
                   "nothing to resume")
    assert run_script("train_model.py", "--epochs", "0").returncode == 2


@pytest.mark.parametrize("damage, words", [
    (lambda folder: (folder / "model.json").unlink(), ["model.json is not there"]),
    (lambda folder: (folder / "model.weights.h5").unlink(), ["model.weights.h5 is not there"]),
    (lambda folder: (folder / "model.json").write_text("{"), ["no model that is loaded here"]),
    (lambda folder: os.truncate(folder / "model.weights.h5", 5000), ["do not load"]),
])
def test_a_missing_or_damaged_model_is_refused(shipped, tmp_path, damage, words):
    for name in ("model.json", "model.weights.h5"):
        (tmp_path / name).write_bytes((shipped / name).read_bytes())
    damage(tmp_path)
    with pytest.raises(InputError) as refusal:
        load_model(tmp_path)
    for word in [str(tmp_path), *words]:
        assert word in str(refusal.value)


def test_a_network_for_other_faces_is_refused(tmp_path, portrait):
    import keras

    other = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
    save_model(other, tmp_path)
    with pytest.raises(InputError, match=r"\(5,\) outputs instead of 7"):
        load_model(tmp_path)
    assert_refused(run_script("recognise_image.py", portrait[1], "--models", tmp_path, cwd=tmp_path),
                   "of another network")


def test_the_deployment_file_gives_what_keras_gives(shipped, small_set):
    random = np.random.default_rng(1)
    smooth = np.repeat(np.repeat(random.integers(0, 256, (40, 6, 6, 1), np.uint8), 8, axis=1), 8, axis=2)
    faces = np.concatenate([small_set[0], smooth, np.zeros((1, 48, 48, 1), np.uint8)])
    through_keras = predict(load_model(shipped), faces)
    assert len(set(through_keras.argmax(axis=1))) > 1
    np.testing.assert_allclose(load_recogniser(shipped)(faces), through_keras, atol=1e-4)


def test_teachers_say_of_faces_and_their_mirror_images_what_is_learned_too(small_set):
    import keras

    def network(weights):
        """Tells only how bright the left and the right half of a face are."""
        stack = keras.Sequential([keras.Input((48, 48, 1)), keras.layers.AveragePooling2D((48, 24)),
                                  keras.layers.Flatten(), keras.layers.Dense(7, activation="softmax")])
        stack.set_weights([weights, np.zeros(7)])
        return stack

    random = np.random.default_rng(0)
    weights = random.normal(0, 0.02, (2, 2, 7))
    faces, labels = small_set[0].copy(), np.eye(7, dtype=np.float32)[small_set[1]]
    faces[:, :, :24] //= random.integers(1, 9, (70, 1, 1, 1), np.uint8)
    halves = np.stack([faces[:, :, :24].mean(axis=(1, 2, 3)), faces[:, :, 24:].mean(axis=(1, 2, 3))], axis=1)
    said = np.mean([softmax(seen @ one, axis=1) for one in weights for seen in (halves, halves[:, ::-1])], axis=0)
    targets = taught(labels, faces, [network(one) for one in weights])
    np.testing.assert_allclose(targets, 0.5 * labels + 0.5 * said, atol=1e-4)
    assert targets.dtype == np.float32 and said.std(axis=0).min() > 1e-3


def test_training_goes_on_from_the_last_model_it_is_given(small_data, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for name in ("first", "second"):
        network = build_network()
        network.set_weights([values + random.normal(0, 0.01, values.shape) if values.ndim > 1 else values
                             for values in network.get_weights()])
        tie_mirror_images(network)
        save_model(network, tmp_path / name)
    given = {}

    def note(training, validation, settings, checkpoint, resume, begin):
        given.update(targets=training[1], settings=settings, begin=begin)
        return None, [{"val_accuracy": 0.5}]
    monkeypatch.setattr(train_model, "train", note)
    monkeypatch.setattr(train_model, "calibrate", lambda *_: 1)
    monkeypatch.setattr(train_model, "save_model", lambda *_: None)
    arguments = ["--data", str(small_data), "--models", str(tmp_path / "third")]
    after = ["--after", str(tmp_path / "first"), str(tmp_path / "second")]
    train_model.main(arguments)
    alone = given["targets"]
    assert given["begin"] is None
    train_model.main([*arguments, *after])
    for values, expected in zip(given["begin"], load_model(tmp_path / "second").get_weights()):
        np.testing.assert_array_equal(values, expected)
    faces, usage = (np.load(small_data / name) for name in ("fdataX.npy", "fusage.npy"))
    teachers = [load_model(tmp_path / name) for name in ("first", "second")]
    np.testing.assert_allclose(given["targets"], taught(alone, faces[usage == 0], teachers), atol=1e-6)

    # What it began with is in the checkpoint: --resume alone goes on, unless a model has become another one.
    checkpoint = tmp_path / "third/checkpoint.weights.h5"
    save_checkpoint(build_network(), checkpoint, given["settings"], [{"epoch": 1}])
    begun, taught_before = checkpoint.read_bytes(), given.pop("targets")
    train_model.main([*arguments, "--resume"])
    np.testing.assert_array_equal(given["targets"], taught_before)
    checkpoint.write_bytes(begun)
    save_model(build_network(), tmp_path / "first")
    with pytest.raises(InputError, match="first holds another model than when this training began"):
        train_model.main([*arguments, "--resume"])


def test_training_begins_with_the_weights_it_is_given(small_set, tmp_path, monkeypatch):
    monkeypatch.setitem(train_model.THOROUGH, "sizes", ((1, 16),))
    monkeypatch.setitem(train_model.THOROUGH, "peak", 0)
    before = build_network()
    tie_mirror_images(before)
    begin = before.get_weights()
    faces, labels = small_set[0], np.eye(7, dtype=np.uint8)[small_set[1]]
    network, _ = train((faces[:56], labels[:56]), (faces[56:], labels[56:]), {"epochs": 1, "batch_size": 14, "seed": 9},
                       tmp_path / "checkpoint.weights.h5", begin=begin)
    for variable, expected, seen in zip(network.weights, begin, network.get_weights()):
        if "moving" not in variable.name:
            np.testing.assert_array_equal(seen, expected, err_msg=variable.path)


@WAYS
def test_a_face_and_its_mirror_image_are_one(small_set, tmp_path, monkeypatch, way, pooling):
    monkeypatch.setitem(way, "sizes", ((1, 24),))
    faces, labels = small_set[0], np.eye(7, dtype=np.uint8)[small_set[1]]
    checkpoint = tmp_path / "checkpoint.weights.h5"
    network, _ = train((faces[:56], labels[:56]), (faces[56:], labels[56:]),
                       {"epochs": 2, "batch_size": 14, "seed": 9, "quick": way is train_model.QUICK}, checkpoint)
    assert (faces[:, :, ::-1] != faces).any(axis=(1, 2, 3)).all()
    seen = predict(network, faces)
    np.testing.assert_allclose(predict(network, faces[:, :, ::-1]), seen, atol=1e-6)
    assert seen.std(axis=0).max() > 2e-5
    # Half of the filters are free, and no two of them the same; not only in the end, but after each step.
    on_the_way = build_network(way=way)
    on_the_way.load_weights(checkpoint)
    for layer in network.layers + on_the_way.layers:
        if layer.name.startswith("conv2d"):
            half = layer.filters // 2
            kernel = layer.kernel.numpy()
            into = np.roll(kernel, kernel.shape[2] // 2, axis=2)
            np.testing.assert_array_equal(kernel[..., half:], into[:, ::-1, :, :half])
            assert len(np.unique(kernel[..., :half].reshape(-1, half), axis=1).T) == half


def test_what_was_trained_before_mirror_images_were_tied_is_no_beginning(small_set, tmp_path, monkeypatch):
    save_model(build_network(), tmp_path / "before")
    with pytest.raises(InputError, match="before holds a network to which a face and its mirror image are two"):
        train_model.load_teachers({"after": {str(tmp_path / "before"): weights_stamp(tmp_path / "before")}})
    settings = {"epochs": 2, "batch_size": 14, "seed": 9}
    checkpoint = tmp_path / "checkpoint.weights.h5"
    monkeypatch.setattr(train_model, "processor_has_bfloat16", lambda: False)
    network = train_model.compiled_network(10, 14)
    random = np.random.default_rng(0)
    network.set_weights([random.normal(size=values.shape) for values in network.get_weights()])
    save_checkpoint(network, checkpoint, settings, [{"epoch": 1}])
    faces, labels = small_set[0], np.eye(7, dtype=np.uint8)[small_set[1]]
    with pytest.raises(InputError, match="was written by an older train_model"):
        train((faces, labels), (faces, labels), settings, checkpoint, resume=True)


def test_a_network_of_other_layers_is_no_beginning(small_data, tmp_path):
    import keras

    save_model(keras.Sequential([keras.Input((48, 48, 1)), keras.layers.GlobalAveragePooling2D(),
                                 keras.layers.Dense(7, activation="softmax")]), tmp_path / "other")
    assert_refused(run_script("train_model.py", "--data", small_data, "--models", tmp_path / "new", "--after",
                              tmp_path / "other"), tmp_path / "other", "another network")
    assert_refused(run_script("train_model.py", "--data", small_data, "--models", tmp_path / "new", "--after",
                              tmp_path / "nowhere"), tmp_path / "nowhere", "not there")


def test_a_checkpoint_says_which_labels_it_learns(tmp_path):
    path = tmp_path / "checkpoint.weights.h5"
    settings = {"epochs": 2, "batch_size": 14, "seed": 0}
    for more, expected in (({}, "fer2013"), ({"labels": "both"}, "both"), ({"labels": "all"}, None),
                           ({"after": ["models"]}, None)):
        save_checkpoint(build_network(), path, settings | more, [])
        if expected:
            assert read_checkpoint(path) == (settings | {"labels": expected}, [])
        else:
            with pytest.raises(InputError, match="not a whole checkpoint"):
                read_checkpoint(path)
