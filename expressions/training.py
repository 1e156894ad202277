"""Training: targets, augmentation, schedules, the loop and its checkpoints."""
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from expressions.artifacts import replace_when_whole
from expressions.console import InputError, first_line
from expressions.evaluation import predict
from expressions.labels import EXPRESSIONS, FACE_SIZE
from expressions.model_files import import_keras
from expressions.network import build_model, tie_mirrored_filters


@dataclass(frozen=True)
class TrainingConfig:
    """One way to train."""
    epochs: int
    fine_tuning_fraction: float  # of the epochs, the last ones: gentler augmentation and a second, lower cycle
    resolution_schedule: tuple  # (until this fraction of the other epochs, face size in pixels): small faces are fast
    max_lr: float  # the peak of the learning rate for batches of BATCH_SIZE; others in proportion (Goyal et al. 2017)
    augmentation_strength: float  # times AUGMENTATION
    filters: tuple  # of the pairs of convolutions; the first pair takes the most time
    pooling: str


BATCH_SIZE = 128
FULL = TrainingConfig(84, 2 / 7, ((0.4, 32), (0.84, 40), (1, FACE_SIZE)), 0.1, 1, (32, 64, 128, 256),
                      "GlobalMaxPooling2D")
QUICK = TrainingConfig(30, 0, ((0.35, 24), (0.65, 32), (0.88, 40), (1, FACE_SIZE)), 0.3, 0.7, (16, 48, 128, 256),
                       "GlobalAveragePooling2D")  # with the maximum the first two epochs are nearly lost
FINE_TUNING_EPOCHS = 16  # with --after, where nothing else is done
FINE_TUNING_LR, FINE_TUNING_AUGMENTATION = 0.5, 1 / 3  # times the config's (He et al. 2019)
WARMUP_FRACTION = 0.2  # of a cycle, in which the learning rate climbs to its peak
WEIGHT_DECAY = 5e-3  # Keras multiplies it by the learning rate: the usual 5e-4 with momentum 0.9
LABELS = ("fer2013", "both", "ferplus")
LABEL_SMOOTHING = 0.1
VOTE_WEIGHT = 0.5  # of the FER+ votes in the targets of --labels both
DISTILLATION_WEIGHT = 0.5  # of the teachers' predictions in the targets of --after
AUGMENTATION = {"rotation": 15, "zoom": 0.25, "translate": 0.1, "brightness": 0.4}  # each ±; degrees, or fractions
DAMAGED_FRACTION = 0.3  # of the faces in training


def soft_targets(source, labels, votes, rows):
    """Return the targets float32 (N, 7) of all faces and a mask bool (N,) of those that have one.

    labels are int (N,), votes uint8 (N, 10) or None, `rows` bool (N,) the faces that may be learned from. Sources:
    "fer2013": the label, smoothed (Szegedy et al. 2016);
    "both": the label, blended with the probabilities predicted from the FER+ votes;
    "ferplus": the shares of the votes, single ones left out as by Barsoum et al. 2016. Faces for which contempt,
    unknown or not-a-face got as many votes or more have no target.
    """
    one_hot = np.eye(len(EXPRESSIONS))[labels]
    if source != "ferplus":
        weight, other = ((LABEL_SMOOTHING, 1 / len(EXPRESSIONS)) if source == "fer2013" else
                         (VOTE_WEIGHT, vote_probabilities(votes, labels, rows)))
        return np.float32((1 - weight) * one_hot + weight * other), np.full(len(labels), True)
    votes = np.where(votes > 1, votes, 0)
    seven, others = votes[:, :len(EXPRESSIONS)], votes[:, len(EXPRESSIONS):]
    shares = np.float32(seven / np.maximum(seven.sum(axis=1, keepdims=True), 1))
    return shares, seven.max(axis=1) > others.max(axis=1)


def vote_probabilities(votes, labels, rows):
    """Return the probability of each FER2013 label for a face with these FER+ votes, float (N, 7).

    A logistic regression on the votes' logarithms, fitted to `rows`: voters see fear, say, less often than FER2013 has.
    """
    from sklearn.linear_model import LogisticRegression

    logarithms = np.log(votes + 0.5)
    return LogisticRegression(max_iter=1000).fit(logarithms[rows], labels[rows]).predict_proba(logarithms)


def distillation_targets(targets, faces, teachers):
    """Blend targets (n, 7) with the teachers' predictions (born-again networks, Furlanello et al. 2018).

    The mean over the teachers, Keras models, and over faces (n, 48, 48, 1) and their mirror images. float32 (n, 7).
    """
    predictions = [predict(teacher, view) for teacher in teachers for view in (faces, faces[:, :, ::-1])]
    return np.float32((1 - DISTILLATION_WEIGHT) * targets + DISTILLATION_WEIGHT * np.mean(predictions, axis=0))


def augment(faces, size, random, strength=1):
    """Return faces uint8 (n, h, w, 1) rotated, zoomed, shifted, mirrored and lit at random, as (n, size, size, 1).

    By up to `strength` times AUGMENTATION, in one warp; `random` is a numpy.random.Generator.
    """
    rotation, zoom, translate, brightness = (strength * value for value in AUGMENTATION.values())
    count, height, width = faces.shape[:3]
    angle = np.deg2rad(random.uniform(-1, 1, count) * rotation)
    scale = size / width * (1 + random.uniform(-1, 1, count) * zoom)
    shift = random.uniform(-1, 1, (count, 2)) * translate * size
    mirror = random.choice((-1, 1), count)
    warps = np.empty((count, 2, 3))
    warps[:, 0, 0], warps[:, 0, 1] = mirror * scale * np.cos(angle), -scale * np.sin(angle)
    warps[:, 1, 0], warps[:, 1, 1] = mirror * scale * np.sin(angle), scale * np.cos(angle)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    warps[:, :, 2] = (size - 1) / 2 + shift - warps[:, :, :2] @ centre
    warped = [cv2.warpAffine(face, warp, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
              for face, warp in zip(faces, warps)]
    light = 1 + random.uniform(-1, 1, (count, 1, 1)) * brightness
    lit = np.clip(np.rint(np.stack(warped) * light), 0, 255).astype(np.uint8)
    for index in np.flatnonzero(random.random(count) < DAMAGED_FRACTION):
        lit[index] = damage(lit[index], random)
    return lit[..., None]


def damage(face, random):
    """Return a face uint8 (size, size) as telephones, video calls and poor light leave it: one kind, at random."""
    size = face.shape[0]
    kind = random.choice(("blur", "jpeg", "noise", "gamma", "few pixels", "contrast"))
    if kind == "blur":
        return cv2.GaussianBlur(face, (0, 0), random.uniform(0.4, 1.3))
    if kind == "jpeg":
        quality = int(random.integers(10, 61))
        return cv2.imdecode(cv2.imencode(".jpg", face, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_GRAYSCALE)
    if kind == "few pixels":
        small = cv2.resize(face, None, fx=(scale := random.uniform(0.35, 0.8)), fy=scale, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    if kind == "noise":
        values = face + random.normal(0, random.uniform(3, 15), face.shape)
    elif kind == "gamma":
        values = 255 * (face / 255) ** np.exp(random.uniform(-0.7, 0.7))
    else:
        values = (face - 128.0) * random.uniform(0.4, 1.3) + 128 + random.uniform(-40, 40)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def resize(faces, size):
    """Return faces uint8 (n, h, w, 1) as uint8 (n, size, size, 1)."""
    return np.stack([cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA) for face in faces])[..., None]


def augmented_batches(faces, targets, size, batch_size, seed, strength=1):
    """Return a keras.utils.PyDataset of one epoch's augmented whole batches; `seed` is a list of int."""
    import keras

    order = np.random.default_rng(seed).permutation(len(faces))

    class AugmentedBatches(keras.utils.PyDataset):
        def __len__(self):
            return len(order) // batch_size

        def __getitem__(self, index):
            rows = order[index * batch_size:(index + 1) * batch_size]
            random = np.random.default_rng([*seed, index])
            return augment(faces[rows], size, random, strength).astype(np.float32), targets[rows]

    return AugmentedBatches(workers=2)  # with a single one tf.data tunes itself, and an epoch may take twice the time


def epoch_schedule(epochs, config, only_fine_tuning=False):
    """Return (face size in pixels, augmentation strength) for each epoch, and how many come before fine-tuning."""
    main = 0 if only_fine_tuning else epochs - round(config.fine_tuning_fraction * epochs)
    sizes = [next(size for fraction, size in config.resolution_schedule if (epoch + 1) / main <= fraction)
             for epoch in range(main)]
    fine_tuning = (FACE_SIZE, config.augmentation_strength * FINE_TUNING_AUGMENTATION)
    return [(size, config.augmentation_strength) for size in sizes] + [fine_tuning] * (epochs - main), main


def learning_rates(main_steps, fine_tuning_steps, max_lr):
    """Return each step's learning rate, float32 (n,): two cycles (Smith and Topin 2018), warm-up and cosine."""
    def cycle(steps, peak):
        warmup = int(WARMUP_FRACTION * steps)
        decay = peak / 2 * (1 + np.cos(np.pi * np.arange(steps - warmup) / max(1, steps - warmup)))
        return np.concatenate([np.linspace(peak / 10, peak, warmup, endpoint=False), decay])

    return np.float32(np.concatenate([cycle(main_steps, max_lr), cycle(fine_tuning_steps, max_lr * FINE_TUNING_LR)]))


def compile_model(config, rates):
    """Return the network ready to train with these learning rates, in bfloat16 where the processor has that."""
    import keras

    class Rates(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            index = keras.ops.minimum(keras.ops.cast(step, "int32"), len(rates) - 1)
            return keras.ops.take(keras.ops.convert_to_tensor(rates), index)

    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    fast = "avx512_bf16" in flags or "amx_bf16" in flags  # without these instructions bfloat16 is the slower one
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if fast else "float32")
    model = build_model(config.filters, config.pooling, size=None)
    optimizer = keras.optimizers.SGD(Rates(), momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY)
    model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    tie_mirrored_filters(model)
    model.optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.optimizer.build(model.trainable_variables)
    return model


def save_checkpoint(path, model, settings, history):
    """Write the weights, the optimizer, settings (a dict) and history (a list of dicts) of an epoch into one .npz."""
    with replace_when_whole(path) as [temporary]:
        np.savez(temporary, *map(np.array, [*model.weights, *model.optimizer.variables]),
                 settings=json.dumps(settings), history=json.dumps(history))


def read_checkpoint(path):
    """Return the settings, the history and the list of variables that save_checkpoint wrote. Raises InputError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            variables = [file[f"arr_{index}"] for index in range(len(file.files) - 2)]
            return json.loads(str(file["settings"])), json.loads(str(file["history"])), variables
    except Exception as error:  # NumPy raises whatever it stumbles over
        raise InputError(f"{path} is no whole checkpoint to resume ({first_line(error)}): leave out --resume") from None


def train(training, validation, settings, checkpoint, history, variables=()):
    """Train the network and return it; add to its history a dict with the keys of history.csv for each epoch.

    training is (faces uint8 (n, 48, 48, 1), targets float32 (n, 7)), validation (faces, labels int (n,)). settings has
    epochs, quick, batch_size, seed, and after, which is not empty for fine-tuning. `variables` are the weights to begin
    with, and from a checkpoint the optimizer's values. Writes a checkpoint after each epoch. Raises InputError where
    the loss is no number or weights do not fit.
    """
    keras = import_keras()
    from tqdm import tqdm

    faces, targets = training
    config, batch_size, seed = QUICK if settings["quick"] else FULL, settings["batch_size"], settings["seed"]
    steps = len(faces) // batch_size
    if not steps:
        raise InputError(f"--batch-size {batch_size:,} is more than the {len(faces):,} training faces: give less")
    keras.utils.set_random_seed(seed)
    schedule, main = epoch_schedule(settings["epochs"], config, only_fine_tuning=bool(settings["after"]))
    rates = learning_rates(steps * main, steps * (len(schedule) - main), config.max_lr * batch_size / BATCH_SIZE)
    model = compile_model(config, rates)
    build_model(config.filters, config.pooling).summary(line_length=88)
    try:
        for variable, value in zip([*model.weights, *model.optimizer.variables], variables):
            variable.assign(value)
    except ValueError:
        raise InputError("the checkpoint, or the last model after --after, has other layers than the network to train: "
                         "leave out --resume, or add --quick if the model was trained so") from None
    work = [size ** 2 * steps for size, _ in schedule]  # the time of an epoch is in proportion
    with tqdm(total=sum(work), initial=sum(work[:len(history)]), smoothing=0.02, disable=None,
              bar_format="{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left{postfix}") as bar:
        for epoch, (size, strength) in enumerate(schedule[len(history):], len(history)):
            bar.set_description(f"epoch {epoch + 1}/{len(schedule)}, faces {size} x {size}")
            batches = augmented_batches(faces, targets, size, batch_size, [seed, epoch], strength)
            row = {"epoch": epoch + 1, "size": size,
                   **_train_epoch(model, batches, validation, size, [seed, epoch], bar)}
            if not np.isfinite(row["loss"]):
                raise InputError(f"the loss of epoch {epoch + 1} is no number: give another --seed or --batch-size")
            history.append(row)
            save_checkpoint(checkpoint, model, settings, history)
            bar.write(f"epoch {epoch + 1:3}/{len(schedule)}: loss {row['loss']:.3f}, accuracy {row['accuracy']:.1%}, "
                      f"validation {row['val_accuracy']:.1%}", file=sys.stderr)
    keras.mixed_precision.set_global_policy("float32")
    trained = build_model(config.filters, config.pooling)
    trained.set_weights(model.get_weights())
    tie_mirrored_filters(trained)  # also the moving averages, which were measured rather than learned
    return trained


def _train_epoch(model, batches, validation, size, seed, bar):
    """Train one epoch; return the mean loss and accuracy, and those of the validation faces at this size."""
    import keras

    def show(batch, logs):
        bar.update(size ** 2)
        bar.set_postfix_str(f"loss {logs['loss']:.3f}, accuracy {logs['accuracy']:.1%}", refresh=False)

    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):  # its random state is not in the checkpoint: set it anew
            layer.seed_generator.state.assign(seed)
    logs = model.fit(
        batches, shuffle=False, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=show)],
        validation_data=(resize(validation[0], size).astype(np.float32), np.eye(len(EXPRESSIONS))[validation[1]]),
        validation_batch_size=BATCH_SIZE).history
    return {name: logs[name][0] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
