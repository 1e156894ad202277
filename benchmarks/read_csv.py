"""Read fer2013.csv the original project's way and ours, in turn, each run in a process of its own.

Prints seconds and peak memory of each, medians over the runs, and their ratio. Both start Python, read the CSV and save
the faces as .npy.

$ python benchmarks/read_csv.py                # needs data/fer2013.csv
$ python benchmarks/read_csv.py --runs 5
"""
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions.artifacts import DATA
from expressions.console import InputError, positive_int, run, script_parser
from expressions.fer2013 import read_csv, save_dataset


def the_original(source, folder):
    """As the original does it: pandas holds the text, a loop splits it and makes a list of numbers of each row."""
    import pandas as pd

    table = pd.read_csv(source)
    faces = []
    for text in table["pixels"].tolist():
        face = [int(pixel) for pixel in text.split(" ")]
        faces.append(np.asarray(face).reshape(48, 48).astype("float32"))
    faces = np.expand_dims(np.asarray(faces), -1)
    np.save(folder / "fdataX.npy", faces)
    np.save(folder / "flabels.npy", pd.get_dummies(table["emotion"]).to_numpy())


def ours(source, folder):
    """As preprocessing.py does it."""
    save_dataset(folder, *read_csv(source))


METHODS = {method.__name__: method for method in (the_original, ours)}


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--runs", type=positive_int, default=3, help="of each method (default: %(default)s)")
    parser.add_argument("--method", choices=METHODS, help="run just this one, once, and print its peak memory in MB")
    args = parser.parse_args(argv)
    source = DATA / "fer2013.csv"
    if not source.exists():
        raise InputError(f"{source} is not there: put it there first")

    if args.method:
        import resource
        with tempfile.TemporaryDirectory() as folder:
            METHODS[args.method](source, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(peak / (1e6 if sys.platform == "darwin" else 1e3))
        return

    seconds, megabytes = {method: [] for method in METHODS}, {}
    for _ in range(args.runs):
        for method in METHODS:
            start = time.perf_counter()
            output = subprocess.run([sys.executable, __file__, "--method", method], check=True, stdout=subprocess.PIPE,
                                    text=True).stdout
            seconds[method].append(time.perf_counter() - start)
            megabytes[method] = float(output)
            print(f"{method:13} {seconds[method][-1]:6.2f} s {megabytes[method]:6.0f} MB", flush=True)
    original, own = (statistics.median(seconds[method]) for method in METHODS)
    less = megabytes["the_original"] / megabytes["ours"]
    print(f"\nmedian of {args.runs}: the original {original:.1f} s, ours {own:.1f} s: {original / own:.1f} times "
          f"faster, with {less:.1f} times less memory ({megabytes['ours']:.0f} MB)")


if __name__ == "__main__":
    run(main)
