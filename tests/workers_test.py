"""Work shared out to processes or to a Dask cluster: answers in order, whatever happens to the processes."""
import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from windows import RunningScript, rows_of

import recognise_image
from expressions.console import InputError
from expressions.workers import in_order, in_processes, on_cluster

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")


def double_or_die(task, deadly=()):
    if task in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    if task % 3 == 0:
        time.sleep(0.01)  # they do not end in the order in which they began
    return 2 * task


def test_what_ends_its_process_is_named_and_all_else_is_answered_in_order():
    with in_processes(functools.partial(double_or_die, deadly=(3, 4, 17))) as call:
        answers = list(in_order(call, range(25), ahead=6, jobs=2))
    assert [(task, str(answer).partition(" the process")[0]) for task, answer in answers] == [
        (task, "ended" if task in (3, 4, 17) else str(2 * task)) for task in range(25)]


def test_only_a_few_are_taken_ahead_and_an_error_is_raised_here():
    taken = []
    answers = in_order(lambda task: 2 * task, (taken.append(task) or task for task in range(100)), ahead=6, jobs=2)
    for task, (_, answer) in zip(range(10), answers):
        assert len(taken) <= task + 6 and answer == 2 * task
    answers.close()
    with pytest.raises(TypeError), in_processes(double_or_die) as call:
        list(in_order(call, [1, "text"], ahead=6, jobs=2))


class Cluster:
    """A scheduler and workers of dask.distributed, each in a process of its own."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def start(self, kind, *words):
        self.processes.append(subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, words), "--no-dashboard"],
            cwd=self.folder, start_new_session=True,
            env={**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "PYTHONPATH": ""}))
        return self.processes[-1]

    def scheduler(self):
        process = self.start("scheduler", "--host", "127.0.0.1", "--port", self.port)
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return process

    def worker(self, memory="auto"):
        return self.start("worker", self.address, "--nthreads", 1, "--memory-limit", memory,
                          "--local-directory", self.folder / f"worker {len(self.processes)}")

    def kill(self, process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it and those that it has started
        process.wait()

    def begin(self, *more):
        return RunningScript(Path.cwd(), "recognise_image.py", "photos", "--table", "faces.csv", "--scheduler",
                             self.address, *more)


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("distributed", reason="pip install -r requirements-cluster.txt")
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster")
    yield cluster
    for process in cluster.processes:
        cluster.kill(process)


@pytest.fixture
def expected(portrait, tmp_path, monkeypatch):
    """The rows that this process gives for the folder `photos`: 24 images, one of them damaged."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(23):
        cv2.imwrite(f"photos/{number:02}.jpg", cv2.resize(portrait[0], (220 + 4 * number, 258 + 4 * number)))
    Path("photos/damaged.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match="is damaged"):
        recognise_image.main(["photos", "--table", "expected.csv", "--no-images"])
    return rows_of("expected.csv")


@pytest.mark.exhaustive
def test_a_cluster_gives_the_same_rows_while_workers_come_and_go(expected, cluster):
    cluster.scheduler()
    script = cluster.begin()  # there is no worker yet: it waits
    first = cluster.worker()
    script.wait_for_rows()
    cluster.worker()  # joins late
    cluster.kill(first)
    assert "photos/damaged.jpg is damaged" in script.finish(status=2).splitlines()[-1]
    assert rows_of("faces.csv") == expected and len(list(Path("output_photos").iterdir())) == 23


@pytest.mark.exhaustive
def test_an_image_that_takes_all_memory_is_named_and_the_others_are_done(expected, cluster):
    cv2.imwrite("photos/10b poison.png", cv2.resize(cv2.imread("photos/10.jpg"), (10900, 10900)))
    cluster.scheduler()
    for _ in range(2):
        cluster.worker(memory="450MB")
    cluster.begin("--no-images").finish(status=2)
    rows = rows_of("faces.csv")
    assert rows.pop(11)["error"].startswith("photos/10b poison.png: ended the process that worked on it")
    assert rows == expected


@pytest.mark.exhaustive
def test_a_lost_scheduler_is_said_and_resuming_goes_on(expected, cluster):
    import distributed

    scheduler = cluster.scheduler()
    script = cluster.begin()
    with distributed.Client(cluster.address, set_as_default=False) as client:
        script.wait_until(lambda: client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) >= 24)
    cluster.kill(scheduler)  # while it holds all images
    assert "--resume" in script.finish(status=2).splitlines()[-1]
    cluster.scheduler(), cluster.worker()
    cluster.begin("--resume").finish(status=2)
    assert rows_of("faces.csv") == expected


@pytest.mark.parametrize("address", ["garbage", "http://127.0.0.1:9", "tcp://127.0.0.1"])
def test_what_is_no_address_of_a_scheduler_is_said_at_once(address):
    with pytest.raises(InputError, match=f"an address like .* instead of {address}"), on_cluster(len, address, ()):
        pass
