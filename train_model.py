"""Train the network on the arrays of preprocessing.py.

Reads fdataX.npy, flabels.npy and fusage.npy from data/. Trains on Training, validates on
PublicTest after each epoch, and never looks at how it does on PrivateTest.
Writes models/model.json and models/model.weights.h5, the same for OpenCV as models/model.tflite,
models/history.csv and models/training_curves.png, with models/model.sha256, which tells that these belong
together; into data/ modXtest.npy and modytest.npy, the test faces.

$ python train_model.py
$ python train_model.py --resume      # go on after an interruption
$ python train_model.py --export      # only make model.tflite anew
"""
import collections
import contextlib
import inspect
import io
import json
import math
import os
import struct
import sys
import tempfile
from pathlib import Path

from preprocessing import (
    DATA,
    EXPRESSIONS,
    FACE_SIZE,
    PRIVATE_TEST,
    PUBLIC_TEST,
    TRAINING,
    InputError,
    check_stamp,
    first_line,
    flat,
    identities,
    load_array,
    read_stamp,
    run,
    save_arrays,
    script_parser,
    strangers,
    written_whole,
)

import cv2
import numpy as np

MODELS = Path(__file__).resolve().parent / "models"
STAMP = "model.sha256"
EPOCHS = 36
BATCH_SIZE = 128
SIZES = ((0.4, 32), (0.84, 40), (1.0, FACE_SIZE))  # up to this part of the epochs, faces of this size: small is fast
PEAK_RATE = 0.1  # of the one-cycle schedule, for batches of 128; others in proportion (Goyal et al. 2017)
WARM_UP = 0.2  # the part of training in which the rate climbs to its peak
WEIGHT_DECAY = 5e-3  # Keras multiplies it by the rate: the usual 5e-4 with momentum 0.9
LABEL_SMOOTHING = 0.1
LAYERS = {  # those model.json may name, and what Keras calls them in the weights' file
    "InputLayer": "input_layer", "Rescaling": "rescaling", "Conv2D": "conv2d", "Dense": "dense",
    "BatchNormalization": "batch_normalization", "Activation": "activation", "ReLU": "re_lu",
    "LeakyReLU": "leaky_re_lu", "ELU": "elu", "Softmax": "softmax", "Flatten": "flatten", "Dropout": "dropout",
    "MaxPooling2D": "max_pooling2d", "AveragePooling2D": "average_pooling2d",
    "GlobalMaxPooling2D": "global_max_pooling2d", "GlobalAveragePooling2D": "global_average_pooling2d"}
LARGEST_JSON = 1 << 20  # bytes of model.json
CONVOLUTION = 3  # TFLite's number of it
OPERATIONS = {  # of TFLite: the kind of settings that OpenCV takes for granted, 0 where it needs none, and the inputs
    0: (11, 2), 41: (28, 2), 18: (21, 2), CONVOLUTION: (1, 3),  # add, subtract, multiply
    1: (5, 1), 17: (5, 1), 40: (27, 2), 82: (27, 2),  # average and maximum, of a window and of all
    14: (0, 1), 19: (0, 1), 98: (75, 1), 25: (9, 1), 22: (0, 2)}  # logistic, ReLU, leaky ReLU, softmax, reshape
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


def save_model(network, folder, history=()):
    """Write model.json, the layers, model.weights.h5, their values, and model.tflite, both for OpenCV.

    With a history, a list of dicts, one an epoch, also history.csv and training_curves.png. All
    of them or none, and their stamp, model.sha256.
    """
    import keras
    import pandas as pd

    if not all(np.isfinite(weights).all() for weights in network.get_weights()):
        raise InputError(f"not all weights of the network are numbers, so {folder} was left as it was: train it again")
    makers = {
        "model.json": lambda path: path.write_text(
            json.dumps({**layers_of(network), "expressions": EXPRESSIONS}, indent=1) + "\n", "utf-8", newline="\n"),
        "model.weights.h5": lambda path: save_weights(network, path)}
    if keras.backend.backend() == "tensorflow":
        makers["model.tflite"] = lambda path: path.write_bytes(convert(network))
    if history:
        table = pd.DataFrame(history)
        makers["history.csv"] = lambda path: table.to_csv(path, index=False, float_format="%.5f")
        makers["training_curves.png"] = lambda path: draw_curves(table).savefig(path, dpi=100)
    with written_whole(*(folder / name for name in makers), stamp=folder / STAMP) as beside:
        for make, path in zip(makers.values(), beside):
            make(path)


def save_weights(network, path):
    """Keras's save_weights with an OSError where the disk is full: there HDF5 would end the process.

    Hence the room for it is taken before, and given back as the file is begun again.
    """
    variables = [*network.weights, *getattr(getattr(network, "optimizer", None), "variables", [])]
    values = sum(np.prod(variable.shape) * 4 for variable in variables)
    path.write_bytes(bytes(int(values) + (1 << 20)))
    network.save_weights(path)


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
    tree = read_layers(layers)
    for stranger in set(strangers(folder / STAMP)) & {layers, weights}:
        print(f"{stranger} is not of the run that {STAMP} tells of: run train_model.py --export if it belongs there, "
              "or restore the models/ folder", file=sys.stderr)
    keras = import_keras()
    try:
        check_weights(weights, tree)
        network = keras.models.model_from_json(json.dumps(tree))
        network.load_weights(weights)
        if network.output_shape[1:] != (len(EXPRESSIONS),):
            raise ValueError(f"it has {network.output_shape[1:]} outputs instead of {len(EXPRESSIONS)}")
        if not all(np.isfinite(values).all() for values in network.get_weights()):
            raise ValueError("not all weights are numbers")
    except Exception as error:  # Keras and h5py raise whatever they stumble over
        raise InputError(f"{layers} and {weights.name} do not load ({first_line(error)}): "
                         "run train_model.py, or restore the shipped models/ folder") from None
    return network


def model_files(folder):
    """The paths of model.json and model.weights.h5, which are there."""
    read_stamp(folder / STAMP)
    paths = folder / "model.json", folder / "model.weights.h5"
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path} is not there: run train_model.py, or restore the shipped models/ folder")
    return paths


def read_layers(path):
    """Keras's JSON of the network in model.json, if it is a plain stack of layers for these faces and expressions.

    Keras builds what such a file names, layers that run code and classes of any module: those are refused here.
    """
    try:
        tree = json.loads(path.read_bytes()[:LARGEST_JSON])
        stack = tree["config"]["layers"]
        if tree["class_name"] != "Sequential" or tree["module"] != "keras":
            raise ValueError(f"it is a {tree['class_name']} instead of a Sequential")
        for layer in stack:
            if layer["class_name"] not in LAYERS or layer["module"] != "keras.layers":
                raise ValueError(f"its layer {layer['module']}.{layer['class_name']} is not among {', '.join(LAYERS)}")
            for part in _objects(layer["config"]):
                if part.get("module") not in ("keras", "keras.initializers") or not (
                        part["class_name"] == "DTypePolicy" or part["module"] == "keras.initializers"):
                    raise ValueError(f"it names {part.get('module')}.{part['class_name']}, which is not loaded")
        shapes = [layer["config"]["batch_shape"] for layer in stack if layer["class_name"] == "InputLayer"]
        if shapes != [[None, FACE_SIZE, FACE_SIZE, 1]]:
            raise ValueError(f"it takes faces of the shape {shapes} instead of {FACE_SIZE} x {FACE_SIZE} grey pixels")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is no model that is loaded here ({type(error).__name__}: {first_line(error)}): "
                         "run train_model.py, or restore the shipped models/ folder") from None
    expressions = tree.get("expressions")
    if expressions is None:
        print(f"{path} does not say which expressions it tells apart: taking them for {', '.join(EXPRESSIONS)}",
              file=sys.stderr)
    elif expressions != list(EXPRESSIONS):
        raise InputError(f"{path} tells apart {expressions} instead of {list(EXPRESSIONS)}, in this order: "
                         "train it on these, or restore the shipped models/ folder")
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "expressions", "layers": [
        {name: layer[name] for name in ("module", "class_name", "config")} | {"registered_name": None}
        for layer in stack]}}


def _objects(tree):
    """All that a tree of JSON has Keras build: dicts with a class_name, at any depth."""
    if isinstance(tree, dict):
        if "class_name" in tree:
            yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from _objects(part)


def check_weights(path, tree):
    """Raise ValueError unless the weights' file has values for just the layers of the tree.

    Before they are built: a file of a kilobyte can ask for layers of a terabyte, or for another file's values.
    """
    import h5py

    values = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: values.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        for name, value in values.items():
            if value.external or value.is_virtual or value.id.get_storage_size() != value.nbytes:
                raise ValueError(f"its values {name} are not plain values")
        wanted, seen = {}, collections.Counter()
        for layer in tree["config"]["layers"]:
            settings, kind = layer["config"], LAYERS[layer["class_name"]]
            name = f"layers/{kind}_{seen[kind]}" if seen[kind] else f"layers/{kind}"
            seen[kind] += 1
            if kind in ("conv2d", "dense"):
                shape = (*settings["kernel_size"], settings["filters"]) if kind == "conv2d" else (settings["units"],)
                wanted[name] = 1 + settings.get("use_bias", True)
                kernel = values[f"{name}/vars/0"].shape
                if (*kernel[:-2], kernel[-1]) != shape:
                    raise ValueError(f"{layer['class_name']} {settings.get('name')} asks for {shape}, its values are "
                                     f"{kernel}: they are those of another network")
            elif kind == "batch_normalization":
                wanted[name] = 2 + settings.get("scale", True) + settings.get("center", True)
        names = {f"{name}/vars/{number}" for name, count in wanted.items() for number in range(count)}
        if names != {name for name in values if not name.startswith("layers/dropout")}:  # they keep their chance's seed
            raise ValueError("its values are those of another network")


def export_model(network, folder):
    """Write model.tflite anew, and model.sha256, which says that it belongs to the model in `folder`."""
    with written_whole(folder / "model.tflite", stamp=folder / STAMP,
                       made_from=[path.name for path in model_files(folder)]) as [tflite]:
        tflite.write_bytes(convert(network))


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
            return type(layer)(keepdims=True, name=f"{layer.name}_kept")
        if isinstance(layer, layers.Dense):  # OpenCV 4.14 leaves out its bias, but not that of a 1 x 1 convolution
            return layers.Conv2D(layer.units, 1, name=f"{layer.name}_as_convolution",
                                 activation=None if layer is network.layers[-1] else layer.activation)
        return layer

    fixed = keras.Sequential([
        # A fixed batch: with a free one the converter emits a SHAPE operation that OpenCV cannot read.
        keras.Input(batch_shape=(1, FACE_SIZE, FACE_SIZE, 1)),
        *map(as_opencv_reads_it, network.layers),
        layers.Flatten(name="probabilities_flat"),
        layers.Activation(network.layers[-1].activation, name="probabilities"),
    ])
    fixed.set_weights([weight.reshape(variable.shape)
                       for weight, variable in zip(network.get_weights(), fixed.weights)])
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its temporary files are
        return tf.lite.TFLiteConverter.from_keras_model(fixed).convert()


def check_tflite(model):
    """Raise ValueError unless the bytes of a TFLite file are a plain network's, with all that its parts refer to.

    OpenCV takes that for granted and crashes where it is not so. Fields have the numbers of TensorFlow's schema.fbs.
    """
    def number(at, form="<I"):
        return struct.unpack_from(form, model, at)[0]

    def field(table, index):  # where it stands; None where it is left out
        fields = table - number(table, "<i")
        offset = number(fields + 4 + 2 * index, "<H") if 4 + 2 * index < number(fields, "<H") else 0
        return table + offset if offset else None

    def value(table, index, form="<I"):
        at = field(table, index)
        return 0 if at is None else number(at, form)

    def vector(table, index, kind="<i4"):
        at = field(table, index)
        at += number(at)
        return np.frombuffer(model, kind, number(at), at + 4)

    def tables(table, index):
        at = field(table, index)
        at += number(at)
        return [place + number(place) for place in range(at + 4, at + 4 + 4 * number(at), 4)]

    try:
        root = number(0)
        [graph], buffers = tables(root, 2), tables(root, 4)
        codes = [max(value(code, 0, "<b"), value(code, 3, "<i")) for code in tables(root, 1)]
        shapes, constants = [], set()
        for index, tensor in enumerate(tables(graph, 0)):
            shape, buffer = vector(tensor, 0), buffers[value(tensor, 2)]
            is_named, is_plain = field(tensor, 3), value(tensor, 1, "<b") in (0, 2)  # float32, int32
            if not is_named or not is_plain or len(shape) > 4 or (shape < 1).any():
                raise ValueError("a tensor without a name, or of an unknown shape or kind")
            shapes.append(shape.tolist())
            if field(buffer, 0):
                constants.add(index)
                if len(vector(buffer, 0, np.uint8)) != 4 * math.prod(shapes[index]):
                    raise ValueError("a tensor without all its values")
        unmade = {*range(len(shapes))} - constants
        [last] = vector(graph, 1).tolist()
        unmade.remove(last)
        if shapes[last] != [1, FACE_SIZE, FACE_SIZE, 1]:
            raise ValueError("it takes other faces")
        for operation in tables(graph, 3):
            code = codes[value(operation, 0)]
            settings, count = OPERATIONS[code]
            inputs, [output] = vector(operation, 1).tolist(), vector(operation, 2).tolist()
            if len(inputs) != count or inputs[0] != last or not {*inputs[1:]} <= constants:
                raise ValueError("an operation without its inputs")
            if settings and not (value(operation, 3, "<B") == settings and field(operation, 4)):
                raise ValueError("an operation without its settings")
            if code == CONVOLUTION:
                filters, _, _, depth = shapes[inputs[1]]
                if depth != shapes[last][-1] or shapes[inputs[2]] != [filters]:
                    raise ValueError("a convolution of other shapes")
            unmade.remove(output)
            last = output
        if vector(graph, 2).tolist() != [last]:
            raise ValueError("another output")
    except (struct.error, LookupError, TypeError) as error:
        raise ValueError(f"it refers to what is not there: {error}") from None


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
        save_weights(network, beside)
        with h5py.File(beside, "a") as file:
            file.attrs["settings"] = json.dumps(settings)
            file.attrs["history"] = json.dumps(history)


def read_checkpoint(path):
    """The settings and the history that save_checkpoint wrote; Keras loads the weights from the same file."""
    import h5py

    if not path.is_file():
        raise InputError(f"{path} is not there, so there is nothing to resume: run train_model.py without --resume")
    try:
        with h5py.File(path) as file:
            settings, history = json.loads(file.attrs["settings"]), json.loads(file.attrs["history"])
        if settings["epochs"] < len(history) or settings["batch_size"] < 1 or settings["seed"] < 0:
            raise ValueError(f"its settings are {settings}")
        return settings, [dict(row) for row in history]
    except Exception as error:  # h5py raises whatever it stumbles over
        raise InputError(f"{path} is not a whole checkpoint ({first_line(error)}): "
                         "run train_model.py without --resume") from None


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
        try:
            network.load_weights(checkpoint)
        except Exception as error:  # Keras and h5py raise whatever they stumble over
            raise InputError(f"{checkpoint} is not a whole checkpoint of this network ({first_line(error)}): "
                             "run train_model.py without --resume") from None

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
            if not np.isfinite(logs["loss"][0]):
                raise InputError(f"the loss of epoch {epoch + 1} is no number: train again with another --seed or "
                                 "--batch-size")
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


def load_dataset(data):
    """What preprocessing.py wrote: faces (N, 48, 48, 1), one-hot labels (N, 7), usage (N,), all uint8."""
    check_stamp(data / "fdataX.sha256", "run preprocessing.py again")
    faces = load_array(data / "fdataX.npy", (None, FACE_SIZE, FACE_SIZE, 1), "preprocessing.py")
    labels = load_labels(data / "flabels.npy", len(faces), "preprocessing.py")
    usage = load_array(data / "fusage.npy", (len(faces),), "preprocessing.py")
    if (usage > PRIVATE_TEST).any():
        raise InputError(f"{data / 'fusage.npy'} holds something else than 0, 1 and 2: run preprocessing.py again")
    return faces, labels, usage


def load_labels(path, count, made_by):
    """One-hot labels uint8 (count, 7)."""
    labels = load_array(path, (count, len(EXPRESSIONS)), made_by)
    if (labels.max(axis=1) != 1).any() or (labels.sum(axis=1) != 1).any():
        raise InputError(f"{path} holds something else than a single 1 in each row: run {made_by} again")
    return labels


def save_test_faces(data):
    """Write the PrivateTest faces and their one-hot labels, modXtest.npy and modytest.npy; return how many."""
    faces, labels, usage = load_dataset(data)
    test = usage == PRIVATE_TEST
    save_arrays({data / "modXtest.npy": faces[test], data / "modytest.npy": labels[test]},
                made_from=["fdataX.npy", "flabels.npy", "fusage.npy"])
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
    settings = {"epochs": args.epochs, "batch_size": args.batch_size, "seed": args.seed,
                "data": read_stamp(args.data / "fdataX.sha256")}
    if args.resume:
        begun, settings = settings, read_checkpoint(checkpoint)[0]
        if settings.get("data") != begun["data"]:
            raise InputError(f"{checkpoint} was made from other faces than those in {args.data}: "
                             "run train_model.py without --resume")
    models.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=models).close()  # whether it can be written to, before hours of training
    rows, validation = trainable_rows(faces, usage), usage == PUBLIC_TEST
    if not rows.any() or not validation.any():
        raise InputError(f"{args.data} holds no faces to train on or to validate on: run preprocessing.py again")
    print(f"training on {rows.sum():,} of {(usage == TRAINING).sum():,} Training faces: flat ones and those that also "
          f"stand in another split are left out; validating on {validation.sum():,}")
    test_faces = save_test_faces(args.data)
    try:
        network, history = train((faces[rows], labels[rows]), (faces[validation], labels[validation]), settings,
                                 checkpoint, args.resume)
        save_model(network, models, history)
    except KeyboardInterrupt:
        kept, history = read_checkpoint(checkpoint) if checkpoint.exists() else (None, ())
        if kept != settings:
            raise
        raise KeyboardInterrupt(f"{len(history)} of {settings['epochs']} epochs are kept, and the model is as it was; "
                                "give the same command with --resume to go on") from None
    checkpoint.unlink(missing_ok=True)
    files = [name for name in read_stamp(models / STAMP) if name != "model.json"]
    print(f"wrote model.json, {', '.join(files)} and {STAMP} to {models}: "
          f"{history[-1]['val_accuracy']:.2%} on the {validation.sum():,} validation faces")
    print(f"wrote the {test_faces:,} test faces, modXtest.npy and modytest.npy, to {args.data}")


if __name__ == "__main__":
    run(main)
