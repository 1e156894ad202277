"""Measure how long the original's network and settings take to train, and ours.

Both train on random faces for some steps, in turn; images per second are medians over the turns, from the end of a
turn's first step to the end of its last. The original: eight convolutions of 64 to 512 filters, four dense layers,
Adam, float32, batches of 64, 29,068 faces of 48 x 48 for 100 epochs, from which it claims 66.37 %; it is not run to the
end here. Ours: what train_model.py --quick, or with --full train_model.py, does with 28,006 faces that grow to 48 x 48,
augmentation included.
Prints images per second, the minutes that follow from them, and their ratio.

$ python benchmarks/train_model.py
$ python benchmarks/train_model.py --full
"""
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions import training
from expressions.console import positive_int, run, script_parser
from expressions.labels import EXPRESSIONS, FACE_SIZE
from expressions.model_files import import_keras

ORIGINAL_FACES, ORIGINAL_EPOCHS, ORIGINAL_BATCH = 29_068, 100, 64  # 0.9 * 0.9 of 35,887
OUR_FACES = 28_006


def the_original():
    """Return the original's network, written anew from its layers, ready to train."""
    import keras
    from keras import layers

    def pair(filters, **first):
        return [layers.Conv2D(filters, 3, activation="relu", **({"padding": "same"} | first)),
                *([] if first else [layers.BatchNormalization()]),
                layers.Conv2D(filters, 3, activation="relu", padding="same"), layers.BatchNormalization(),
                layers.MaxPooling2D(), layers.Dropout(0.5)]

    model = keras.Sequential([
        keras.Input((FACE_SIZE, FACE_SIZE, 1)),
        *pair(64, padding="valid", kernel_regularizer=keras.regularizers.L2(0.01)), *pair(128), *pair(256), *pair(512),
        layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dropout(0.4),
        layers.Dense(256, activation="relu"), layers.Dropout(0.4), layers.Dense(128, activation="relu"),
        layers.Dropout(0.5), layers.Dense(7, activation="softmax")])
    model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.Adam(1e-3), metrics=["accuracy"])
    return model


def contestants(config, sizes, steps):
    """Return {name: (faces a step, function that trains for `steps` steps with the callbacks it is given)}."""
    batch_size = training.BATCH_SIZE
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (steps * batch_size, FACE_SIZE, FACE_SIZE, 1), np.uint8)
    targets = np.eye(len(EXPRESSIONS), dtype=np.float32)[random.integers(0, len(EXPRESSIONS), len(faces))]
    original = the_original()
    total_steps = config.epochs * OUR_FACES // batch_size
    ours = training.compile_model(config, training.learning_rates(total_steps, 0, config.max_lr))

    def train_original(callbacks):
        original.fit(faces.astype(np.float32), targets, batch_size=ORIGINAL_BATCH, verbose=0, callbacks=callbacks)

    def train_ours(callbacks, size):
        batches = training.augmented_batches(faces, targets, size, batch_size, [0])
        ours.fit(batches, verbose=0, shuffle=False, callbacks=callbacks)

    return {"the original": (ORIGINAL_BATCH, train_original)} | {
        f"ours, {size} x {size}": (batch_size, lambda callbacks, size=size: train_ours(callbacks, size))
        for size in sorted({*sizes})}


def measure(methods, turns):
    """Return {name: images per second}, medians of the turns."""
    import keras

    ends = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ends.append(time.perf_counter())

    rates = {name: [] for name in methods}
    for turn in range(turns + 1):
        for name, (batch_size, train) in methods.items():
            ends.clear()
            train([Clock()])
            if turn:  # the first one compiles
                rates[name].append((len(ends) - 1) * batch_size / (ends[-1] - ends[0]))
    return {name: statistics.median(values) for name, values in rates.items()}


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--full", action="store_true", help="ours is the default training, not --quick")
    parser.add_argument("--turns", type=positive_int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--steps", type=positive_int, default=10, help="in each turn (default: %(default)s)")
    args = parser.parse_args(argv)
    import_keras()
    config = training.FULL if args.full else training.QUICK
    sizes = [size for size, _ in training.epoch_schedule(config.epochs, config)[0]]
    rates = measure(contestants(config, sizes, args.steps), args.turns)
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} images a second")
    original = ORIGINAL_FACES * ORIGINAL_EPOCHS / rates["the original"]
    ours = sum(OUR_FACES / rates[f"ours, {size} x {size}"] for size in sizes)
    print(f"the original's {ORIGINAL_EPOCHS} epochs at this rate: {original / 60:.0f} minutes")
    print(f"train_model.py's {len(sizes)} epochs at these rates: {ours / 60:.1f} minutes")
    print(f"ratio: {original / ours:.0f}")


if __name__ == "__main__":
    run(main)
