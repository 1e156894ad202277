"""Targets, augmentation, schedules and the loop do what the papers and plain Python say."""
import keras
import numpy as np
import pandas as pd
import pytest

from expressions import training
from expressions.console import InputError
from expressions.evaluation import predict
from expressions.network import build_model
from expressions.training import augment, epoch_schedule, learning_rates, soft_targets

SETTINGS = {"epochs": 2, "quick": False, "batch_size": 14, "seed": 3, "labels": "fer2013", "after": [], "data": {}}


@pytest.fixture
def only(monkeypatch):
    """A function that leaves only some of the augmentation."""
    def leave(**values):
        monkeypatch.setattr(training, "AUGMENTATION",
                            dict.fromkeys(training.AUGMENTATION, 0) | values)
        monkeypatch.setattr(training, "DAMAGED_FRACTION", 0)
    return leave


def test_labels_are_smoothed():
    targets, known = soft_targets("fer2013", np.array([5]), None, None)
    expected = np.full(7, 0.1 / 7)  # Szegedy et al. 2016, section 7
    expected[5] += 0.9
    np.testing.assert_allclose(targets, [expected], rtol=1e-6)
    assert known.all() and targets.dtype == np.float32


def test_the_votes_alone_are_targets_where_most_see_an_expression():
    votes = np.array([[4, 0, 1, 1, 0, 1, 2, 0, 1, 0], [2, 0, 0, 0, 0, 0, 2, 2, 4, 0], [1] * 10], np.uint8)
    targets, known = soft_targets("ferplus", np.zeros(3, int), votes, None)
    np.testing.assert_allclose(targets[0], [4 / 6, 0, 0, 0, 0, 0, 2 / 6], rtol=1e-6)  # single votes do not count
    assert known.tolist() == [True, False, False]


def test_labels_are_blended_with_what_the_votes_predict():
    random = np.random.default_rng(0)
    votes = random.multinomial(10, [0.1] * 10, 400).astype(np.uint8)
    labels = np.concatenate([votes[:200, :7].argmax(axis=1), random.integers(0, 7, 200)])
    one_hot, rows = np.eye(7)[labels], np.arange(400) < 300
    predicted = 2 * soft_targets("both", labels, votes, rows)[0] - one_hot
    assert predicted.min() > -1e-6
    np.testing.assert_allclose(predicted.sum(axis=1), 1, rtol=1e-5)
    # On the faces it was fitted to, a logistic regression predicts each label as often as it is there.
    np.testing.assert_allclose(predicted[rows].mean(axis=0), one_hot[rows].mean(axis=0), atol=2e-3)
    assert (predicted[:200].argmax(axis=1) == labels[:200]).mean() > 0.6  # by chance 0.14; half of the votes are ties
    changed = np.where(rows, labels, (labels + 1) % 7)
    again = 2 * soft_targets("both", changed, votes, rows)[0] - np.eye(7)[changed]
    np.testing.assert_allclose(again, predicted, atol=1e-5)  # labels outside `rows` teach nothing


def test_teachers_are_averaged_over_faces_and_their_mirror_images(small_set):
    faces = small_set[0][:6]
    teachers = [build_model((2, 2, 2, 2)) for _ in range(2)]
    predictions = [predict(teacher, view) for teacher in teachers for view in (faces, np.flip(faces, axis=2))]
    targets = training.distillation_targets(np.eye(7)[:6], faces, teachers)
    np.testing.assert_allclose(targets, 0.5 * np.eye(7)[:6] + 0.5 * sum(predictions) / 4, atol=1e-6)


def test_augmentation_lights_whole_faces_and_clips(only):
    only(brightness=0.4)
    lit = augment(np.full((500, 48, 48, 1), 200, np.uint8), 40, np.random.default_rng(0))
    assert lit.shape == (500, 40, 40, 1) and lit.dtype == np.uint8 and (lit == lit[:, :1, :1]).all()
    assert 120 <= lit.min() < 122 and lit.max() == 255  # 280 would have begun anew at 24
    half = augment(np.full((500, 48, 48, 1), 100, np.uint8), 48, np.random.default_rng(0), 0.5)
    assert 80 <= half.min() < 81 and 119 < half.max() <= 120


def test_augmentation_rotates_zooms_and_shifts_without_skewing(only):
    beside, below = np.zeros((2, 200, 48, 48, 1), np.uint8)
    beside[:, 22:26, 34:38] = below[:, 34:38, 22:26] = 255  # a dot 12 pixels from the centre

    def moved():
        """Where the dots are, x and y from the centre: both moved in the same way."""
        grid = np.mgrid[:48, :48][::-1].reshape(2, -1).T - 23.5
        for dots in (beside, below):
            weights = augment(dots, 48, np.random.default_rng(0)).reshape(200, -1).astype(float)
            yield weights @ grid / weights.sum(axis=1, keepdims=True)

    only(rotation=12)
    one, other = moved()
    np.testing.assert_allclose(np.hypot(*one.T), 12, atol=0.15)
    np.testing.assert_allclose((one * other).sum(axis=1), 0, atol=4)  # still a right angle, within 2 degrees
    turns = np.degrees(np.arctan2(*other.T))  # the chin stays below
    assert 11 < turns.max() < 12.5 and -12.5 < turns.min() < -11
    only(zoom=0.12)
    for dots in moved():
        lengths = np.hypot(*dots.T) / 12
        assert 0.87 < lengths.min() < 0.89 and 1.11 < lengths.max() < 1.13
    only(translate=0.1)
    shifts = next(moved()) - (12, 0) * np.sign(next(moved())[:, :1])
    assert (np.abs(shifts).max(axis=0) > 4.3).all() and (np.abs(shifts) < 4.9).all()


def test_without_augmentation_faces_are_only_mirrored_every_other_time(only, small_set):
    only()
    same = augment(small_set[0], 48, np.random.default_rng(0))
    mirrored = (same == small_set[0][:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (same == small_set[0]).all(axis=(1, 2, 3))).all() and 20 < mirrored.sum() < 50


def test_three_faces_in_ten_are_damaged_and_stay_recognisable(small_set, monkeypatch):
    gradient = np.tile(np.arange(40, 232, 4, dtype=np.uint8)[:, None], (1000, 1, 48))[..., None]
    monkeypatch.setattr(training, "AUGMENTATION", dict.fromkeys(training.AUGMENTATION, 0))
    same = augment(gradient, 48, np.random.default_rng(0)) == gradient
    assert 0.2 < 1 - same.all(axis=(1, 2, 3)).mean() < 0.33  # some gammas and contrasts change next to nothing
    damaged = [training.damage(gradient[0, ..., 0], np.random.default_rng(seed)) for seed in range(60)]
    assert min(np.corrcoef(face.ravel(), gradient[0].ravel())[0, 1] for face in damaged) > 0.9
    assert len({face.tobytes() for face in damaged}) > 50


def test_an_epoch_gives_each_face_once_with_its_target(only, small_set):
    only()
    faces, targets = small_set[0], np.eye(7, dtype=np.float32)[small_set[1]]
    number_of = {image.tobytes(): number for number, face in enumerate(faces) for image in (face, face[:, ::-1])}
    orders = []  # without augmentation faces are only mirrored
    for epoch in range(2):
        batches = training.augmented_batches(faces, targets, 48, 16, [5, epoch])
        rows = []
        for images, batch_targets in (batches[index] for index in range(len(batches))):
            rows += (found := [number_of[image.astype(np.uint8).tobytes()] for image in images])
            np.testing.assert_array_equal(batch_targets, targets[found])
        assert len(rows) == len(set(rows)) == 64 and sorted(rows) != rows
        orders.append(rows)
    assert orders[0] != orders[1]


def test_faces_grow_and_the_last_epochs_are_gentler():
    schedule, main = epoch_schedule(84, training.FULL)
    assert main == 60 and schedule == [(32, 1)] * 24 + [(40, 1)] * 26 + [(48, 1)] * 10 + [(48, 1 / 3)] * 24
    assert [epoch_schedule(epochs, training.FULL)[0][-1][0] for epochs in (1, 2, 3, 7)] == [48] * 4
    assert epoch_schedule(2, training.FULL, only_fine_tuning=True) == ([(48, 1 / 3)] * 2, 0)
    assert epoch_schedule(1, training.QUICK) == ([(48, 0.7)], 1)


def test_the_learning_rates_are_keras_cosine_cycles():
    rates = learning_rates(600, 400, 0.1)
    for steps, peak, found in ((600, 0.1, rates[:600]), (400, 0.05, rates[600:])):
        warmup = steps // 5
        cosine = keras.optimizers.schedules.CosineDecay(peak / 10, steps - warmup, warmup_target=peak,
                                                        warmup_steps=warmup)
        np.testing.assert_allclose(found, [float(cosine(step)) for step in range(steps)], atol=1e-7)
    assert rates.dtype == np.float32 and rates.argmax() == 120


def parts(small_set):
    """Faces with targets to train on, and faces with labels to validate on."""
    faces, labels, _ = small_set
    return (faces[:56], np.eye(7, dtype=np.float32)[labels[:56]]), (faces[56:], labels[56:])


@pytest.mark.exhaustive
def test_a_resumed_run_ends_like_an_uninterrupted_one(small_set, small_training, tmp_path, monkeypatch):
    history = []
    whole = training.train(*parts(small_set), SETTINGS, tmp_path / "whole.npz", history)
    save, checkpoint = training.save_checkpoint, tmp_path / "checkpoint.npz"

    def save_and_stop(*given):
        save(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "save_checkpoint", save_and_stop)
        training.train(*parts(small_set), SETTINGS, checkpoint, [])
    _, resumed_history, variables = training.read_checkpoint(checkpoint)
    resumed = training.train(*parts(small_set), SETTINGS, checkpoint, resumed_history, variables)
    assert [row["size"] for row in resumed_history] == [16, 48]
    pd.testing.assert_frame_equal(pd.DataFrame(resumed_history), pd.DataFrame(history), rtol=1e-3)
    for variable, expected, found in zip(whole.weights, whole.get_weights(), resumed.get_weights()):
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=variable.path)
    faces = small_set[0][:5]  # and a face and its mirror image are one to the trained network
    np.testing.assert_allclose(predict(whole, faces), predict(whole, faces[:, :, ::-1]), atol=1e-6)
    loss = -np.log(predict(whole, small_set[0][56:])[range(14), small_set[1][56:]]).mean()
    assert history[-1]["val_loss"] == pytest.approx(loss, rel=2e-2)  # bfloat16 where the processor has it


def test_a_missing_damaged_or_foreign_checkpoint_is_refused(small_set, small_training, tmp_path):
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(InputError, match=r"no whole checkpoint to resume \(No such file"):
        training.read_checkpoint(path)
    model = build_model((2, 2, 2, 6))
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    training.save_checkpoint(path, model, SETTINGS, [{"epoch": 1}])
    settings, history, variables = training.read_checkpoint(path)
    assert (settings, history) == (SETTINGS, [{"epoch": 1}])
    for variable, value in zip([*model.weights, *model.optimizer.variables], variables, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
    with pytest.raises(InputError, match="has other layers than the network to train"):
        training.train(*parts(small_set), SETTINGS, path, history, variables)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no whole checkpoint"):
        training.read_checkpoint(path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_what_another_backend_trained_is_the_same_under_tensorflow(chain, tmp_path, backend):
    pytest.importorskip(backend)
    from conftest import run_script

    from expressions.model_files import load_classifier, load_model
    process = run_script("train_model.py", "--data", chain[0], "--models", tmp_path, "--quick", "--epochs", 1,
                         "--batch-size", 28, env={"KERAS_BACKEND": backend})
    assert process.returncode == 0, process.stderr
    faces = np.load(chain[0] / "modXtest.npy")
    np.testing.assert_allclose(load_classifier(tmp_path)(faces), predict(load_model(tmp_path), faces), atol=1e-4)
