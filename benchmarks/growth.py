"""How recognise_image.py grows: with more processes, and with larger folders.

Draws two pictures into one file. Above, pictures a second for 1, 2, 3 and 4 processes of this machine and, where Dask
is installed, as many workers of a cluster that is started here: medians of runs in turn, of copies of matplotlib's
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

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from preprocessing import EXPRESSIONS, InputError, draw_face, run, script_parser, written_whole  # noqa: E402
from recognise_image import portrait  # noqa: E402
from workers import cores  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from memory import family  # noqa: E402

WORKERS = (1, 2, 3, 4)
DISTINCT = 50  # faces; the others are links to these


def make_photos(folder, number):
    folder.mkdir()
    picture = cv2.imread(str(portrait()))
    for index in range(number):
        zoom = 0.5 + index / number  # 256 to 768 pixels wide
        cv2.imwrite(str(folder / f"{index:04}.jpg"), cv2.resize(picture, None, fx=zoom, fy=zoom,
                                                                 interpolation=cv2.INTER_AREA))


def make_faces(folder, number):
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(number):
        path = folder / f"{index:06}.jpg"
        if index < DISTINCT:
            face = draw_face(EXPRESSIONS[index % len(EXPRESSIONS)], random)
            cv2.imwrite(str(path), cv2.resize(face, (96, 96), interpolation=cv2.INTER_LINEAR))
        else:
            os.link(folder / f"{index % DISTINCT:06}.jpg", path)


def measure(folder, *arguments):
    """Run recognise_image.py on a folder: its seconds, and the most MB that it and its processes held."""
    start, most = time.monotonic(), 0
    process = subprocess.Popen([sys.executable, ROOT / "recognise_image.py", folder.name, "--no-pictures", "--quiet",
                                "--csv", "rows.csv", *map(str, arguments)], cwd=folder.parent,
                               stdout=subprocess.DEVNULL)
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):  # one has just ended
            pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(process.pid))
            most = max(most, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        time.sleep(0.05)
    if process.returncode:
        raise InputError(f"recognise_image.py ended with status {process.returncode}")
    return time.monotonic() - start, most


class Dask:
    """A scheduler and so many workers on this machine, until it is closed."""

    def __init__(self, folder, workers):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "tcp://{}:{}".format(*free.getsockname())
        port = self.address.rpartition(":")[2]
        self.processes = [self.start(folder, "scheduler", "--port", port, "--host", "127.0.0.1")]
        for number in range(workers):
            self.processes.append(self.start(folder, "worker", self.address, "--nthreads", "1", "--no-nanny",
                                             "--local-directory", folder / str(number)))

        from distributed import Client
        with Client(self.address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)

    @staticmethod
    def start(folder, what, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *map(str, words), "--no-dashboard"]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def draw(rates, sizes, memory, path):
    """The two pictures. `rates` is {label: pictures a second for each of WORKERS}."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1)
    for label, values in rates.items():
        [line] = above.plot(WORKERS, values, "o-", label=label)
        for workers, value in zip(WORKERS, values):
            above.annotate(f"{value:.1f}", (workers, value), (0, 16 if label != "Dask workers" else -22),
                           textcoords="offset points", ha="center", color=line.get_color(),
                           bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    one = next(iter(rates.values()))[0]
    above.plot(WORKERS, [one * min(workers, cores()) for workers in WORKERS], "--", color="grey",
               label=f"one process times {cores()} cores at most")
    above.set(xticks=WORKERS, xlim=(0.8, max(WORKERS) + 0.2), ylim=(0, 1.3 * one * min(cores(), max(WORKERS))),
              xlabel="processes", ylabel="pictures a second", title="Portraits of 256 to 768 pixels")
    above.legend(loc="lower right")
    below.semilogx(sizes, memory, "o-", color="tab:red")
    for size, megabytes in zip(sizes, memory):
        below.annotate(f"{megabytes:.0f} MB", (size, megabytes), (0, 10), textcoords="offset points",
                       ha="center")
    below.set(ylim=(0, 1.4 * max(memory)), xlim=(sizes[0] / 2, sizes[-1] * 2), xlabel="drawn faces in the folder",
              ylabel="MB, all processes together", title="The most memory held")
    below.set_xticks(sizes, [f"{size:,}" for size in sizes])
    below.minorticks_off()
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    with written_whole(path) as [beside]:
        figure.savefig(beside)


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("output", type=Path, help="the picture to write")
    parser.add_argument("--photos", type=int, default=120, help="portraits (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each number of processes (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=(100, 1_000, 10_000, 100_000), help="of the folders")
    args = parser.parse_args(argv)
    rates = {"processes of this machine": [[] for _ in WORKERS], "Dask workers": [[] for _ in WORKERS]}
    try:
        import distributed  # noqa: F401
    except ImportError:
        del rates["Dask workers"]
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        make_photos(top / "photos", args.photos)
        for round_ in range(args.rounds):
            for index, workers in enumerate(WORKERS):
                for label, runs in rates.items():
                    if label == "Dask workers":
                        (top / f"dask {round_} {workers}").mkdir()
                        cluster = Dask(top / f"dask {round_} {workers}", workers)
                        seconds, _ = measure(top / "photos", "--scheduler", cluster.address)
                        cluster.close()
                    else:
                        seconds, _ = measure(top / "photos", "--jobs", workers)
                    runs[index].append(args.photos / seconds)
                    print(f"{label}: {workers}, {runs[index][-1]:.1f} pictures a second", flush=True)
        rates = {label: [statistics.median(values) for values in runs] for label, runs in rates.items()}
        memory = []
        for size in args.sizes:
            make_faces(top / str(size), size)
            seconds, megabytes = measure(top / str(size))
            memory.append(megabytes)
            print(f"{size:,} faces: {megabytes:.0f} MB, {seconds:.1f} s", flush=True)
    for label, values in rates.items():
        print(f"{label}: " + ", ".join(f"{workers}: {value:.1f} ({value / values[0]:.2f} times one)"
                                       for workers, value in zip(WORKERS, values)))
    draw(rates, list(args.sizes), memory, args.output)


if __name__ == "__main__":
    run(main)
