"""Train the network on the arrays of preprocessing.py.

Reads fdataX.npy, flabels.npy and fusage.npy from data/, and fvotes.npy for --labels both or ferplus.
Trains on Training, validates on PublicTest after each epoch, and never looks at how it does on PrivateTest.
Writes models/model.json and models/model.weights.h5, the same for OpenCV as models/model.tflite,
models/architecture.png, models/history.csv and models/training_curves.png, with models/model.sha256, which
tells that these belong together; into data/ modXtest.npy and modytest.npy, the test faces.

$ python train_model.py
$ python train_model.py --quick       # ten minutes on two cores, and less sure
$ python train_model.py --resume      # go on after an interruption
$ python train_model.py --after data/first data/second   # refine the second model, which learns from both
$ python train_model.py --export      # only make model.tflite and architecture.png anew
$ KERAS_BACKEND=torch python train_model.py
"""
import contextlib
import json
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
    written_whole,
)
from saved_model import STAMP, export_model, import_keras, load_model, models_folder, save_model, save_weights

import cv2
import numpy as np

BATCH_SIZE = 128
THOROUGH = {
    "epochs": 84,
    "refining": 2 / 7,  # the part of the epochs, the last ones, that is as REFINING says
    "sizes": ((0.4, 32), (0.84, 40), (1, FACE_SIZE)),  # of the faces, up to this part of those before: small is fast
    "peak": 0.1,  # of the one-cycle rate, for batches of 128; others in proportion (Goyal et al. 2017)
    "augmentation": 1,  # how much of AUGMENTATION
    "filters": (32, 64, 128, 256),  # of the pairs of convolutions; the first take the most time
    "pooling": "GlobalMaxPooling2D"}
QUICK = {
    "epochs": 30, "refining": 0, "sizes": ((0.35, 24), (0.65, 32), (0.88, 40), (1, FACE_SIZE)),
    "peak": 0.3, "augmentation": 0.7,
    "filters": (16, 48, 128, 256),
    "pooling": "GlobalAveragePooling2D"}  # with the maximum the first two epochs are nearly lost
REFINING = {  # on faces that are more like those to recognise (He et al. 2019, "Data augmentation revisited")
    "epochs": 16,  # with --after, where nothing else is done
    "peak": 0.5, "augmentation": 1 / 3}  # parts of those before
WARM_UP = 0.2  # the part of a cycle in which the rate climbs to its peak
WEIGHT_DECAY = 5e-3  # Keras multiplies it by the rate: the usual 5e-4 with momentum 0.9
LABELS = ("fer2013", "both", "ferplus")
LABEL_SMOOTHING = 0.1
SECOND_OPINION = 0.5  # how much the FER+ votes count with --labels both
TEACHING = 0.5  # how much what the models before say counts with --after
AUGMENTATION = {  # each ±
    "rotation": 15,  # degrees
    "scale": 0.15, "shift": 0.1, "light": 0.4}  # parts of 1, of the face, of the grey values


def build_network(size=FACE_SIZE, normalization=None, way=THOROUGH):
    """The network, THOROUGH's or QUICK's: grey faces (n, size, size, 1) with values 0 to 255 → probabilities (n, 7).

    LeNet's line: convolution, pooling, dense. `size` None takes faces of any size; the weights
    are the same for all. `normalization` takes the place of keras.layers.BatchNormalization.
    """
    import keras
    from keras import layers

    def pair(count):
        return [layer for _ in range(2) for layer in (
            layers.Conv2D(count, 3, padding="same", use_bias=False),
            (normalization or layers.BatchNormalization)(momentum=0.9),  # follows a few steps' small sets, too
            layers.ReLU())]

    filters, pooling = way["filters"], getattr(layers, way["pooling"])
    return keras.Sequential([
        keras.Input((size, size, 1)),
        layers.Rescaling(1 / 127.5, offset=-1),  # inside the network, so no caller can scale otherwise
        *pair(filters[0]), layers.MaxPooling2D(),
        *pair(filters[1]), layers.MaxPooling2D(),
        *pair(filters[2]), layers.MaxPooling2D(),
        *pair(filters[3]), pooling(),
        layers.Dropout(0.3),
        layers.Dense(len(EXPRESSIONS), activation="softmax", dtype="float32"),
    ], name="expressions")


def fused_normalization():
    """keras.layers.BatchNormalization; on TensorFlow a kin of it that is faster.

    Keras puts it together from many operations, TensorFlow has one of its own. The sums are the same.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return keras.layers.BatchNormalization
    import tensorflow as tf

    class BatchNormalization(keras.layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None):
            if not training:
                return super().call(inputs, training=training)
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True)
            for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + new * (1 - self.momentum))
            return outputs

    return BatchNormalization


def mirror_mean(values):
    """The mean of a layer's values and of what takes their place when faces are mirrored.

    Then the two halves of all channels change places, and in kernels (height, width, channels in, channels out)
    left and right do, too. The face itself is one channel, and the expressions are none.
    """
    from keras import ops

    mirrored = ops.flip(values, axis=1) if len(values.shape) == 4 else values
    for axis in (2, 3) if len(values.shape) == 4 else (0,):
        mirrored = ops.roll(mirrored, values.shape[axis] // 2, axis=axis)
    return (values + mirrored) / 2


def tie_mirror_images(network):
    """Have the network say of a face what it says of its mirror image, now and after each step of training.

    Half of the filters are the mirror images of the other half (group convolutions, Cohen and Welling 2016). For those
    who use it the network is as plain and as fast as any; to learn it has half as much, and from each face twice.
    """
    from keras.constraints import Constraint

    class MirrorMean(Constraint):
        def __call__(self, values):
            return mirror_mean(values)

    for values in network.weights:
        if values.name != "bias":
            values.assign(mirror_mean(values))
            values.constraint = MirrorMean()


def mirror_images_are_tied(network):
    """Whether the network was trained so."""
    from keras.ops import convert_to_numpy

    return all(np.array_equal(convert_to_numpy(values), convert_to_numpy(mirror_mean(values)))
               for values in network.trainable_variables if values.name != "bias")


def all_devices():
    """A context in which the network is to be built so that each step's batch is shared by all GPUs there are.

    On PyTorch one GPU is used.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) > 1:
            return tf.distribute.MirroredStrategy([device.name for device in devices]).scope()
    elif keras.backend.backend() == "jax" and len(keras.distribution.list_devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel())  # fit asks for it, too
    return contextlib.nullcontext()


def trainable_rows(faces, usage):
    """bool (N,): Training faces that are not flat and stand in no other split, pixel for pixel."""
    identity = identities(faces)
    return (usage == TRAINING) & ~flat(faces) & ~np.isin(identity, identity[usage != TRAINING])


def training_targets(kind, labels, votes, rows):
    """What the network should say of each face, float32 (N, 7), and for which faces that is known, bool (N,).

    labels are one-hot (N, 7), votes (N, 10) or None; `rows` are those that may be learned from. Kinds are
    "fer2013": the label, smoothed (Szegedy et al. 2016);
    "ferplus": how the votes are spread over the seven expressions, single ones left out as by Barsoum et al. 2016,
    for faces of which no more votes say that they show something else;
    "both": the label and, in its stead for SECOND_OPINION of its weight, the opinion of the votes.
    """
    every = np.full(len(labels), True)
    if kind == "fer2013":
        return np.float32((1 - LABEL_SMOOTHING) * labels + LABEL_SMOOTHING / len(EXPRESSIONS)), every
    if kind == "both":
        opinion = second_opinion(votes, labels.argmax(axis=1), rows)
        return np.float32((1 - SECOND_OPINION) * labels + SECOND_OPINION * opinion), every
    votes = np.where(votes > 1, votes, 0)
    seven, others = votes[:, :len(EXPRESSIONS)], votes[:, len(EXPRESSIONS):]
    shares = np.float32(seven / np.maximum(seven.sum(axis=1, keepdims=True), 1))
    return shares, seven.max(axis=1) > others.max(axis=1)


def second_opinion(votes, labels, rows):
    """float (N, 7): how probable each of FER2013's labels is for a face with such votes, learned from the rows given.

    Not just the shares of the votes: who voted for FER+ saw fear, say, far more seldom than who labelled FER2013.
    A logistic regression from the votes' logarithms knows that.
    """
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels[rows])) < len(EXPRESSIONS):
        raise InputError("some expressions have no face to train on: train with --labels fer2013")
    logarithms = np.log(votes + 0.5)
    return LogisticRegression(max_iter=1000).fit(logarithms[rows], labels[rows]).predict_proba(logarithms)


def taught(targets, faces, teachers):
    """The targets (n, 7) with, in their stead for TEACHING of their weight, what networks before say of the faces.

    That tells which expressions a face is like, and labels that are wrong less surely (born-again networks,
    Furlanello et al. 2018). It is the mean of all the teachers, of the faces (n, 48, 48, 1) and of their mirror images.
    """
    said = [predict_whole_batches(teacher, seen) for teacher in teachers for seen in (faces, faces[:, :, ::-1])]
    return np.float32((1 - TEACHING) * targets + TEACHING * np.mean(said, axis=0))


def augment(faces, size, random, strength=1):
    """Faces uint8 (n, h, w, 1) turned, scaled, shifted, mirrored, and lit at random, as (n, size, size, 1).

    By up to `strength` times AUGMENTATION. One warp does it all, the change of size included, so each pixel is
    interpolated once.
    """
    rotation, scale, shift, light = (strength * AUGMENTATION[name] for name in ("rotation", "scale", "shift", "light"))
    count, height, width = faces.shape[:3]
    zoom = size / width
    angle = np.deg2rad(random.uniform(-1, 1, count) * rotation)
    scale = zoom * (1 + random.uniform(-1, 1, count) * scale)
    shift = random.uniform(-1, 1, (count, 2)) * shift * size
    mirror = random.choice((-1, 1), count)
    warps = np.empty((count, 2, 3))
    warps[:, 0, 0], warps[:, 0, 1] = mirror * scale * np.cos(angle), -scale * np.sin(angle)
    warps[:, 1, 0], warps[:, 1, 1] = mirror * scale * np.sin(angle), scale * np.cos(angle)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    warps[:, :, 2] = (size - 1) / 2 + shift - warps[:, :, :2] @ centre
    moved = [cv2.warpAffine(face, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
             for face, warp in zip(faces, warps)]
    light = 1 + random.uniform(-1, 1, (count, 1, 1)) * light
    return np.clip(np.rint(np.stack(moved) * light), 0, 255).astype(np.uint8)[..., None]


def resize(faces, size):
    """Faces (n, h, w, 1) as (n, size, size, 1)."""
    if faces.shape[1:3] == (size, size):
        return faces
    return np.stack([cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA) for face in faces])[..., None]


def course(epochs, way=THOROUGH, only_refining=False):
    """Of each epoch (the size of the faces, how much of AUGMENTATION), and how many epochs come before refining.

    The last epoch has the full size.
    """
    growing = 0 if only_refining else epochs - round(way["refining"] * epochs)
    sizes = [next(size for part, size in way["sizes"] if (epoch + 1) / growing <= part) for epoch in range(growing)]
    refining = (FACE_SIZE, way["augmentation"] * REFINING["augmentation"])
    return [(size, way["augmentation"]) for size in sizes] + [refining] * (epochs - growing), growing


def training_batches(faces, labels, size, batch_size, seed, strength=1, workers=1):
    """A keras.utils.PyDataset of one epoch's augmented batches; the incomplete last one is left out.

    Two workers make them in threads of their own.
    """
    import keras

    order = np.random.default_rng(seed).permutation(len(faces))

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return max(1, len(order) // batch_size)

        def __getitem__(self, index):
            rows = order[index * batch_size:(index + 1) * batch_size]
            random = np.random.default_rng([*seed, index])
            return augment(faces[rows], size, random, strength).astype(np.float32), labels[rows].astype(np.float32)

    return Batches(workers=workers)


def learning_rate(steps, batch_size, peak=THOROUGH["peak"], refining=0):
    """The one-cycle schedule (Smith and Topin 2018): up to the peak, then a cosine down to nothing.

    For so many steps; after them again, with REFINING's peak, for the steps `refining`.
    """
    import keras

    def cycle(steps, peak):
        warm_up = int(WARM_UP * steps)
        return keras.optimizers.schedules.CosineDecay(peak / 10, warmup_target=peak, warmup_steps=warm_up,
                                                      decay_steps=steps - warm_up)

    peak *= batch_size / BATCH_SIZE
    if not refining:
        return cycle(steps, peak)
    second = cycle(refining, peak * REFINING["peak"])
    if not steps:
        return second
    first = cycle(steps, peak)

    class TwoCycles(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return keras.ops.where(step < steps, first(step), second(step - steps))

    return TwoCycles()


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
        if (settings["epochs"] < len(history) or settings["batch_size"] < 1 or settings["seed"] < 0
                or settings.setdefault("labels", LABELS[0]) not in LABELS  # older ones do not say
                or not isinstance(settings.get("after", {}), dict)):
            raise ValueError(f"its settings are {settings}")
        return settings, [dict(row) for row in history]
    except Exception as error:  # h5py raises whatever it stumbles over
        raise InputError(f"{path} is not a whole checkpoint ({first_line(error)}): "
                         "run train_model.py without --resume") from None


def way_of(settings):
    """How these settings train."""
    return QUICK if settings.get("quick") else THOROUGH


def compiled_network(steps, batch_size, way=THOROUGH, refining=0):
    """The network for so many steps of training, on all devices, and in bfloat16 where the processor has that."""
    import keras

    bfloat16 = processor_has_bfloat16()
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if bfloat16 else "float32")
    with all_devices():
        network = build_network(None, fused_normalization(), way)
        network.compile(
            optimizer=keras.optimizers.SGD(learning_rate(steps, batch_size, way["peak"], refining), momentum=0.9,
                                           nesterov=True, weight_decay=WEIGHT_DECAY),
            loss="categorical_crossentropy", metrics=["accuracy"],
            # Keras leaves XLA off on a processor, where it doubles the speed in float32.
            jit_compile=True if keras.backend.backend() == "tensorflow" and not bfloat16 else "auto")
        tie_mirror_images(network)
        network.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        network.optimizer.build(network.trainable_variables)
    return network


def train(training, validation, settings, checkpoint, resume=False, begin=None):
    """Train the network and return it with its history, a list of dicts, one an epoch.

    training and validation are (faces uint8 (n, 48, 48, 1), probabilities of their labels (n, 7));
    `begin` are the weights to begin with, as its get_weights() gives them; without, they are drawn.
    """
    keras = import_keras()
    from tqdm import tqdm

    epochs, batch_size, seed = settings["epochs"], settings["batch_size"], settings["seed"]
    way = way_of(settings)
    faces, labels = training
    steps = max(1, len(faces) // batch_size)
    keras.utils.set_random_seed(seed)
    plan, growing = course(epochs, way, bool(settings.get("after")))
    network = compiled_network(steps * growing, batch_size, way, steps * (epochs - growing))
    # With one worker TensorFlow's pipeline tunes itself, and ends only at its next look at that: up to twice as late.
    # With two, and several devices, Keras 3.6 waits for ever.
    strategy = getattr(network, "distribute_strategy", None)
    workers = 2 if strategy and strategy.num_replicas_in_sync == 1 else 1
    history = []
    if begin:
        network.set_weights(begin)
    if resume:
        history = read_checkpoint(checkpoint)[1]
        try:
            network.load_weights(checkpoint)
        except Exception as error:  # Keras and h5py raise whatever they stumble over
            raise InputError(f"{checkpoint} is not a whole checkpoint of this network ({first_line(error)}): "
                             "run train_model.py without --resume") from None
        if not mirror_images_are_tied(network):
            raise InputError(f"{checkpoint} was written by an older train_model.py, to which a face and its mirror "
                             "image were two: run train_model.py without --resume")

    work = [size ** 2 for size, _ in plan]  # the time a step takes is in proportion
    with tqdm(total=sum(work) * steps, initial=sum(work[:len(history)]) * steps, smoothing=0.02, disable=None,
              bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left{postfix}") as bar:

        class Progress(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                bar.update(work[len(history)])
                bar.set_postfix_str(f"loss {logs['loss']:.3f}, accuracy {logs['accuracy']:.1%}", refresh=False)

        for epoch in range(len(history), epochs):
            size, strength = plan[epoch]
            bar.set_description(f"epoch {epoch + 1}/{epochs}, faces {size} x {size}")
            for layer in network.layers:
                if isinstance(layer, keras.layers.Dropout):  # its chance is not in the checkpoint: draw it anew
                    layer.seed_generator.state.assign([seed, epoch])
            batches = training_batches(faces, labels, size, batch_size, [seed, epoch], strength, workers)
            logs = network.fit(batches, verbose=0, callbacks=[Progress()],
                               shuffle=False).history  # they are in random order already
            if not np.isfinite(logs["loss"][0]):
                raise InputError(f"the loss of epoch {epoch + 1} is no number: train again with another --seed or "
                                 "--batch-size")
            seen = predict_whole_batches(network, resize(validation[0], size), batch_size)
            loss = float(-np.sum(validation[1] * np.log(np.maximum(seen, 1e-7)), axis=1).mean())
            accuracy = float((seen.argmax(axis=1) == validation[1].argmax(axis=1)).mean())
            history.append({"epoch": epoch + 1, "size": size, "loss": logs["loss"][0], "accuracy": logs["accuracy"][0],
                            "val_loss": loss, "val_accuracy": accuracy})
            save_checkpoint(network, checkpoint, settings, history)
            bar.write(f"epoch {epoch + 1:3}/{epochs}: loss {logs['loss'][0]:.3f}, accuracy {logs['accuracy'][0]:.1%}, "
                      f"validation {accuracy:.1%}", file=sys.stderr)

    keras.mixed_precision.set_global_policy("float32")
    trained = build_network(way=way)
    trained.set_weights(network.get_weights())
    tie_mirror_images(trained)  # the means and variances, too, that were measured rather than learned
    return trained, history


def predict_whole_batches(network, faces, batch_size=BATCH_SIZE):
    """Probabilities float32 (n, 7) of faces uint8 (n, h, w, 1); several devices share no batch of another size."""
    whole = -(-len(faces) // batch_size) * batch_size
    repeated = np.resize(faces, (whole, *faces.shape[1:])).astype(np.float32)
    return network.predict(repeated, batch_size=batch_size, verbose=0)[:len(faces)]


def calibrate(network, faces, labels):
    """Make the probabilities as sure as they are right, on faces that training did not learn from.

    Divides what the last layer gives to the softmax by the temperature (Guo et al. 2017) with the smallest
    cross-entropy, and returns it: the weights hold it, so that all who use them have it. Which expression is the
    most probable stays. faces are uint8 (n, 48, 48, 1), labels one-hot (n, 7).
    """
    last = network.layers[-1]
    logits = np.log(np.maximum(predict_whole_batches(network, faces), 1e-30))

    def cross_entropy(temperature):
        scaled = logits / temperature
        return np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[labels > 0])

    temperature = min(np.geomspace(0.1, 10, 1001), key=cross_entropy)
    last.set_weights([values / temperature for values in last.get_weights()])
    return temperature


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


def load_teachers(settings):
    """The networks of the folders after --after, if they are still those of when the training began."""
    networks = [load_model(Path(folder)) for folder in settings.get("after", {})]
    for folder, stamp in settings.get("after", {}).items():
        if weights_stamp(Path(folder)) != stamp:
            raise InputError(f"{folder} holds another model than when this training began: restore it, or train anew")
    if networks and [values.shape for values in networks[-1].get_weights()] != [
            values.shape for values in build_network(way=way_of(settings)).get_weights()]:
        raise InputError(f"{folder} holds another network than the one to train, which cannot go on from it: give it "
                         "earlier, not as the last after --after, and give --quick if that was trained with it")
    if networks and not mirror_images_are_tied(networks[-1]):
        raise InputError(f"{folder} holds a network to which a face and its mirror image are two, which cannot be "
                         "refined: give it earlier, not as the last after --after, or train it anew")
    return networks


def weights_stamp(folder):
    """What the model's stamp says of its weights; None where there is none."""
    return read_stamp(folder / STAMP).get("model.weights.h5")


def load_votes(data, name, count, made_by):
    """The votes of FER+ that belong to a set of faces, uint8 (count, 10); None where the set has none."""
    stamp = read_stamp(data / {"fvotes.npy": "fdataX.sha256", "modvtest.npy": "modXtest.sha256"}[name])
    if not (name in stamp if stamp else (data / name).exists()):
        return None
    return load_array(data / name, (count, len(EXPRESSIONS) + 3), made_by)


def save_test_faces(data):
    """Write the PrivateTest faces and their one-hot labels, modXtest.npy and modytest.npy; return how many.

    Also their votes, modvtest.npy, where preprocessing.py was given FER+.
    """
    faces, labels, usage = load_dataset(data)
    votes = load_votes(data, "fvotes.npy", len(faces), "preprocessing.py --ferplus")
    test = usage == PRIVATE_TEST
    arrays = {data / "modXtest.npy": faces[test], data / "modytest.npy": labels[test]}
    made_from = ["fdataX.npy", "flabels.npy", "fusage.npy"]
    if votes is not None:
        arrays[data / "modvtest.npy"] = votes[test]
        made_from.append("fvotes.npy")
    save_arrays(arrays, made_from)
    return test.sum()


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=DATA, help="what preprocessing.py wrote")
    parser.add_argument("--models", type=Path, metavar="FOLDER",
                        help="where to write (default: models/, or FOLDER/models with --data FOLDER)")
    parser.add_argument("--labels", choices=LABELS, default=LABELS[0],
                        help="learn FER2013's labels (default), FER+'s votes, or the labels softened by the votes")
    parser.add_argument("--after", type=Path, nargs="+", metavar="FOLDER", default=(),
                        help="refine the last of these models, which learns from what they all say of the faces")
    parser.add_argument("--quick", action="store_true",
                        help="fewer filters, smaller faces at first, a higher rate: a third of the time, and less sure")
    parser.add_argument("--epochs", type=int, metavar="N",
                        help=f"times through the faces (default: {THOROUGH['epochs']}, quick {QUICK['epochs']}, "
                             f"after {REFINING['epochs']})")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="faces a step (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all chance (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the last whole epoch, with its settings")
    parser.add_argument("--export", action="store_true",
                        help="do not train, only make model.tflite and architecture.png of the model")
    args = parser.parse_args(argv)
    if args.epochs is None:
        args.epochs = (REFINING if args.after else QUICK if args.quick else THOROUGH)["epochs"]
    for name in ("epochs", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more")
    if not 0 <= args.seed < 2 ** 32:
        parser.error("--seed must be 0 to 4294967295")
    models = args.models or models_folder(args.data)
    if args.export:
        export_model(load_model(models), models)
        print(f"wrote model.tflite and architecture.png to {models}")
        return
    checkpoint = models / "checkpoint.weights.h5"

    faces, labels, usage = load_dataset(args.data)
    votes = load_votes(args.data, "fvotes.npy", len(faces), "preprocessing.py --ferplus")
    settings = {"epochs": args.epochs, "quick": args.quick, "batch_size": args.batch_size, "seed": args.seed,
                "labels": args.labels,
                "after": {str(folder.resolve()): weights_stamp(folder) for folder in args.after},
                "data": read_stamp(args.data / "fdataX.sha256")}
    if args.resume:
        begun, settings = settings, read_checkpoint(checkpoint)[0]
        if settings.get("data") != begun["data"]:
            raise InputError(f"{checkpoint} was made from other faces than those in {args.data}: "
                             "run train_model.py without --resume")
    if settings["labels"] != "fer2013" and votes is None:
        raise InputError(f"{args.data} holds no votes of FER+: run preprocessing.py with --ferplus fer2013new.csv")
    models.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=models).close()  # whether it can be written to, before hours of training
    rows, validation = trainable_rows(faces, usage), usage == PUBLIC_TEST
    targets, known = training_targets(settings["labels"], labels, votes, rows)
    rows &= known
    if settings["labels"] == "ferplus":
        labels = np.uint8(targets > 0.5)
        validation &= known & labels.any(axis=1)
    teachers = load_teachers(settings)
    if not rows.any() or not validation.any():
        raise InputError(f"{args.data} holds no faces to train on or to validate on: run preprocessing.py again")
    print(f"training on {rows.sum():,} of {(usage == TRAINING).sum():,} Training faces: flat ones and those that also "
          f"stand in another split are left out{'' if known.all() else ', and those in which most see no expression'}; "
          f"validating on {validation.sum():,}")
    test_faces = save_test_faces(args.data)
    targets, begin = targets[rows], None
    try:
        if teachers:
            targets, begin = taught(targets, faces[rows], teachers), teachers[-1].get_weights()
        network, history = train((faces[rows], targets), (faces[validation], labels[validation]), settings,
                                 checkpoint, args.resume, begin)
        temperature = calibrate(network, faces[validation], labels[validation])
        save_model(network, models, history)
    except KeyboardInterrupt:
        kept, history = read_checkpoint(checkpoint) if checkpoint.exists() else (None, ())
        if kept != settings:
            raise
        raise KeyboardInterrupt(f"{len(history)} of {settings['epochs']} epochs are kept, and the model is as it was; "
                                "give the same command with --resume to go on") from None
    checkpoint.unlink(missing_ok=True)
    files = [name for name in read_stamp(models / STAMP) if name != "model.json"]
    print(f"calibrated on the validation faces: temperature {temperature:.2f}")
    print(f"wrote model.json, {', '.join(files)} and {STAMP} to {models}: "
          f"{history[-1]['val_accuracy']:.2%} on the {validation.sum():,} validation faces")
    print(f"wrote the {test_faces:,} test faces, modXtest.npy and modytest.npy, to {args.data}")


if __name__ == "__main__":
    run(main)
