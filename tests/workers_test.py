"""Many pictures at once: processes that die, workers of a real Dask cluster that come and go, runs that go on."""
import contextlib
import csv
import functools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import recognise_video
from preprocessing import InputError
from recognise_image import load_recogniser, recognise_file
from tables import COLUMNS
from workers import Processes, in_order

import cv2
import numpy as np
import pytest
from conftest import ROOT, assert_refused, heed_ctrl_c, run_script

PICTURES = 60


def answer_or_die(tasks, deadly=()):
    """For processes: their numbers doubled, but some numbers end the process."""
    for task in tasks:
        if task in deadly:
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01 * (tasks[0] % 3))  # they do not end in the order in which they began
    return [2 * task for task in tasks]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_what_ends_its_process_is_named_and_all_else_is_answered_in_order():
    pool = Processes(2)
    try:
        answers = list(in_order(pool, functools.partial(answer_or_die, deadly=(3, 4, 17)), range(40)))
    finally:
        pool.close()
    assert [task for task, _ in answers] == list(range(40))
    for task, answer in answers:
        if task in (3, 4, 17):
            assert isinstance(answer, InputError) and "memory" in str(answer)
        else:
            assert answer == 2 * task


def test_only_a_few_are_taken_ahead():
    taken = []
    pool = Processes(2)
    try:
        for task, _ in in_order(pool, answer_or_die, (taken.append(task) or task for task in range(100))):
            assert len(taken) - task <= pool.width + 1
    finally:
        pool.close()


@pytest.fixture(scope="module")
def photos(portrait, tmp_path_factory):
    """Pictures with a face each, of different sizes, in folders, and one that is none; and the rows of one process."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "day 2").mkdir()
    for number in range(PICTURES):
        picture = cv2.resize(portrait[0], (220 + 2 * number, 258 + 2 * number), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / ("day 2" if number % 3 else ".") / f"{number:03}.jpg"), picture)
    (folder / "no picture.png").write_text("no picture")
    recogniser = load_recogniser()
    pictures = [*sorted(folder.glob("*.jpg")), *sorted(folder.glob("day 2/*.jpg"))]  # a folder's own first
    rows = [[str(path), *map(str, row)] for path in pictures for row in recognise_file(path, None, recogniser)[0]]
    rows.insert(0, list(COLUMNS))
    assert len(rows) == PICTURES + 1
    return folder, rows


def rows_of(path):
    return list(csv.reader(open(path, newline="", encoding="utf-8")))


def test_several_processes_give_the_rows_of_one_in_their_order_and_in_every_format(photos, tmp_path):
    folder, expected = photos
    process = run_script("recognise_image.py", folder, "--jobs", 2, *(
        word for ending in ("csv", "json", "jsonl", "parquet") for word in ("--table", f"faces.{ending}")),
        "--output", "drawn", cwd=tmp_path)
    assert_refused(process, folder / "no picture.png", "is not a picture")
    assert rows_of(tmp_path / "faces.csv") == expected
    assert [row[:8] for row in expected[1:]] == list(csv.reader(process.stdout.splitlines()))
    columns, rows = expected[0], [[row[0], *map(int, row[1:6]), row[6], *map(float, row[7:])] for row in expected[1:]]
    objects = [dict(zip(columns, row)) for row in rows]
    assert json.loads((tmp_path / "faces.json").read_text("utf-8")) == objects
    assert [json.loads(line) for line in (tmp_path / "faces.jsonl").read_text("utf-8").splitlines()] == objects
    import pandas as pd
    table = pd.read_parquet(tmp_path / "faces.parquet")
    assert list(table.columns) == columns
    np.testing.assert_allclose(table[columns[7:]], [row[7:] for row in rows], atol=1e-6)
    assert table[columns[:7]].values.tolist() == [row[:7] for row in rows]
    assert len(list((tmp_path / "drawn").rglob("*.jpg"))) == PICTURES
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_resuming_leaves_out_what_a_table_holds(photos, tmp_path, ending):
    folder, expected = photos
    some = sorted(folder.glob("day 2/*.jpg"))[:10]
    table = tmp_path / f"faces.{ending}"
    arguments = ("--no-pictures", "--table", table, "--table", tmp_path / "all.csv")
    assert run_script("recognise_image.py", *some, *arguments).returncode == 0
    process = run_script("recognise_image.py", folder, *arguments, "--resume")
    assert_refused(process, "no picture.png")
    assert f"{PICTURES - 10} pictures" in process.stderr and "10 were done before" in process.stderr
    header, *rows = rows_of(tmp_path / "all.csv")
    assert header == expected[0] and sorted(rows) == sorted(expected[1:])
    assert [row[0] for row in rows[:10]] == list(map(str, some))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_run_killed_again_and_again_ends_with_each_row_once(photos, tmp_path):
    folder, expected = photos
    moments, kills = random.Random(0), 0
    command = [sys.executable, str(ROOT / "recognise_image.py"), str(folder), "--no-pictures", "--csv", "faces.csv",
               "--jobs", "2"]
    part = tmp_path / "faces.csv.part"
    for round_ in range(200):
        process = subprocess.Popen([*command, *["--resume"] * (round_ > 0)], cwd=tmp_path, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        held = part.stat().st_size if part.exists() else 0
        while process.poll() is None and (part.stat().st_size if part.exists() else 0) <= held:
            time.sleep(0.005)
        try:
            process.wait(moments.uniform(0, 0.3))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
            if kills % 4 == 0:  # as if the power had failed in the midst of a line
                os.truncate(part, part.stat().st_size - 7)
        said = process.communicate()[1]
        if process.returncode >= 0:
            break
        assert not (tmp_path / "faces.csv").exists()
    assert process.returncode == 2 and "no picture.png" in said and kills > 3
    assert rows_of(tmp_path / "faces.csv") == expected and not part.exists()


def test_a_journal_of_another_model_is_refused(photos, tmp_path, shipped):
    folder, _ = photos
    (tmp_path / "faces.csv.part").write_text('{"model": "another"}\n["a.jpg", []]\n')
    process = run_script("recognise_image.py", folder, "--no-pictures", "--csv", tmp_path / "faces.csv", "--resume")
    assert_refused(process, "faces.csv.part was begun with another model")
    assert_refused(run_script("recognise_image.py", folder, "--resume"), "--csv")
    (tmp_path / "faces.csv.part").unlink()
    (tmp_path / "faces.csv").write_text("a,b\n1,2\n")
    assert_refused(run_script("recognise_image.py", folder, "--csv", tmp_path / "faces.csv", "--resume"),
                   "is not a table of an earlier run")


def children_of(process):
    """The ids of the processes that a process has started and of those that they have."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = int(re.search(r"^PPid:\t(\d+)", status.read_text(), re.MULTILINE)[1])
        except OSError:
            continue
        if parent == process:
            found += [int(status.parent.name), *children_of(int(status.parent.name))]
    return found


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@linux
def test_a_killed_process_is_replaced_and_none_outlives_its_parent(photos, tmp_path):
    folder, expected = photos
    command = [sys.executable, str(ROOT / "recognise_image.py"), str(folder), "--csv", "faces.csv", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(tmp_path.glob("output_*/**/*.jpg"))) > 5, process)
    working = [child for child in children_of(process.pid) if "spawn_main" in command_line(child)]
    assert len(working) == 2
    os.kill(working[0], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2 and "no picture.png is not" in said.splitlines()[-1]
    assert rows_of(tmp_path / "faces.csv") == expected

    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "faces.csv.part").exists() and len(children_of(process.pid)) >= 2, process)
    orphans = children_of(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{orphan}").exists() and "spawn_main" in command_line(orphan)
                             for orphan in orphans))


def command_line(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def wait_for(is_so, process=None, seconds=120):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end and (process is None or process.poll() is None)
        time.sleep(0.02)


def test_ctrl_c_ends_all_processes_and_says_how_to_go_on(photos, tmp_path):
    folder, expected = photos
    command = [sys.executable, str(ROOT / "recognise_image.py"), str(folder), "--csv", "faces.csv", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               preexec_fn=heed_ctrl_c, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("output_*/**/*.jpg"))) > 5, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said and "leaked" not in said
    assert "--resume" in said.splitlines()[-1]
    rows = rows_of(tmp_path / "faces.csv")
    assert rows == expected[:len(rows)] and 1 < len(rows) < len(expected)
    process = run_script("recognise_image.py", folder, "--csv", "faces.csv", "--resume", cwd=tmp_path)
    assert process.returncode == 2 and rows_of(tmp_path / "faces.csv") == expected


# ---- a cluster ---------------------------------------------------------------------------------

class TestCluster:
    """A scheduler and workers of dask.distributed, each in a process of its own."""
    __test__ = False

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"

    def start(self, *words):
        log = open(self.folder / f"{words[0]} {len(self.processes)}.log", "w")
        self.processes.append(subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + words[0], *map(str, words[1:]), "--no-dashboard"],
            cwd=self.folder, stdout=log, stderr=log,
            env={**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1", "PYTHONPATH": ""}))
        return self.processes[-1]

    def scheduler(self):
        return self.start("scheduler", "--host", "127.0.0.1", "--port", self.port)

    def worker(self, memory="auto"):
        return self.start("worker", self.address, "--nthreads", 1, "--memory-limit", memory,
                          "--local-directory", self.folder / f"worker {len(self.processes)}")

    def stop(self):
        for process in self.processes:
            for child in [process.pid, *children_of(process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(tmp_path):
    pytest.importorskip("distributed", reason="needs dask.distributed: pip install -r requirements-cluster.txt")
    (tmp_path / "cluster").mkdir()
    cluster = TestCluster(tmp_path / "cluster")
    yield cluster
    cluster.stop()


def begin(folder, cluster, cwd, *more):
    return subprocess.Popen([sys.executable, str(ROOT / "recognise_image.py"), str(folder), "--csv", "faces.csv",
                             "--scheduler", cluster.address, *map(str, more)], cwd=cwd, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def drawn(cwd):
    return len(list(cwd.glob("output_*/**/[0-9]*.jpg")))


def assert_all_done(process, cwd, expected):
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2, said
    assert "no picture.png is not a picture that OpenCV reads" in said.splitlines()[-1]
    assert rows_of(cwd / "faces.csv") == expected
    return said


@linux
def test_a_cluster_loses_a_worker_and_gains_another(photos, cluster, tmp_path):
    folder, expected = photos
    cluster.scheduler()
    process = begin(folder, cluster, tmp_path)
    time.sleep(3)
    assert process.poll() is None and drawn(tmp_path) == 0  # no worker yet: it waits
    first = cluster.worker()
    wait_for(lambda: drawn(tmp_path) > 3, process)
    cluster.worker()  # one that joins late
    for child in [first.pid, *children_of(first.pid)]:  # and one that is gone for good
        os.kill(child, signal.SIGKILL)
    assert "Traceback" not in assert_all_done(process, tmp_path, expected)


@linux
def test_a_picture_that_takes_all_memory_is_named_and_the_others_are_done(photos, cluster, tmp_path):
    folder, expected = photos
    poison = tmp_path / "poison.png"
    cv2.imwrite(str(poison), np.zeros((10900, 10900), np.uint8))
    cluster.scheduler()
    for _ in range(2):
        cluster.worker(memory="450MB")
    pictures = [*sorted(folder.glob("*.jpg")), poison, *sorted(folder.glob("day 2/*.jpg"))]
    process = subprocess.Popen([sys.executable, str(ROOT / "recognise_image.py"), *map(str, pictures), "--no-pictures",
                                "--csv", "faces.csv", "--scheduler", cluster.address], cwd=tmp_path,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 2, said
    assert str(poison) in said.splitlines()[-1] and "memory" in said.splitlines()[-1]
    assert rows_of(tmp_path / "faces.csv") == expected


@linux
def test_a_scheduler_that_is_restarted(photos, cluster, tmp_path):
    folder, expected = photos
    scheduler, worker = cluster.scheduler(), cluster.worker()
    process = begin(folder, cluster, tmp_path)
    wait_for(lambda: drawn(tmp_path) > 3, process)
    for lost in (scheduler, worker):
        for child in [lost.pid, *children_of(lost.pid)]:
            os.kill(child, signal.SIGKILL)
        lost.wait()
    time.sleep(1)
    cluster.scheduler(), cluster.worker()
    assert_all_done(process, tmp_path, expected)


def test_no_scheduler_is_said(photos, tmp_path):
    pytest.importorskip("distributed", reason="needs dask.distributed: pip install -r requirements-cluster.txt")
    process = run_script("recognise_image.py", photos[0], "--csv", tmp_path / "a.csv", "--scheduler",
                         "tcp://127.0.0.1:9")
    assert_refused(process, "no Dask scheduler answers at tcp://127.0.0.1:9")


@linux
def test_a_cluster_recognises_a_video_in_parts(portrait, cluster, tmp_path, monkeypatch):
    import av

    monkeypatch.chdir(tmp_path)
    picture = cv2.resize(portrait[0], (256, 300), interpolation=cv2.INTER_AREA)
    with av.open("video.mp4", "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"g": "20"})
        stream.width, stream.height, stream.pix_fmt = 320, 300, "yuv420p"
        for number in range(250):
            frame = np.zeros((300, 320, 3), np.uint8)
            frame[:, number // 5:number // 5 + 256] = picture
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        file.mux(stream.encode(None))
    recognise_video.main(["video.mp4", "--no-video", "--csv", "whole.csv", "--quiet"])
    cluster.scheduler(), cluster.worker(), cluster.worker()
    monkeypatch.setattr(recognise_video, "PART", 2)
    recognise_video.main(["video.mp4", "--no-video", "--csv", "parts.csv", "--quiet", "--scheduler", cluster.address])
    whole, parts = (np.array([row[:7] for row in rows_of(tmp_path / name)[1:]], float) for name in
                    ("whole.csv", "parts.csv"))
    assert len(whole) == 250 and parts[:, 2].tolist() == [1] * 250
    np.testing.assert_array_equal(parts[:, :2], whole[:, :2])
    np.testing.assert_allclose(parts[:, 3:], whole[:, 3:], atol=10)
