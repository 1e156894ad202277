"""The model as it lies in models/: how its files are written, read and checked. No script of its own.

model.json has the layers, model.weights.h5 their values, model.tflite both for OpenCV; architecture.png shows
them. history.csv and training_curves.png are the training's. model.sha256 tells which of all these belong together.
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
from pathlib import Path

from preprocessing import DATA, EXPRESSIONS, FACE_SIZE, InputError, first_line, read_stamp, strangers, written_whole

import numpy as np

MODELS = Path(__file__).resolve().parent / "models"
STAMP = "model.sha256"
LAYERS = {  # those model.json may name, and what Keras calls them in the weights' file
    "InputLayer": "input_layer", "Rescaling": "rescaling", "Conv2D": "conv2d", "Dense": "dense",
    "BatchNormalization": "batch_normalization", "Activation": "activation", "ReLU": "re_lu",
    "LeakyReLU": "leaky_re_lu", "ELU": "elu", "Softmax": "softmax", "Flatten": "flatten", "Dropout": "dropout",
    "MaxPooling2D": "max_pooling2d", "AveragePooling2D": "average_pooling2d",
    "GlobalMaxPooling2D": "global_max_pooling2d", "GlobalAveragePooling2D": "global_average_pooling2d"}
DRAWN = {  # the layers that architecture.png shows as blocks
    "Conv2D": "convolution {} × {}", "Dense": "dense", "MaxPooling2D": "max pooling",
    "AveragePooling2D": "average pooling", "GlobalMaxPooling2D": "global max pooling",
    "GlobalAveragePooling2D": "global average pooling"}
LARGEST_JSON = 1 << 20  # bytes of model.json
CONVOLUTION = 3  # TFLite's number of it
OPERATIONS = {  # of TFLite: the kind of settings that OpenCV takes for granted, 0 where it needs none, and the inputs
    0: (11, 2), 41: (28, 2), 18: (21, 2), CONVOLUTION: (1, 3),  # add, subtract, multiply
    1: (5, 1), 17: (5, 1), 40: (27, 2), 82: (27, 2),  # average and maximum, of a window and of all
    14: (0, 1), 19: (0, 1), 98: (75, 1), 25: (9, 1), 22: (0, 2)}  # logistic, ReLU, leaky ReLU, softmax, reshape


def save_model(network, folder, history=()):
    """Write model.json, the layers, model.weights.h5, their values, model.tflite, both for OpenCV, and a picture.

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
        "model.weights.h5": lambda path: save_weights(network, path),
        "architecture.png": lambda path: draw_architecture(network).savefig(path, dpi=100)}
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


def draw_curves(history):
    """A matplotlib figure of loss and accuracy over the epochs; `history` is a pandas table."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    for axes, measure, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), ("loss", "top-1 accuracy")):
        axes.plot(history.epoch, history[measure], label="training (augmented faces)", color="#4477aa", marker=".")
        axes.plot(history.epoch, history[f"val_{measure}"], label="validation", color="#ee6677", marker=".")
        grown = history.epoch[history["size"].diff() > 0]
        for start in grown:
            axes.axvline(start - 0.5, color="grey", linewidth=0.8, linestyle=":")
        axes.set_xlabel("epoch (dotted: the faces grow)" if len(grown) else "epoch", fontsize=12)
        axes.set_title(name, fontsize=14)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=11)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def draw_architecture(network):
    """A matplotlib figure of a stack of layers: a block for what each convolution, pooling and dense layer gives.

    A block is as high as its maps, and the wider the more of them there are.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    blocks, names = [("face", FACE_SIZE, 1)], {}  # kind, size, channels; what the legend says of each kind
    for layer in network.layers:
        kind = type(layer).__name__
        if kind in DRAWN:
            *size, channels = layer.output.shape[1:]
            blocks.append((kind, size[0] if size else 1, channels))
            names.setdefault(kind, [DRAWN[kind].format(*getattr(layer, "kernel_size", ()))])
        elif len(blocks) > 1 and kind != "Flatten":
            word = {"BatchNormalization": "batch normalisation", "Dropout": "dropout"}.get(kind, kind)
            if word not in names[blocks[-1][0]]:
                names[blocks[-1][0]].append(word)
    colours = ("#4477aa", "#ccbb44", "#ee6677", "#228833", "#aa3377", "#66ccee")
    colours = {"face": "#bbbbbb", **dict(zip(names, colours))}

    figure = Figure(figsize=(14, 4.8), layout="constrained")
    axes = figure.subplots()
    left = 0
    for kind, size, channels in blocks:
        width, height, depth = 0.12 * channels ** 0.5, size / FACE_SIZE * 4, size / FACE_SIZE * 1.1
        if size == 1:
            width, height, depth = 0.25, 0.18 * channels ** 0.5, 0.1
        low, high, right = -height / 2, height / 2, left + width
        sides = (((left, low), (right, low), (right, high), (left, high)),
                 ((left, high), (right, high), (right + depth, high + depth), (left + depth, high + depth)),
                 ((right, low), (right + depth, low + depth), (right + depth, high + depth), (right, high)))
        for side, alpha in zip(sides, (1, 0.8, 0.6)):
            axes.fill(*zip(*side), facecolor=colours[kind], alpha=alpha, edgecolor="black", linewidth=0.8)
        axes.text((left + right) / 2, -2.3, f"{channels}\n{size} × {size}" if size > 1 else f"{channels}", ha="center",
                  va="top", fontsize=12, linespacing=1.4)
        left = max(right + depth, left + 0.95) + 0.2
    axes.text(-0.75, -2.3, "maps\nsize", ha="right", va="top", fontsize=12, linespacing=1.4, color="grey")
    axes.legend(handles=[Patch(facecolor=colours[kind], label=", ".join(parts)) for kind, parts in names.items()],
                loc="upper right", fontsize=12, frameon=False)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(f"{network.count_params():,} values", fontsize=14)
    return figure


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


def models_folder(data):
    """models/ for the project's own data/, a folder of its own for other data.

    So trying the chain on the sample never replaces the shipped model.
    """
    return MODELS if data.resolve() == DATA.resolve() else data / "models"


def import_keras():
    """Keras, without the notices that TensorFlow prints, past sys.stderr, as it is loaded and when it finds no GPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.ExitStack() as at_end:
        with contextlib.suppress(OSError):  # where there is no standard error
            kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            at_end.callback(lambda: (os.dup2(kept, 2), os.close(kept), os.close(nowhere)))
            os.dup2(nowhere, 2)
        import keras
    return keras


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
    """Write model.tflite and architecture.png anew, and model.sha256: that they belong to the model in `folder`."""
    with written_whole(folder / "model.tflite", folder / "architecture.png", stamp=folder / STAMP,
                       made_from=[path.name for path in model_files(folder)]) as [tflite, picture]:
        tflite.write_bytes(convert(network))
        draw_architecture(network).savefig(picture, dpi=100)


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
