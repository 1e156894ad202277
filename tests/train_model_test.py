"""train_model.py trains on Training alone, can be interrupted, and leaves a model that every script reads."""
import json
import re
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from fer2013_test import votes_file

import train_model
from expressions import fer2013, model_files, sample, training
from expressions.console import InputError
from expressions.evaluation import predict
from expressions.labels import EXPRESSIONS

pytestmark = pytest.mark.usefixtures("small_training")


def test_the_chain_leaves_a_whole_model(chain):
    folder, texts = chain
    names = (folder / "models" / "model.sha256").read_text().split()[1::2]
    assert names == ["model.json", "model.weights.h5", "model.onnx", "history.csv", "training_curves.png"]
    assert pd.read_csv(folder / "models" / "history.csv")["size"].tolist() == [16, 48]
    faces = np.load(folder / "modXtest.npy")
    keras_says = predict(model_files.load_model(folder / "models"), faces)
    np.testing.assert_allclose(model_files.load_classifier(folder / "models")(faces), keras_says, atol=1e-5)
    assert re.search(r"conv2d.*\(Conv2D\).*\(None, 48, 48, 2\)", texts["train_model"])  # as Keras prints them
    assert "training on 56 of 56 Training faces" in texts["train_model"] and "validating on 7" in texts["train_model"]
    assert not (folder / "models" / "checkpoint.npz").exists()


@pytest.fixture
def noted(monkeypatch):
    """Have train() only note what it is given."""
    given = {}

    def train(training_part, validation_part, settings, *rest):
        given.update(training=training_part, validation=validation_part, settings=settings, rest=rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", train)
    return given


def run(*arguments):
    with pytest.raises(KeyboardInterrupt):
        train_model.main([str(argument) for argument in arguments])


def test_training_never_sees_the_test_faces(small_set, tmp_path, noted):
    fer2013.save_dataset(tmp_path, *small_set)
    run("--data", tmp_path)
    faces, labels, splits = small_set
    for part, split in (("training", 0), ("validation", 1)):
        np.testing.assert_array_equal(noted[part][0], faces[splits == split])
    assert noted["training"][1].argmax(axis=1).tolist() == labels[splits == 0].tolist()
    assert noted["validation"][1].tolist() == labels[splits == 1].tolist()
    np.testing.assert_array_equal(np.load(tmp_path / "modXtest.npy"), faces[splits == 2])


def test_with_ferplus_faces_are_learned_and_validated_by_the_votes(small_set, tmp_path, noted):
    faces, _, splits = small_set
    votes = np.random.default_rng(1).multinomial(10, [0.2, 0.02, 0.02, 0.4, 0.02, 0.02, 0.2, 0.02, 0.05, 0.05], 70)
    votes_file(tmp_path / "votes.csv", splits, votes)
    fer2013.save_dataset(tmp_path, *small_set, fer2013.read_ferplus(tmp_path / "votes.csv", splits))
    run("--data", tmp_path, "--labels", "ferplus")
    learned, validated = [], []
    for row in range(70):  # by plain Python
        counts = [int(count) if count > 1 else 0 for count in votes[row]]
        seven, others = counts[:7], counts[7:]
        best = max(range(7), key=seven.__getitem__)
        if max(seven) > max(others):
            if splits[row] == 0:
                learned.append((faces[row], [count / sum(seven) for count in seven]))
            if splits[row] == 1 and 2 * seven[best] > sum(seven):
                validated.append((faces[row], best))
    for part, expected in (("training", learned), ("validation", validated)):
        np.testing.assert_array_equal(noted[part][0], [face for face, _ in expected])
        np.testing.assert_allclose(noted[part][1], [target for _, target in expected], rtol=1e-6)
    assert 3 <= len(validated) < 7 and 20 < len(learned) < 56


@pytest.mark.exhaustive
def test_an_interrupted_training_says_how_to_go_on_and_is_resumed(chain, tmp_path, monkeypatch):
    arguments = ["--data", str(chain[0]), "--models", str(tmp_path), "--batch-size", "28"]
    save = training.save_checkpoint

    def save_and_stop(*given):
        save(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="1 of 2 epochs are kept.*--resume"):
        patch.setattr(training, "save_checkpoint", save_and_stop)
        train_model.main([*arguments, "--quick", "--epochs", "2"])
    train_model.main([*arguments, "--resume"])
    assert len(pd.read_csv(tmp_path / "history.csv")) == 2  # with the settings of the checkpoint, not the defaults
    assert "GlobalAveragePooling2D" in (tmp_path / "model.json").read_text()


def test_a_better_model_stays_and_a_worse_one_is_kept(chain, tmp_path, capsys):
    shutil.copytree(chain[0] / "models", tmp_path, dirs_exist_ok=True)
    before = (tmp_path / "model.weights.h5").read_bytes()
    validation = [values[np.load(chain[0] / "fusage.npy") == 1] for values in
                  (np.load(chain[0] / "fdataX.npy"), np.load(chain[0] / "flabels.npy").argmax(axis=1))]
    labels_of_the_model = predict(model_files.load_model(tmp_path), validation[0]).argmax(axis=1)
    other = model_files.load_model(tmp_path)
    other.layers[-1].set_weights([0 * values for values in other.layers[-1].get_weights()])  # says angry, always

    folder = train_model.make_room(tmp_path, other, validation[0], labels_of_the_model)
    assert folder.parent == tmp_path and folder.name.startswith("new_") and "stays" in capsys.readouterr().out
    assert train_model.make_room(tmp_path, other, validation[0], np.zeros(7, int)) == tmp_path
    [kept] = tmp_path.glob("before_*")
    assert (kept / "model.weights.h5").read_bytes() == before and f"kept the model before in {kept}" in (
        capsys.readouterr().out)
    model_files.load_classifier(kept)  # whole, so that it can be used as it lies there
    (tmp_path / "model.weights.h5").write_bytes(b"damaged")  # which must not lose the new one
    shutil.rmtree(kept)
    assert train_model.make_room(tmp_path, other, validation[0], labels_of_the_model) == tmp_path
    assert len(list(tmp_path.glob("before_*"))) == 1


def test_the_last_layer_is_refitted_to_ones_own_images(chain, tmp_path, capsys):
    random = np.random.default_rng(5)
    for label, expression in enumerate(EXPRESSIONS):  # by people who call each by the name of the next
        folder = tmp_path / "mine" / EXPRESSIONS[(label + 1) % 7]
        folder.mkdir(parents=True)
        for number in range(6):
            cv2.imwrite(str(folder / f"{number}.png"), sample.draw_schematic_face(expression, random))
    train_model.main(["--data", str(tmp_path / "mine"), "--last-layer"])
    assert "42 faces (0 images show none): accuracy" in capsys.readouterr().out
    faces = np.stack([sample.draw_schematic_face(expression, random) for expression in EXPRESSIONS * 4])[..., None]
    called = np.tile((np.arange(7) + 1) % 7, 4)
    accuracies = [(model_files.load_classifier(folder)(faces).argmax(axis=1) == called).mean()
                  for folder in (ROOT / "models", tmp_path / "mine" / "models")]
    assert accuracies[0] < 0.3 and accuracies[1] > 0.6


def test_the_last_model_after_after_is_fine_tuned_with_all_as_teachers(chain, tmp_path, noted, monkeypatch):
    monkeypatch.setattr(training, "distillation_targets", lambda targets, faces, teachers: len(teachers))
    folder = chain[0] / "models"
    run("--data", chain[0], "--models", tmp_path, "--after", folder, folder)
    assert noted["training"][1] == 2 and noted["settings"]["epochs"] == 16
    for found, expected in zip(noted["rest"][2], model_files.load_model(folder).get_weights()):
        np.testing.assert_array_equal(found, expected)


def test_the_history_goes_on_with_that_of_the_model_before(tmp_path):
    assert train_model.continue_history(None, [{"epoch": 1}]).training.tolist() == [1]
    (tmp_path / "history.csv").write_text("epoch,size,loss\n1,32,2.5\n2,48,1.5\n")  # older ones name no training
    for loss in (1.0, 0.5):
        table = train_model.continue_history(tmp_path, [{"epoch": 1, "size": 48, "loss": loss}])
        table.to_csv(tmp_path / "history.csv", index=False)
    assert [*zip(table.epoch, table["size"], table.loss, table.training)] == [
        (1, 32, 2.5, 1), (2, 48, 1.5, 1), (3, 48, 1.0, 2), (4, 48, 0.5, 3)]
    (tmp_path / "history.csv").write_bytes(b"\xff")
    assert train_model.continue_history(tmp_path, [{"epoch": 1}]).epoch.tolist() == [1]


def test_a_model_of_other_layers_cannot_be_fine_tuned(chain, tmp_path):
    with pytest.raises(InputError, match="has other layers than the network to train"):
        train_model.main(["--data", str(chain[0]), "--models", str(tmp_path), "--after", str(chain[0] / "models"),
                          "--quick", "--batch-size", "28"])


@pytest.mark.parametrize("arguments, words", [
    (["--labels", "both"], "holds no votes of FER\\+"),
    (["--resume"], "no whole checkpoint to resume .*: leave out --resume"),
    (["--batch-size", "100000"], "is more than the 56 training faces"),
    (["--last-layer"], "holds no images in folders named angry"),
])
def test_what_cannot_be_done_is_said_before_the_training(chain, tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        train_model.main(["--data", str(chain[0]), "--models", str(tmp_path), *arguments])


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--seed", "-1"], ["--batch-size", "x"], ["--labels", "x"]])
def test_odd_arguments_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        train_model.main(arguments)
    assert end.value.code == 2 and arguments[0] in capsys.readouterr().err


def test_a_checkpoint_of_other_faces_is_refused(chain, tmp_path):
    checkpoint = {"epochs": 2, "quick": False, "batch_size": 1, "seed": 0, "labels": "fer2013", "after": [],
                  "data": {"fdataX.npy": "0" * 64}}
    np.savez(tmp_path / "checkpoint.npz", settings=json.dumps(checkpoint), history="[]")
    with pytest.raises(InputError, match="was made from other faces"):
        train_model.main(["--data", str(chain[0]), "--models", str(tmp_path), "--resume"])
