"""How long the original's network and settings take to train, and ours.

Both train on random faces for some steps, in turn; images per second are medians over the turns, from the end of
a turn's first step to the end of its last. The original: eight convolutions of 64 to 512 filters, four dense
layers, Adam, float32, batches of 64, 29,068 faces of 48 x 48 for 100 epochs, from which it claims 66.37 %; it is
not run to the end here. Ours: what train_model.py or train_model.py --quick does with 28,006 faces that grow to
48 x 48, augmentation included.
Prints images per second, the minutes that follow from them, and their ratio.

$ python benchmarks/train_model.py
"""
import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import train_model
from preprocessing import FACE_SIZE, run
from saved_model import import_keras

ORIGINAL_FACES, ORIGINAL_EPOCHS, ORIGINAL_BATCH = 29_068, 100, 64  # 0.9 * 0.9 of 35,887
OUR_FACES = 28_006


def the_original():
    """The original's network, written anew from its layers, ready to train."""
    keras = import_keras()
    from keras import layers

    def pair(filters, **first):
        return [layers.Conv2D(filters, 3, activation="relu", **({"padding": "same"} | first)),
                *([] if first else [layers.BatchNormalization()]),
                layers.Conv2D(filters, 3, activation="relu", padding="same"), layers.BatchNormalization(),
                layers.MaxPooling2D(), layers.Dropout(0.5)]

    network = keras.Sequential([
        keras.Input((FACE_SIZE, FACE_SIZE, 1)),
        *pair(64, padding="valid", kernel_regularizer=keras.regularizers.L2(0.01)), *pair(128), *pair(256), *pair(512),
        layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dropout(0.4),
        layers.Dense(256, activation="relu"), layers.Dropout(0.4), layers.Dense(128, activation="relu"),
        layers.Dropout(0.5), layers.Dense(7, activation="softmax")])
    network.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.Adam(1e-3), metrics=["accuracy"])
    return network


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thorough", action="store_true", help="ours is the default, not --quick")
    parser.add_argument("--turns", type=int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="in each turn (default: %(default)s)")
    args = parser.parse_args(argv)
    keras = import_keras()

    original = the_original()
    way = train_model.THOROUGH if args.thorough else train_model.QUICK
    steps = way["epochs"] * OUR_FACES // train_model.BATCH_SIZE
    ours = train_model.compiled_network(steps, train_model.BATCH_SIZE, way)
    random = np.random.default_rng(0)
    count = args.steps * train_model.BATCH_SIZE
    faces = random.integers(0, 256, (count, FACE_SIZE, FACE_SIZE, 1), np.uint8)
    labels = np.eye(7, dtype=np.float32)[random.integers(0, 7, count)]
    sizes = [size for size, _ in train_model.course(way["epochs"], way)[0]]
    ends = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ends.append(time.perf_counter())

    ways = {"the original": (ORIGINAL_BATCH, lambda: original.fit(
        faces.astype(np.float32), labels, batch_size=ORIGINAL_BATCH, verbose=0, callbacks=[Clock()]))}
    for size in sorted({*sizes}):
        ways[f"ours, {size} x {size}"] = (train_model.BATCH_SIZE, lambda size=size: ours.fit(
            train_model.training_batches(faces, labels, size, train_model.BATCH_SIZE, [0], workers=2), verbose=0,
            shuffle=False, callbacks=[Clock()]))
    measured = {name: [] for name in ways}
    for turn in range(args.turns + 1):
        for name, (batch_size, train) in ways.items():
            ends.clear()
            train()
            if turn:  # the first one compiles
                measured[name].append((len(ends) - 1) * batch_size / (ends[-1] - ends[0]))
    rates = {name: statistics.median(several) for name, several in measured.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} images a second")
    whole = ORIGINAL_FACES * ORIGINAL_EPOCHS / rates["the original"]
    grown = sum(OUR_FACES / rates[f"ours, {size} x {size}"] for size in sizes)
    print(f"the original's {ORIGINAL_EPOCHS} epochs at this rate: {whole / 60:.0f} minutes")
    print(f"train_model.py's {len(sizes)} epochs at these rates: {grown / 60:.1f} minutes")
    print(f"ratio: {whole / grown:.0f}")


if __name__ == "__main__":
    run(main)
