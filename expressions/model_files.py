"""The model's files: saved and loaded side by side.

model.json holds Keras's layers, model.weights.h5 their values, model.onnx both for OpenCV. model.sha256 names the
files of one training: model.onnx is used only when its checksum stands there. In place of the folder Keras's own
.keras and .h5 files will do.
"""
import json
import os
import zipfile
from pathlib import Path

import cv2
import numpy as np

from expressions.artifacts import MODELS, read_stamp, require_same_run, save_together
from expressions.console import InputError, catch_library_messages, first_line
from expressions.labels import EXPRESSIONS, FACE_SIZE

STAMP = "model.sha256"
RESTORE = "run train_model.py, or restore the shipped models/ folder"
ALLOWED_LAYERS = {
    "InputLayer", "Rescaling", "Conv2D", "Dense", "BatchNormalization", "Activation", "ReLU", "Softmax", "Flatten",
    "Dropout", "MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D"}
ALLOWED = {"keras.Sequential", "keras.DTypePolicy", *(f"keras.layers.{kind}" for kind in ALLOWED_LAYERS)}
ACTIVATIONS = {"relu": "Relu", "softmax": "Softmax", "tanh": "Tanh"}  # in ONNX
OPSET, IR_VERSION = 13, 8  # of ONNX; old enough for every reader
PADDING = {"same": "SAME_UPPER", "valid": "VALID"}  # of Keras, of ONNX


def import_keras():
    """Import Keras without the notices that TensorFlow writes past sys.stderr. Raises InputError without it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # older processors, too, then train in 2/3 of the time
    try:
        with catch_library_messages():
            import keras
    except (ImportError, ValueError) as error:
        raise InputError(f"no Keras, or no backend ({first_line(error)}): pip install -r requirements.txt") from None
    return keras


def save_model(model, folder, extra=None):
    """Write model.json, model.weights.h5, model.onnx and the stamp model.sha256 into `folder`.

    `extra` is {file name: function that writes to a path}, for what belongs to the same training. Raises InputError
    if a weight is not a finite number or the layers have no place in model.onnx; the folder is then as it was.
    """
    if not all(np.isfinite(values).all() for values in model.get_weights()):
        raise InputError(f"not all weights are numbers, so {folder} was left as it was: train the network again")
    folder = Path(folder)
    onnx_file, tree = to_onnx(model), {**json.loads(model.to_json()), "expressions": EXPRESSIONS}
    for layer in tree["config"]["layers"]:  # without initial values, which older Keras may not know
        layer["config"] = {name: value for name, value in layer["config"].items()
                           if value is not None and not name.endswith("_initializer")}
    save_together(folder, STAMP, {
        "model.json": lambda path: path.write_text(json.dumps(tree, indent=1) + "\n", "utf-8", newline="\n"),
        "model.weights.h5": model.save_weights,
        "model.onnx": lambda path: path.write_bytes(onnx_file),
        **(extra or {})})


def load_model(folder=MODELS):
    """Return the network in a models folder, or in a file that Keras saved, a keras.Sequential. Raises InputError."""
    config, keras = read_model_config(folder), import_keras()
    try:
        model = keras.models.model_from_json(json.dumps(config))
        model.load_weights(folder if folder.is_file() else folder / "model.weights.h5")
    except Exception as error:  # Keras and h5py raise whatever they stumble over
        raise InputError(f"the model in {folder} does not load ({first_line(error)}): {RESTORE}") from None
    return model


def read_model_config(folder):
    """Return Keras's JSON tree of the network in model.json, or in a .keras or .h5 file.

    Keras builds whatever such a file names, also layers that run code and classes of any module. So only a plain stack
    of ALLOWED_LAYERS from grey faces to these expressions is accepted. Raises InputError, also where files are not of
    the run that the stamp names.
    """
    def check(node):
        """Called for every JSON object at any depth."""
        name = f"{node.get('module', 'keras.layers')}.{node.get('class_name')}"  # an .h5 file's have no module
        if "class_name" in node and name not in ALLOWED and node.get("module") != "keras.initializers":
            raise ValueError(f"it names {name}, which is not among {', '.join(sorted(ALLOWED_LAYERS))}")
        return node

    is_file = folder.is_file()
    path = folder if is_file else folder / "model.json"
    if not is_file:
        require_same_run(folder / STAMP, RESTORE, ignored=("history.csv", "training_curves.png"))
    try:
        tree = json.loads(_read_keras_file(path) if is_file else path.read_text("utf-8"), object_hook=check)
        shape = tree["config"]["layers"][0]["config"]["batch_shape"]
        expressions = tree.pop("expressions", [*EXPRESSIONS])
        if (tree["class_name"], shape, expressions) != ("Sequential", [None, FACE_SIZE, FACE_SIZE, 1], [*EXPRESSIONS]):
            raise ValueError(f"it is not a Sequential from grey faces of {FACE_SIZE} x {FACE_SIZE} pixels to "
                             f"{', '.join(EXPRESSIONS)}")
        if tree["config"]["layers"][1]["class_name"] not in ("Rescaling", "BatchNormalization"):
            raise ValueError("it does not scale its pixels: begin it with keras.layers.Rescaling(1 / 255), or however "
                             "it was trained, as faces come with values from 0 to 255")
    except Exception as error:  # a damaged tree fails in many ways
        raise InputError(f"{path} is missing, or no model to load here ({first_line(error)}): {RESTORE}") from None
    return tree


def _read_keras_file(path):
    """Return the JSON of the layers in a .keras file, which is a ZIP archive, or an .h5 file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            tree = json.loads(file.read("config.json"))
    else:
        import h5py
        with h5py.File(path) as file:
            tree = json.loads(file.attrs["model_config"])
    return json.dumps({"module": "keras", "class_name": tree["class_name"], "config": tree["config"]})


def to_onnx(model):
    """Return a model as the bytes of ONNX: faces float32 (n, 1, 48, 48) → probabilities (n, 7). Raises InputError."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, output = [], [], "faces"
    for layer in model.layers:
        for operator, values, attributes in _onnx_operators(layer):
            names = [f"constant{len(constants) + index}" for index in range(len(values))]
            constants += [numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
                          for array, name in zip(values, names)]
            nodes.append(helper.make_node(operator, [output, *names], [f"output{len(nodes)}"], **attributes))
            output = nodes[-1].output[0]
    nodes[-1].output[0] = "probabilities"
    graph = helper.make_graph(
        nodes, "expressions",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["n", 1, FACE_SIZE, FACE_SIZE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(EXPRESSIONS)])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                             ir_version=IR_VERSION).SerializeToString()


def _onnx_operators(layer):
    """Yield the ONNX operators of a Keras layer as (name, arrays, attributes).

    Keras has channels last, ONNX channels first. OpenCV folds a batch normalisation into the layer before it.
    """
    kind, weights = type(layer).__name__, layer.get_weights()
    if kind == "Rescaling":
        yield "Mul", [layer.scale], {}
        yield "Add", [layer.offset], {}
    elif kind == "BatchNormalization":
        mean, variance = weights[-2:]
        scale = layer.gamma if layer.scale else np.ones_like(mean)
        shift = layer.beta if layer.center else np.zeros_like(mean)
        yield kind, [scale, shift, mean, variance], {"epsilon": layer.epsilon}
    elif kind == "Conv2D":
        yield "Conv", [weights[0].transpose(3, 2, 0, 1), *weights[1:]], {
            "strides": layer.strides, "dilations": layer.dilation_rate, "group": layer.groups,
            "auto_pad": PADDING[layer.padding]}
    elif kind == "Dense":
        yield "Gemm", weights, {}
    elif kind in ("MaxPooling2D", "AveragePooling2D"):
        yield kind.removesuffix("ing2D"), [], {"kernel_shape": layer.pool_size, "strides": layer.strides,
                                               "auto_pad": PADDING[layer.padding]}
    elif kind in ("GlobalMaxPooling2D", "GlobalAveragePooling2D"):
        yield kind.removesuffix("ing2D"), [], {}
        yield "Flatten", [], {}
    elif kind == "Flatten":
        yield "Transpose", [], {"perm": [0, 2, 3, 1]}
        yield "Flatten", [], {}
    name = layer.activation.__name__ if hasattr(layer, "activation") else kind.lower()
    if name in ACTIVATIONS:
        yield ACTIVATIONS[name], [], {}
    if (kind not in ALLOWED_LAYERS or getattr(layer, "max_value", None) or getattr(layer, "negative_slope", None)
            or (hasattr(layer, "activation") and name not in (*ACTIVATIONS, "linear"))):
        raise InputError(f"model.onnx cannot hold the layer {layer.name}: take {', '.join(sorted(ALLOWED_LAYERS))}, "
                         f"with the activations {', '.join(ACTIVATIONS)}")


def onnx_bytes(folder=MODELS):
    """Return the bytes of model.onnx in a models folder, or made of a file that Keras saved; of bytes themselves.

    Raises InputError, also unless all files in the folder agree with the stamp.
    """
    if isinstance(folder, bytes):
        return folder
    if folder.is_file():
        return to_onnx(load_model(folder))
    path = folder / "model.onnx"
    read_model_config(folder)  # OpenCV can crash at a damaged file: only what train_model.py wrote is read
    if not path.is_file() or path.name not in read_stamp(folder / STAMP):
        raise InputError(f"{path} is not there, or {STAMP} does not name it: {RESTORE}")
    return path.read_bytes()


def load_classifier(model=MODELS):
    """Return a function: grey faces uint8 (n, 48, 48, 1) → probabilities float32 (n, 7), computed by OpenCV.

    `model` is a models folder, a file that Keras saved, or the bytes of model.onnx. For one thread at a time. Raises
    InputError.
    """
    network = cv2.dnn.readNetFromONNX(np.frombuffer(onnx_bytes(model), np.uint8))

    def classify(faces):
        rows = []
        for face in faces:  # one at a time: whenever their number changes OpenCV prepares anew, which takes 4 ms
            network.setInput(cv2.dnn.blobFromImage(face))
            rows.append(network.forward()[0])
        return np.float32(rows).reshape(-1, len(EXPRESSIONS))

    return classify
