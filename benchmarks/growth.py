"""Measure how recognise_image.py grows: with more processes, and with larger folders.

Draws two plots into one file. Above, images a second for 1, 2, 3 and 4 processes of this machine and, where Dask is
installed, as many workers of a cluster that is started here: medians of runs in turn, of copies of matplotlib's
portrait in many sizes, from the shell to the last row. Below, the most memory that all processes together hold (on
Linux) for folders of 100 to 100,000 drawn faces of 96 x 96 pixels.

$ python benchmarks/growth.py growth.png
"""
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from memory import process_tree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from expressions.artifacts import ROOT, replace_when_whole
from expressions.console import InputError, positive_int, run, script_parser
from expressions.images import sample_image_path
from expressions.labels import EXPRESSIONS
from expressions.sample import draw_schematic_face
from expressions.workers import available_cpus

WORKERS = (1, 2, 3, 4)
DISTINCT = 50  # faces; the others are links to these
LOCAL, DASK = "processes of this machine", "Dask workers"


# ---- what is recognised ------------------------------------------------------------------------

def make_photos(folder, number):
    folder.mkdir()
    image = cv2.imread(str(sample_image_path()))
    for index in range(number):
        zoom = 0.5 + index / number  # 256 to 768 pixels wide
        cv2.imwrite(str(folder / f"{index:04}.jpg"), cv2.resize(image, None, fx=zoom, fy=zoom,
                                                                interpolation=cv2.INTER_AREA))


def make_faces(folder, number):
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(number):
        path = folder / f"{index:06}.jpg"
        if index < DISTINCT:
            face = draw_schematic_face(EXPRESSIONS[index % len(EXPRESSIONS)], random)
            cv2.imwrite(str(path), cv2.resize(face, (96, 96), interpolation=cv2.INTER_LINEAR))
        else:
            os.link(folder / f"{index % DISTINCT:06}.jpg", path)


# ---- measuring ---------------------------------------------------------------------------------

def measure(folder, *arguments):
    """Run recognise_image.py on a folder; return its seconds, and the most MB that it and its processes held."""
    start, peak = time.monotonic(), 0
    process = subprocess.Popen([sys.executable, ROOT / "recognise_image.py", folder.name, "--no-images", "--quiet",
                                "--table", "rows.csv", *map(str, arguments)], cwd=folder.parent,
                               stdout=subprocess.DEVNULL)
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):  # one has just ended
            pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in process_tree(process.pid))
            peak = max(peak, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        time.sleep(0.05)
    if process.returncode:
        raise InputError(f"recognise_image.py ended with status {process.returncode}")
    return time.monotonic() - start, peak


@contextlib.contextmanager
def dask_cluster(folder, workers):
    """Yield the address of a scheduler with so many workers on this machine."""
    def start(kind, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, words), "--no-dashboard"]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    from distributed import Client

    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    address = f"tcp://{host}:{port}"
    processes = [start("scheduler", "--port", port, "--host", host)]
    try:
        processes += [start("worker", address, "--nthreads", 1, "--no-nanny", "--local-directory", folder / str(number))
                      for number in range(workers)]
        with Client(address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def measure_rates(top, photos, rounds):
    """Return {label: images a second for each of WORKERS}, medians of rounds in turn."""
    labels = [LOCAL]
    try:
        import distributed  # noqa: F401
        labels.append(DASK)
    except ImportError:
        pass
    runs = {label: [[] for _ in WORKERS] for label in labels}
    for number in range(rounds):
        for index, workers in enumerate(WORKERS):
            for label in labels:
                if label == DASK:
                    with dask_cluster(top / f"dask {number} {workers}", workers) as address:
                        seconds, _ = measure(top / "photos", "--scheduler", address)
                else:
                    seconds, _ = measure(top / "photos", "--jobs", workers)
                runs[label][index].append(photos / seconds)
                print(f"{label}: {workers}, {photos / seconds:.1f} images a second", flush=True)
    return {label: [statistics.median(values) for values in columns] for label, columns in runs.items()}


def measure_memory(top, sizes):
    """Return the MB at the peak for folders of these sizes."""
    memory = []
    for size in sizes:
        make_faces(top / str(size), size)
        seconds, megabytes = measure(top / str(size))
        memory.append(megabytes)
        print(f"{size:,} faces: {megabytes:.0f} MB, {seconds:.1f} s", flush=True)
    return memory


# ---- plots -------------------------------------------------------------------------------------

def plot_rates(axes, rates):
    for label, values in rates.items():
        [line] = axes.plot(WORKERS, values, "o-", label=label)
        for workers, value in zip(WORKERS, values):
            axes.annotate(f"{value:.1f}", (workers, value), (0, -22 if label == DASK else 16),
                          textcoords="offset points", ha="center", color=line.get_color(),
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    one, cpus = rates[LOCAL][0], available_cpus()
    axes.plot(WORKERS, [one * min(workers, cpus) for workers in WORKERS], "--", color="grey",
              label=f"one process times {cpus} cores at most")
    axes.set(xticks=WORKERS, xlim=(0.8, max(WORKERS) + 0.2), ylim=(0, 1.5 * one * min(cpus, max(WORKERS))),
             xlabel="processes", ylabel="images a second", title="Portraits of 256 to 768 pixels")
    axes.legend(loc="upper center", ncols=3)


def plot_memory(axes, sizes, memory):
    axes.semilogx(sizes, memory, "o-", color="tab:red")
    for size, megabytes in zip(sizes, memory):
        axes.annotate(f"{megabytes:.0f} MB", (size, megabytes), (0, 10), textcoords="offset points", ha="center")
    axes.set(ylim=(0, 1.4 * max(memory)), xlim=(sizes[0] / 2, sizes[-1] * 2), xlabel="drawn faces in the folder",
             ylabel="MB, all processes together", title="The most memory held")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("output", type=Path, help="the image to write")
    parser.add_argument("--photos", type=positive_int, default=500, help="portraits (default: %(default)s)")
    parser.add_argument("--rounds", type=positive_int, default=3, help="runs of each number of processes (default: 3)")
    parser.add_argument("--sizes", type=positive_int, nargs="+", default=(100, 1_000, 10_000, 100_000),
                        help="of the folders")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        make_photos(top / "photos", args.photos)
        rates = measure_rates(top, args.photos, args.rounds)
        memory = measure_memory(top, args.sizes)
    for label, values in rates.items():
        print(f"{label}: " + ", ".join(f"{workers}: {value:.1f} ({value / values[0]:.2f} times one)"
                                       for workers, value in zip(WORKERS, values)))

    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1)
    plot_rates(above, rates)
    plot_memory(below, args.sizes, memory)
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    with replace_when_whole(args.output) as [temporary]:
        figure.savefig(temporary)


if __name__ == "__main__":
    run(main)
