"""Read fer2013.csv the original project's way and ours, in turn, each run in a process of its own.

Prints seconds and peak memory of each, medians over the runs, and their ratio. Both ways start
Python, read the CSV and save the faces as .npy.

$ python benchmarks/read_csv.py                # needs data/fer2013.csv
$ python benchmarks/read_csv.py --runs 5
"""
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from preprocessing import DATA, InputError, read_csv, run, save_arrays, script_parser  # noqa: E402

import numpy as np  # noqa: E402


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
    """As preprocessing.py does it: row by row, all digits of a row at once."""
    faces, labels, _ = read_csv(source)
    save_arrays({folder / "fdataX.npy": faces, folder / "flabels.npy": np.eye(7, dtype=np.uint8)[labels]})


WAYS = {way.__name__: way for way in (the_original, ours)}


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each way (default: %(default)s)")
    parser.add_argument("--way", choices=WAYS, help="run just this one way, once, and print its peak memory in MB")
    args = parser.parse_args(argv)
    source = DATA / "fer2013.csv"
    if not source.exists():
        raise InputError(f"{source} is not there: put it there first")

    if args.way:
        import resource
        with tempfile.TemporaryDirectory() as folder:
            WAYS[args.way](source, Path(folder))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(peak / (1e6 if sys.platform == "darwin" else 1e3))
        return

    seconds, megabytes = {way: [] for way in WAYS}, {}
    for _ in range(args.runs):
        for way in WAYS:
            start = time.perf_counter()
            output = subprocess.run([sys.executable, __file__, "--way", way], check=True, capture_output=True,
                                    text=True).stdout
            seconds[way].append(time.perf_counter() - start)
            megabytes[way] = float(output)
            print(f"{way:13} {seconds[way][-1]:6.2f} s {megabytes[way]:6.0f} MB", flush=True)
    medians = {way: statistics.median(runs) for way, runs in seconds.items()}
    print(f"\nmedian of {args.runs}: the original {medians['the_original']:.1f} s, ours {medians['ours']:.1f} s: "
          f"{medians['the_original'] / medians['ours']:.1f} times faster, with "
          f"{megabytes['the_original'] / megabytes['ours']:.1f} times less memory "
          f"({megabytes['ours']:.0f} MB)")


if __name__ == "__main__":
    run(main)
