"""The model's files: saved and loaded side by side.

model.json holds Keras's layers, model.weights.h5 their values, model.onnx both for OpenCV. model.sha256 names the
files of one training: model.onnx is used only when its checksum stands there.
"""
import contextlib
import json
import os

import cv2
import numpy as np

from expressions.artifacts import MODELS, mismatched_files, read_stamp, replace_when_whole, write_stamp
from expressions.console import InputError, first_line, print_status
from expressions.labels import EXPRESSIONS, FACE_SIZE

STAMP = "model.sha256"
RESTORE = "run train_model.py, or restore the shipped models/ folder"
ALLOWED_LAYERS = {
    "InputLayer", "Rescaling", "Conv2D", "Dense", "BatchNormalization", "Activation", "ReLU", "Softmax", "Flatten",
    "Dropout", "MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D"}
ACTIVATIONS = {"relu": "Relu", "softmax": "Softmax", "sigmoid": "Sigmoid", "tanh": "Tanh", "elu": "Elu"}  # in ONNX
OPSET, IR_VERSION = 13, 8  # of ONNX; old enough for every reader
PADDING = {"same": "SAME_UPPER", "valid": "VALID"}  # of Keras, of ONNX


def import_keras():
    """Import Keras without the notices that TensorFlow writes past sys.stderr. Raises InputError without it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.ExitStack() as at_end:
        with contextlib.suppress(OSError):  # where there is no standard error
            kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            at_end.callback(lambda: (os.dup2(kept, 2), os.close(kept), os.close(nowhere)))
            os.dup2(nowhere, 2)
        try:
            import keras
        except ImportError as error:
            backend = os.environ.get("KERAS_BACKEND", "tensorflow")
            raise InputError(f"Keras with the backend {backend} is not installed ({first_line(error)}): "
                             "pip install -r requirements.txt, or give another KERAS_BACKEND") from None
    return keras


def save_model(model, folder, extra=None):
    """Write model.json, model.weights.h5, model.onnx and the stamp model.sha256 into `folder`.

    `extra` is {file name: function that writes to a path}, for what belongs to the same training. Raises InputError
    if a weight is not a finite number or the layers have no place in model.onnx; the folder is then as it was.
    """
    if not all(np.isfinite(values).all() for values in model.get_weights()):
        raise InputError(f"not all weights of the network are numbers, so {folder} was left as it was: train it again")
    config = {**model_config(model), "expressions": EXPRESSIONS}
    onnx_file = to_onnx(model)
    writers = {
        "model.json": lambda path: path.write_text(json.dumps(config, indent=1) + "\n", "utf-8", newline="\n"),
        "model.weights.h5": model.save_weights,
        "model.onnx": lambda path: path.write_bytes(onnx_file),
        **(extra or {})}
    with replace_when_whole(*(folder / name for name in writers)) as temporary:
        for write, path in zip(writers.values(), temporary):
            write(path)
    write_stamp(folder / STAMP, writers)


def load_model(folder=MODELS):
    """Return the network that save_model wrote into `folder`, a keras.Sequential. Raises InputError."""
    config_path, weights_path = folder / "model.json", folder / "model.weights.h5"
    config = read_model_config(config_path)
    if not weights_path.is_file():
        raise InputError(f"{weights_path} is not there: {RESTORE}")
    for path in mismatched_files(folder / STAMP):
        if path in (config_path, weights_path):
            print_status(f"{path} does not match its checksum in {STAMP}: if that is not meant, {RESTORE}")
    keras = import_keras()
    try:
        model = keras.models.model_from_json(json.dumps(config))
        model.load_weights(weights_path)
        if model.output_shape[1:] != (len(EXPRESSIONS),):
            raise ValueError(f"it has {model.output_shape[1:]} outputs instead of {len(EXPRESSIONS)}")
        if not all(np.isfinite(values).all() for values in model.get_weights()):
            raise ValueError("not all weights are numbers")
    except Exception as error:  # Keras and h5py raise whatever they stumble over
        raise InputError(f"{config_path} and {weights_path.name} do not load ({first_line(error)}): {RESTORE}"
                         ) from None
    return model


def model_config(model):
    """Return the network's layers as Keras's JSON tree, without initial values, which the weights replace."""
    tree = json.loads(model.to_json())
    for layer in tree["config"]["layers"]:
        layer["config"] = {name: value for name, value in layer["config"].items()
                           if value is not None and not name.endswith("_initializer")}
    return tree


def read_model_config(path):
    """Return Keras's JSON tree of the network in model.json.

    Keras builds whatever such a file names, also layers that run code and classes of any module. So only a plain stack
    of ALLOWED_LAYERS from grey faces to these expressions is accepted. Raises InputError.
    """
    def check(node):
        """Called for every JSON object at any depth."""
        kind, module = node.get("class_name"), node.get("module")
        if kind is not None and not ((module == "keras" and kind in ("Sequential", "DTypePolicy"))
                                     or (module == "keras.layers" and kind in ALLOWED_LAYERS)
                                     or module == "keras.initializers"):
            raise ValueError(f"it names {module}.{kind}, which is not among {', '.join(sorted(ALLOWED_LAYERS))}")
        return {name: value for name, value in node.items() if name not in ("registered_name", "build_config")}

    try:
        tree = json.loads(path.read_text("utf-8"), object_hook=check)
        if tree["class_name"] != "Sequential":
            raise ValueError(f"it is a {tree['class_name']} instead of a Sequential")
        shapes = [layer["config"]["batch_shape"] for layer in tree["config"]["layers"]
                  if layer["class_name"] == "InputLayer"]
        if shapes != [[None, FACE_SIZE, FACE_SIZE, 1]]:
            raise ValueError(f"it takes {shapes} instead of grey faces of {FACE_SIZE} x {FACE_SIZE} pixels")
        if not {"Rescaling", "BatchNormalization"} & {layer["class_name"] for layer in tree["config"]["layers"][:2]}:
            raise ValueError("it does not scale its pixels: begin it with keras.layers.Rescaling(1 / 255), or however "
                             "it was trained, as faces come with values from 0 to 255")
    except FileNotFoundError:
        raise InputError(f"{path} is not there: {RESTORE}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is not a model that is loaded here ({first_line(error)}): {RESTORE}") from None
    expressions = tree.pop("expressions", list(EXPRESSIONS))
    if expressions != list(EXPRESSIONS):
        raise InputError(f"{path} recognises {expressions} instead of {list(EXPRESSIONS)}, in this order: "
                         "train it on these, or restore the shipped models/ folder")
    return tree


def to_onnx(model):
    """Return a stack of layers as the bytes of an ONNX file: faces float32 (n, 1, 48, 48) → probabilities (n, 7).

    Batch normalisation is folded into a convolution or dense layer before it. Works with every Keras backend. Raises
    InputError where a layer cannot be written.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise InputError("saving a model needs the package onnx: pip install -r requirements.txt") from None
    nodes, constants = [], []

    def add(operator, *values, **attributes):
        names = [f"constant{len(constants) + index}" for index in range(len(values))]
        constants.extend(map(numpy_helper.from_array, map(np.ascontiguousarray, values), names))
        before = nodes[-1].output[0] if nodes else "faces"
        nodes.append(helper.make_node(operator, [before, *names], [f"output{len(nodes)}"], **attributes))

    folded = None
    for layer, following in zip(model.layers, [*model.layers[1:], None]):
        if layer is folded:
            continue
        linear = type(layer).__name__ in ("Conv2D", "Dense") and layer.activation.__name__ == "linear"
        folded = following if linear and type(following).__name__ == "BatchNormalization" else None
        _add_layer(add, layer, folded)
    nodes[-1].output[0] = "probabilities"
    faces = helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 1, FACE_SIZE, FACE_SIZE])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(EXPRESSIONS)])
    graph = helper.make_graph(nodes, "expressions", [faces], [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                             ir_version=IR_VERSION).SerializeToString()


def _add_layer(add, layer, normalisation):
    """Add the ONNX nodes of a Keras layer, and of the batch normalisation that is folded into it, if any.

    `add` is as in to_onnx. Keras has channels last, ONNX channels first.
    """
    kind = type(layer).__name__
    if kind == "Rescaling":
        add("Mul", np.float32(layer.scale))
        add("Add", np.float32(layer.offset))
    elif kind == "BatchNormalization":
        for operator, values in zip(("Mul", "Add"), _scale_and_shift(layer)):
            add(operator, values.reshape(-1, 1, 1) if len(layer.input.shape) == 4 else values)
    elif kind in ("Conv2D", "Dense"):
        kernel, bias = [*layer.get_weights(), np.zeros(layer.kernel.shape[-1], np.float32)][:2]
        if normalisation:
            scale, shift = _scale_and_shift(normalisation)
            kernel, bias = kernel * scale, bias * scale + shift
        if kind == "Dense":
            add("Gemm", kernel, bias)
        else:
            add("Conv", kernel.transpose(3, 2, 0, 1), bias, strides=layer.strides, dilations=layer.dilation_rate,
                group=layer.groups, auto_pad=PADDING[layer.padding])
    elif kind in ("MaxPooling2D", "AveragePooling2D"):
        add(kind.removesuffix("ing2D"), kernel_shape=layer.pool_size, strides=layer.strides,
            auto_pad=PADDING[layer.padding])
    elif kind in ("GlobalMaxPooling2D", "GlobalAveragePooling2D"):
        add(kind.removesuffix("ing2D"))
        add("Flatten")
    elif kind == "Flatten":
        add("Transpose", perm=[0, 2, 3, 1])
        add("Flatten")
    elif kind not in ALLOWED_LAYERS or getattr(layer, "max_value", None) or getattr(layer, "negative_slope", None):
        raise InputError(f"model.onnx cannot hold the layer {layer.name}: build the network of plain "
                         f"{', '.join(sorted(ALLOWED_LAYERS))}")
    name = layer.activation.__name__ if hasattr(layer, "activation") else kind.lower()
    if name in ACTIVATIONS:
        add(ACTIVATIONS[name])
    elif hasattr(layer, "activation") and name != "linear":
        raise InputError(f"model.onnx cannot hold the activation {name} of the layer {layer.name}: "
                         f"take one of {', '.join(ACTIVATIONS)}")


def _scale_and_shift(normalisation):
    """Return what a batch normalisation does with its moving averages, float32 (channels,) each."""
    mean, variance = np.array(normalisation.moving_mean), np.array(normalisation.moving_variance)
    scale = (np.array(normalisation.gamma) if normalisation.scale else 1) / np.sqrt(variance + normalisation.epsilon)
    shift = (np.array(normalisation.beta) if normalisation.center else 0) - mean * scale
    return np.float32(scale), np.float32(shift)


def onnx_bytes(folder=MODELS):
    """Return the bytes of model.onnx in `folder`. Raises InputError unless all files agree with the stamp.

    OpenCV can crash at a damaged file, so only one that train_model.py wrote is read.
    """
    path = folder / "model.onnx"
    read_model_config(folder / "model.json")
    if not path.is_file():
        raise InputError(f"{path} is not there: {RESTORE}")
    names = {changed.name for changed in mismatched_files(folder / STAMP)}
    if path.name not in read_stamp(folder / STAMP) or names & {"model.json", "model.weights.h5", "model.onnx"}:
        raise InputError(f"{path} does not belong to the other files of {folder}, by {STAMP}: {RESTORE}")
    return path.read_bytes()


def load_classifier(model=MODELS):
    """Return a function: grey faces uint8 (n, 48, 48, 1) → probabilities float32 (n, 7), computed by OpenCV.

    `model` is a models folder, or the bytes of its model.onnx. The function is for one thread at a time. Raises
    InputError where the model cannot be loaded.
    """
    content = model if isinstance(model, bytes) else onnx_bytes(model)
    network = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))

    def classify(faces):
        network.setInput(faces.transpose(0, 3, 1, 2).astype(np.float32))
        return network.forward().reshape(len(faces), len(EXPRESSIONS))

    return classify
