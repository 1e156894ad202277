"""Measure how long it takes from the shell to the first recognised image, and how much memory.

Runs in turn, each time in a process of its own: recognise_image.py on the portrait that comes with matplotlib; the
same with Keras instead of OpenCV; and as the floor a line of Python that imports OpenCV, reads the portrait and finds
the face as the original project does, with no network.
Prints seconds and peak memory of each, medians over the runs. For Linux and macOS.

$ python benchmarks/start.py
$ python benchmarks/start.py --runs 15
"""
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions.console import InputError, positive_int, run, script_parser

# Linux counts into a child's peak what its parent held when it started it. So this script imports less than the floor
# does, and nothing more may be imported above.
ROOT = Path(__file__).resolve().parent.parent
FLOOR = """
import importlib.util, pathlib, cv2
package = pathlib.Path(importlib.util.find_spec("matplotlib").origin).parent
image = cv2.imread(str(package / "mpl-data/sample_data/grace_hopper.jpg"))
cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
assert len(cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1.3, 5)) == 1
"""
KERAS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from expressions import drawing, evaluation, images, model_files, recognition
model, image = model_files.load_model(), images.read_image(images.sample_image_path())
recogniser = recognition.Recogniser()
recogniser.classify = lambda faces: evaluation.predict(model, faces)
drawing.draw_faces(image, recogniser(image))
images.write_image(images.output_path(images.sample_image_path()), image)
"""
METHODS = {"floor": ["-c", FLOOR], "ours": [ROOT / "recognise_image.py", "--quiet"], "keras": ["-c", KERAS]}


def measure(method):
    """Return the seconds and the megabytes (peak) of one run, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "errors", "w+") as errors:
        start = perf_counter()
        process = subprocess.Popen([sys.executable, *METHODS[method]], cwd=folder, stdout=subprocess.DEVNULL,
                                   stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)  # of this child alone; getrusage has the largest of all
        seconds = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip() or "it said nothing").splitlines()[-1]
            raise InputError(f"{method} ended with status {process.returncode}: {last}")
    return seconds, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--runs", type=positive_int, default=7, help="of each method (default: %(default)s)")
    args = parser.parse_args(argv)
    if not hasattr(os, "wait4"):
        raise InputError("this system does not tell what memory a process took: use Linux or macOS")

    runs = {method: [] for method in METHODS}
    for number in range(args.runs):
        for method in METHODS:
            runs[method].append(measure(method))
            print("run {}: {:5} {:6.2f} s {:6.0f} MB".format(number + 1, method, *runs[method][-1]), file=sys.stderr)
    medians = {method: [statistics.median(column) for column in zip(*runs[method])] for method in METHODS}
    print(f"median of {args.runs}   seconds   MB   times the floor")
    for method, (seconds, megabytes) in medians.items():
        print(f"{method:11} {seconds:9.2f} {megabytes:4.0f} {seconds / medians['floor'][0]:17.1f}")


if __name__ == "__main__":
    run(main)
