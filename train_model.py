"""Train the network on the arrays of preprocessing.py.

Reads fdataX.npy, flabels.npy and fusage.npy from data/. Trains on Training, validates on
PublicTest after each epoch, and never looks at how it does on PrivateTest.
Writes models/model.json and models/model.weights.h5, the same for OpenCV as models/model.tflite,
models/history.csv and models/training_curves.png; into data/ modXtest.npy and modytest.npy, the test faces.

$ python train_model.py
$ python train_model.py --resume      # go on after an interruption
$ python train_model.py --export      # only make model.tflite anew
"""
import contextlib
import hashlib
import inspect
import io
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from preprocessing import (
    DATA,
    EXPRESSIONS,
    FACE_SIZE,
    PRIVATE_TEST,
    PUBLIC_TEST,
    TRAINING,
    InputError,
    flat,
    identities,
    load_array,
    run,
    save_arrays,
    script_parser,
    written_whole,
)

MODELS = Path(__file__).resolve().parent / "models"
EPOCHS = 36
BATCH_SIZE = 128
SIZES = ((0.4, 32), (0.84, 40), (1.0, FACE_SIZE))  # up to this part of the epochs, faces of this size: small is fast
PEAK_RATE = 0.1  # of the one-cycle schedule, for batches of 128; others in proportion (Goyal et al. 2017)
WARM_UP = 0.2  # the part of training in which the rate climbs to its peak
WEIGHT_DECAY = 5e-3  # Keras multiplies it by the rate: the usual 5e-4 with momentum 0.9
LABEL_SMOOTHING = 0.1
AUGMENTATION = {"rotation": 12, "scale": 0.12, "shift": 0.08}  # degrees, parts of 1, parts of the face: each ±


def build_network(size=FACE_SIZE):
    """The network: grey faces (n, size, size, 1) with values 0 to 255 → probabilities (n, 7).

    LeNet's line: convolution, pooling, dense. `size` None takes faces of any size; the weights
    are the same for all.
    """
    import keras
    from keras import layers

    def convolution(filters):
        return [layers.Conv2D(filters, 3, padding="same", use_bias=False),
                layers.BatchNormalization(momentum=0.9),  # follows the small sets of a few steps too
                layers.ReLU()]

    return keras.Sequential([
        keras.Input((size, size, 1)),
        layers.Rescaling(1 / 127.5, offset=-1),  # inside the network, so no caller can scale otherwise
        *convolution(16), *convolution(16), layers.MaxPooling2D(),
        *convolution(48), *convolution(48), layers.MaxPooling2D(),
        *convolution(128), *convolution(128), layers.MaxPooling2D(),
        *convolution(256), *convolution(256), layers.GlobalMaxPooling2D(),
        layers.Dropout(0.3),
        layers.Dense(len(EXPRESSIONS), activation="softmax", dtype="float32"),
    ], name="expressions")


def save_model(network, folder):
    """Write model.json, the layers, and model.weights.h5, their values."""
    with written_whole(folder / "model.json", folder / "model.weights.h5") as (layers, weights):
        layers.write_text(json.dumps(layers_of(network), indent=1) + "\n", encoding="utf-8")
        network.save_weights(weights)


def layers_of(network):
    """The network's layers as Keras's JSON, without what older versions of Keras stumble over.

    Left out are settings at their default, some of which are new, and how to draw initial
    values, which the weights replace.
    """
    import keras

    tree = json.loads(network.to_json())
    for layer in tree["config"]["layers"]:
        settings = inspect.signature(getattr(keras.layers, layer["class_name"])).parameters
        layer["config"] = {
            name: value for name, value in layer["config"].items() if not name.endswith("_initializer")
            and not (name in settings and settings[name].default == value)}
    return tree


def load_model(folder=MODELS):
    """The network that save_model wrote into `folder`, as a keras.Sequential."""
    layers, weights = model_files(folder)
    keras = import_keras()
    try:
        network = keras.models.model_from_json(layers.read_text(encoding="utf-8"))
        network.load_weights(weights)
    except Exception as error:  # Keras and h5py raise whatever they stumble over
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{layers} and {weights.name} do not load ({reason}): "
                         "run train_model.py, or restore the shipped models/ folder") from None
    if network.input_shape[1:] != (FACE_SIZE, FACE_SIZE, 1) or network.output_shape[1:] != (len(EXPRESSIONS),):
        raise InputError(f"{layers} maps {network.input_shape[1:]} to {network.output_shape[1:]} instead of "
                         f"{(FACE_SIZE, FACE_SIZE, 1)} to {(len(EXPRESSIONS),)}: run train_model.py")
    return network


def model_files(folder):
    """The paths of model.json and model.weights.h5, which are there."""
    paths = folder / "model.json", folder / "model.weights.h5"
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is not there: run train_model.py, or restore the shipped models/ folder")
    return paths


def model_stamp(layers, weights):
    """SHA-256 of model.json and model.weights.h5, which tells one model from another."""
    return hashlib.sha256(layers.read_text(encoding="utf-8").encode() + weights.read_bytes()).hexdigest()


def export_model(network, folder):
    """Write model.tflite, the network for OpenCV, and model.tflite.stamp, which model in `folder` it is."""
    with written_whole(folder / "model.tflite", folder / "model.tflite.stamp") as (tflite, stamp):
        tflite.write_bytes(convert(network))
        stamp.write_text(model_stamp(*model_files(folder)) + "\n")


def convert(network):
    """The network as the bytes of a TFLite file, which OpenCV reads without TensorFlow."""
    import keras
    from keras import layers

    if keras.backend.backend() != "tensorflow":
        raise InputError(f"only TensorFlow makes model.tflite, not {keras.backend.backend()}: "
                         "run train_model.py --export without KERAS_BACKEND")
    import tensorflow as tf

    def as_opencv_reads_it(layer):
        if isinstance(layer, (layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D)):
            return type(layer)(keepdims=True)
        if isinstance(layer, layers.Dense):  # OpenCV 4.14 leaves out its bias, but not that of a 1 x 1 convolution
            return layers.Conv2D(layer.units, 1, activation=None if layer is network.layers[-1] else layer.activation)
        return layer

    fixed = keras.Sequential([
        # A fixed batch: with a free one the converter emits a SHAPE operation that OpenCV cannot read.
        keras.Input(batch_shape=(1, FACE_SIZE, FACE_SIZE, 1)),
        *map(as_opencv_reads_it, network.layers),
        layers.Flatten(),
        layers.Activation(network.layers[-1].activation),
    ])
    fixed.set_weights([weight.reshape(variable.shape)
                       for weight, variable in zip(network.get_weights(), fixed.weights)])
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its temporary files are
        return tf.lite.TFLiteConverter.from_keras_model(fixed).convert()


def import_keras():
    """Keras, without the notices TensorFlow prints when it finds no GPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    return keras


def models_folder(data):
    """models/ for the project's own data/, a folder of its own for other data.

    So trying the chain on the sample never replaces the shipped model.
    """
    return MODELS if data.resolve() == DATA.resolve() else data / "models"


def trainable_rows(faces, usage):
    """bool (N,): Training faces that are not flat and stand in no other split, pixel for pixel."""
    identity = identities(faces)
    return (usage == TRAINING) & ~flat(faces) & ~np.isin(identity, identity[usage != TRAINING])


def augment(faces, size, random):
    """Faces uint8 (n, h, w, 1) turned, scaled, shifted and mirrored at random, as (n, size, size, 1).

    One warp does it all, the change of size included, so each pixel is interpolated once.
    """
    count, height, width = faces.shape[:3]
    zoom = size / width
    angle = np.deg2rad(random.uniform(-1, 1, count) * AUGMENTATION["rotation"])
    scale = zoom * (1 + random.uniform(-1, 1, count) * AUGMENTATION["scale"])
    shift = random.uniform(-1, 1, (count, 2)) * AUGMENTATION["shift"] * size
    mirror = random.choice((-1, 1), count)
    warps = np.empty((count, 2, 3))
    warps[:, 0, 0], warps[:, 0, 1] = mirror * scale * np.cos(angle), -scale * np.sin(angle)
    warps[:, 1, 0], warps[:, 1, 1] = mirror * scale * np.sin(angle), scale * np.cos(angle)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    warps[:, :, 2] = (size - 1) / 2 + shift - warps[:, :, :2] @ centre
    moved = [cv2.warpAffine(face, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
             for face, warp in zip(faces, warps)]
    return np.stack(moved)[..., None]


def resize(faces, size):
    """Faces (n, h, w, 1) as (n, size, size, 1)."""
    if faces.shape[1:3] == (size, size):
        return faces
    return np.stack([cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA) for face in faces])[..., None]


def face_size(epoch, epochs):
    """The size of the faces in this epoch, counted from 0; the last has the full size."""
    return next(size for part, size in SIZES if (epoch + 1) / epochs <= part)


def training_batches(faces, labels, size, batch_size, seed):
    """A keras.utils.PyDataset of one epoch's augmented batches; the incomplete last one is left out."""
    import keras

    order = np.random.default_rng(seed).permutation(len(faces))

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return max(1, len(order) // batch_size)

        def __getitem__(self, index):
            rows = order[index * batch_size:(index + 1) * batch_size]
            random = np.random.default_rng([*seed, index])
            return augment(faces[rows], size, random).astype(np.float32), labels[rows].astype(np.float32)

    return Batches()


def learning_rate(steps, batch_size):
    """The one-cycle schedule (Smith and Topin 2018): up to the peak, then a cosine down to nothing."""
    import keras

    peak, warm_up = PEAK_RATE * batch_size / BATCH_SIZE, int(WARM_UP * steps)
    return keras.optimizers.schedules.CosineDecay(peak / 10, warmup_target=peak, warmup_steps=warm_up,
                                                  decay_steps=steps - warm_up)


def processor_has_bfloat16():
    """Whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX); without that it is slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def save_checkpoint(network, path, settings, history):
    """Write weights, optimizer, settings and history into one file: all of an epoch or nothing."""
    import h5py

    with written_whole(path) as [beside]:
        network.save_weights(beside)
        with h5py.File(beside, "a") as file:
            file.attrs["settings"] = json.dumps(settings)
            file.attrs["history"] = json.dumps(history)


def read_checkpoint(path):
    """The settings and the history that save_checkpoint wrote; Keras loads the weights from the same file."""
    import h5py

    try:
        with h5py.File(path) as file:
            return json.loads(file.attrs["settings"]), json.loads(file.attrs["history"])
    except FileNotFoundError:
        raise InputError(f"{path} is not there, so there is nothing to resume: run train_model.py without --resume"
                         ) from None
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a checkpoint ({error}): run train_model.py without --resume") from None


def train(training, validation, settings, checkpoint, resume=False):
    """Train the network and return it with its history, a list of dicts, one an epoch.

    training and validation are (faces uint8 (n, 48, 48, 1), labels one-hot (n, 7)).
    """
    keras = import_keras()
    from tqdm import tqdm

    epochs, batch_size, seed = settings["epochs"], settings["batch_size"], settings["seed"]
    faces, labels = training
    steps = max(1, len(faces) // batch_size)
    keras.utils.set_random_seed(seed)
    bfloat16 = processor_has_bfloat16()
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if bfloat16 else "float32")
    network = build_network(size=None)
    network.compile(
        optimizer=keras.optimizers.SGD(learning_rate(steps * epochs, batch_size), momentum=0.9, nesterov=True,
                                       weight_decay=WEIGHT_DECAY),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=LABEL_SMOOTHING), metrics=["accuracy"],
        # Keras leaves XLA off on a processor, where it doubles the speed in float32.
        jit_compile=True if keras.backend.backend() == "tensorflow" and not bfloat16 else "auto")
    network.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    network.optimizer.build(network.trainable_variables)
    history = []
    if resume:
        history = read_checkpoint(checkpoint)[1]
        network.load_weights(checkpoint)

    work = [face_size(epoch, epochs) ** 2 for epoch in range(epochs)]  # the time a step takes is in proportion
    with tqdm(total=sum(work) * steps, initial=sum(work[:len(history)]) * steps, smoothing=0.02, disable=None,
              bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left{postfix}") as bar:

        class Progress(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                bar.update(work[len(history)])
                bar.set_postfix_str(f"loss {logs['loss']:.3f}, accuracy {logs['accuracy']:.1%}", refresh=False)

        for epoch in range(len(history), epochs):
            size = face_size(epoch, epochs)
            bar.set_description(f"epoch {epoch + 1}/{epochs}, faces {size} x {size}")
            for layer in network.layers:
                if isinstance(layer, keras.layers.Dropout):  # its chance is not in the checkpoint: draw it anew
                    layer.seed_generator.state.assign([seed, epoch])
            logs = network.fit(training_batches(faces, labels, size, batch_size, [seed, epoch]), verbose=0,
                               callbacks=[Progress()], shuffle=False).history  # they are in random order already
            loss, accuracy = network.evaluate(resize(validation[0], size).astype(np.float32), validation[1],
                                              batch_size=256, verbose=0)
            history.append({"epoch": epoch + 1, "size": size, "loss": logs["loss"][0], "accuracy": logs["accuracy"][0],
                            "val_loss": loss, "val_accuracy": accuracy})
            save_checkpoint(network, checkpoint, settings, history)
            bar.write(f"epoch {epoch + 1:3}/{epochs}: loss {logs['loss'][0]:.3f}, accuracy {logs['accuracy'][0]:.1%}, "
                      f"validation {accuracy:.1%}", file=sys.stderr)

    keras.mixed_precision.set_global_policy("float32")
    trained = build_network()
    trained.set_weights(network.get_weights())
    return trained, history


def draw_curves(history):
    """A matplotlib figure of loss and accuracy over the epochs; `history` is a pandas table."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for axes, measure, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("loss", "top-1 accuracy")):
        axes.plot(history.epoch, history[measure], label="training (augmented faces)", color="#4477aa", marker=".")
        axes.plot(history.epoch, history[f"val_{measure}"], label="validation", color="#ee6677", marker=".")
        for start in history.epoch[history["size"].diff() > 0]:  # where the faces grow
            axes.axvline(start - 0.5, color="grey", linewidth=0.8, linestyle=":")
        axes.set_xlabel("epoch (dotted: the faces grow)", fontsize=12)
        axes.set_title(name, fontsize=14)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=11)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def save_history(history, folder):
    """Write history.csv and training_curves.png."""
    import pandas as pd

    table = pd.DataFrame(history)
    with written_whole(folder / "history.csv", folder / "training_curves.png") as (rows, curves):
        table.to_csv(rows, index=False, float_format="%.5f")
        draw_curves(table).savefig(curves, dpi=100)


def load_dataset(data):
    """What preprocessing.py wrote: faces (N, 48, 48, 1), one-hot labels (N, 7), usage (N,), all uint8."""
    faces = load_array(data / "fdataX.npy", (None, FACE_SIZE, FACE_SIZE, 1), "preprocessing.py")
    labels = load_array(data / "flabels.npy", (len(faces), len(EXPRESSIONS)), "preprocessing.py")
    usage = load_array(data / "fusage.npy", (len(faces),), "preprocessing.py")
    return faces, labels, usage


def save_test_faces(data):
    """Write the PrivateTest faces and their one-hot labels, modXtest.npy and modytest.npy; return how many."""
    faces, labels, usage = load_dataset(data)
    test = usage == PRIVATE_TEST
    save_arrays({data / "modXtest.npy": faces[test], data / "modytest.npy": labels[test]})
    return test.sum()


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what preprocessing.py wrote")
    parser.add_argument("--models", type=Path, metavar="FOLDER",
                        help="where to write (default: models/, or FOLDER/models with --data FOLDER)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="times through the faces (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="faces a step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all chance (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch, with its settings")
    parser.add_argument("--export", action="store_true", help="do not train, only make model.tflite of the model")
    args = parser.parse_args(argv)
    for name in ("epochs", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more")
    if not 0 <= args.seed < 2 ** 32:
        parser.error("--seed must be 0 to 4294967295")
    models = args.models or models_folder(args.data)
    if args.export:
        export_model(load_model(models), models)
        print(f"wrote model.tflite to {models}")
        return
    checkpoint = models / "checkpoint.weights.h5"

    faces, labels, usage = load_dataset(args.data)
    settings = {"epochs": args.epochs, "batch_size": args.batch_size, "seed": args.seed}
    if args.resume:
        settings = read_checkpoint(checkpoint)[0]
    rows, validation = trainable_rows(faces, usage), usage == PUBLIC_TEST
    if not rows.any() or not validation.any():
        raise InputError(f"{args.data} holds no faces to train on or to validate on: run preprocessing.py again")
    print(f"training on {rows.sum():,} of {(usage == TRAINING).sum():,} Training faces: flat ones and those that also "
          f"stand in another split are left out; validating on {validation.sum():,}")
    test_faces = save_test_faces(args.data)

    network, history = train((faces[rows], labels[rows]), (faces[validation], labels[validation]), settings,
                             checkpoint, args.resume)
    save_model(network, models)
    save_history(history, models)
    checkpoint.unlink(missing_ok=True)
    print(f"wrote model.json, model.weights.h5, history.csv and training_curves.png to {models}: "
          f"{history[-1]['val_accuracy']:.2%} on the {validation.sum():,} validation faces")
    print(f"wrote the {test_faces:,} test faces, modXtest.npy and modytest.npy, to {args.data}")
    export_model(network, models)
    print(f"wrote model.tflite, the same for OpenCV, to {models}")


if __name__ == "__main__":
    run(main)
