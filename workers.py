"""Hand work to processes of this machine, or to a Dask cluster that is there, and get the answers back in order.

A process may die over its work, because a picture takes more memory than there is, say, or is killed: what it was at
is tried once more, alone, and if that ends the same way it is named as failed. All else goes on.
"""
import asyncio
import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import importlib.util
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

from preprocessing import InputError

PATIENCE = 300  # seconds to wait for a scheduler that is being restarted
SHIPPED = ("preprocessing.py", "confmatrix.py", "saved_model.py", "tables.py", "recognise_image.py",
           "recognise_video.py")  # the scripts that a cluster's workers need
DIED = "ended the process that worked on it: does it need more memory than there is?"


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes:
    """So many processes of this machine."""
    killed = (concurrent.futures.process.BrokenProcessPool,)  # what a future raises where its process has died
    gone = ()  # what it raises where the work is not to blame
    batch = 1  # pieces of work handed over at once

    def __init__(self, jobs):
        self.width = 3 * jobs  # batches under way, so that none waits for work or takes memory in vain
        self.jobs = jobs
        self.executor = None
        # Of a pool that Ctrl-C has struck before it was closed; Python clears it away all the same.
        os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
        self.renew()

    def renew(self):
        if self.executor:
            self.executor.shutdown(wait=False)
        self.executor = concurrent.futures.ProcessPoolExecutor(self.jobs, multiprocessing.get_context("spawn"), _begin)

    def submit(self, function, tasks):
        with _without_ctrl_c():  # a process begins here; the terminal sends Ctrl-C to it, too
            return self.executor.submit(function, tasks)

    def close(self):
        self.executor.shutdown(cancel_futures=True)


def _begin():
    """What each process begins with: it leaves Ctrl-C to the one that started it, and does not outlive that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextlib.contextmanager
def _without_ctrl_c():
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Cluster:
    """The workers of a Dask cluster, which get this project's scripts and the model's files."""
    batch = 16  # a scheduler hands out some thousand pieces a second, whatever their size

    def __init__(self, address, models):
        if not importlib.util.find_spec("distributed"):
            raise InputError("--scheduler needs Dask: pip install -r requirements-cluster.txt")
        import distributed
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)  # what it says of workers that come and go
        self.killed = (distributed.scheduler.KilledWorker,)
        closed = getattr(distributed.client, "ClosedClientError", CommClosedError)  # newer ones have it
        self.gone = (FutureCancelledError, closed, CommClosedError, concurrent.futures.CancelledError)
        self.address, self.client = address, None
        here = Path(__file__).parent
        self.files = {name: (here / name).read_bytes() for name in SHIPPED}
        self.files |= {f"models/{path.name}": path.read_bytes() for path in models}
        self.renew(patience=10)

    def renew(self, patience=PATIENCE):
        """Connect to the scheduler, anew where it was restarted."""
        import distributed

        if self.client and self.client.status == "running":
            return
        end = time.monotonic() + patience
        while True:
            if self.client:
                self.client.close(timeout=1)
            try:
                self.client = distributed.Client(self.address, timeout=min(10, patience), set_as_default=False)
                self.client.register_plugin(project_plugin(self.files))
                return
            except (OSError, ValueError, asyncio.TimeoutError, *self.gone) as error:
                if time.monotonic() > end or isinstance(error, ValueError):
                    raise InputError(f"no Dask scheduler answers at {self.address}: check the address, and that "
                                     "`dask scheduler` runs there") from None
                time.sleep(1)

    @property
    def width(self):
        """Batches under way: some for each thread of each worker that is there now."""
        try:
            threads = sum(self.client.nthreads().values())
        except (OSError, asyncio.TimeoutError, *self.gone):  # the next answer tells
            threads = 0
        return 3 * max(2, threads)

    def submit(self, function, tasks):
        """Hand over a functools.partial of a script's function; its name travels, for a scheduler has no scripts."""
        script = Path(sys.modules[function.func.__module__].__file__).stem
        return self.client.submit(caller(), script, function.func.__name__, tasks, function.keywords, pure=False)

    def close(self):
        self.client.close(timeout=5)


def caller():
    """A function that calls a script's function by name; made here so that it travels whole."""
    def call(script, name, tasks, settings):
        import importlib

        return getattr(importlib.import_module(script), name)(tasks, **settings)

    return call


def project_plugin(files):
    """A Dask plugin that gives each worker, also one that joins late, these files {relative path: bytes} to import."""
    from distributed import WorkerPlugin

    class Project(WorkerPlugin):  # in a function: so it travels whole, as the workers have nothing to import it from
        name = "facial expressions"

        def __init__(self):
            self.files = files

        def setup(self, worker):
            folder = Path(worker.local_directory) / "facial-expressions"
            for name, content in self.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                sys.modules.pop(path.stem, None)  # of an earlier run
            sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]

    return Project()


def in_order(pool, function, tasks):
    """Yield each task with its answer, in the order of the tasks, of which only a few are taken ahead.

    `function` takes a list of tasks and returns a list of answers. For a task that ends its process the answer is an
    InputError.
    """
    tasks, waiting = iter(tasks), collections.deque()
    while True:
        width = pool.width
        while len(waiting) < width:
            batch = list(itertools.islice(tasks, pool.batch))
            if not batch:
                break
            waiting.append((batch, _submit(pool, function, batch)))
        if not waiting:
            return
        batch, future = waiting.popleft()
        try:
            answers = future.result()
        except (*pool.killed, *pool.gone):
            pool.renew()
            answers = [_alone(pool, function, task) for task in batch]
            waiting = collections.deque((batch, future if _is_done(future) else _submit(pool, function, batch))
                                        for batch, future in waiting)
        except ImportError as error:
            raise InputError(f"a worker lacks {error.name}: install requirements-recognise.txt there") from None
        yield from zip(batch, answers)


def _submit(pool, function, batch):
    try:
        return pool.submit(function, batch)
    except (*pool.killed, *pool.gone) as error:  # it has died since the last answer
        future = concurrent.futures.Future()
        future.set_exception(error)
        return future


def _is_done(future):
    return future.done() and not future.cancelled() and future.exception() is None


def _alone(pool, function, task):
    """The answer to one task, with nothing else under way that might end its process."""
    while True:
        try:
            [answer] = _submit(pool, function, [task]).result()
            return answer
        except pool.killed:
            pool.renew()
            return InputError(DIED)
        except pool.gone:
            pool.renew()
