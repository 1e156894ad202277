"""Work that is shared out to processes of this machine, or to the workers of a Dask cluster, with answers in order."""
import collections
import concurrent.futures
import importlib.util
import itertools
import logging
import multiprocessing
import os
import re
import signal
import tempfile
import threading
import zipfile
from pathlib import Path

from expressions.console import InputError

CONNECT_SECONDS = 5  # to wait for a scheduler
DIED = "ended the process that worked on it: does it need more memory than there is?"


def available_cpus():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(make_executor, function, tasks, ahead):
    """Yield (task, function(task)) in the order of the tasks, of which at most `ahead` are taken in advance.

    `make_executor` makes an executor as process_pool does. A task may end its process, because it takes more memory
    than there is for example: it is tried once more, alone, and if that ends the same way its answer is an InputError.
    All other tasks go on. An exception of `function` is raised here.
    """
    executor, waiting, tasks = make_executor(), collections.deque(), iter(tasks)

    def submit(task):
        try:
            return executor.submit(function, task)
        except executor.deaths as error:  # a process has died since the last answer
            failed = concurrent.futures.Future()
            failed.set_exception(error)
            return failed

    def renew():
        executor.shutdown(wait=False, cancel_futures=True)
        return make_executor()

    try:
        while True:
            waiting.extend((task, submit(task)) for task in itertools.islice(tasks, ahead - len(waiting)))
            if not waiting:
                return
            task, future = waiting.popleft()
            try:
                answer = future.result()
            except executor.deaths:
                executor = renew()
                try:
                    answer = submit(task).result()
                except executor.deaths:
                    executor, answer = renew(), InputError(DIED)
                waiting = collections.deque((task, future if _is_done(future) else submit(task))
                                            for task, future in waiting)
            yield task, answer
    except ImportError as error:  # of a cluster's worker
        raise InputError(f"a worker lacks {error.name}: install requirements-recognise.txt there") from None
    except concurrent.futures.CancelledError:
        raise InputError("the scheduler is gone: run it again with --resume when it is back") from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _is_done(future):
    return future.done() and not future.cancelled() and future.exception() is None


def process_pool(jobs):
    """An executor of so many processes of this machine, which leave Ctrl-C to this one and do not outlive it."""
    executor = concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin)
    executor.deaths = (concurrent.futures.BrokenExecutor,)
    set_mask = getattr(signal, "pthread_sigmask", lambda how, signals: None)  # Windows has none
    before = set_mask(signal.SIG_BLOCK, {signal.SIGINT})  # the terminal sends Ctrl-C to processes that begin, too
    for _ in range(jobs):
        executor.submit(os.getpid)  # begins a process
    set_mask(signal.SIG_SETMASK, before)
    return executor


def _begin():
    import cv2

    cv2.setNumThreads(1)  # the other cores have processes of their own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def dask_executor(address, models):
    """An executor of the workers of a Dask cluster, also of those that join later; they get this package as it is here.

    `function` gets `models`, a tuple, as its argument of that name. Workers that have run another version of
    the package must be started anew. Raises InputError where no scheduler answers.
    """
    if not importlib.util.find_spec("distributed"):
        raise InputError("--scheduler needs Dask: pip install -r requirements-cluster.txt")
    if not re.fullmatch(r"(tcp|tls)://[^/]+:\d+", address):
        raise InputError(f"{address} is no address of a Dask scheduler: give one like tcp://host:8786")
    import distributed

    logging.disable(logging.CRITICAL)  # Dask's tracebacks about workers that come and go
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError):
        raise InputError(f"no Dask scheduler answers at {address}: check the address, and that `dask scheduler` runs "
                         "there") from None
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "expressions.zip"
        with zipfile.ZipFile(package, "w") as file:
            for room in Path(__file__).parent.glob("*.py"):
                file.write(room, f"expressions/{room.name}")
        client.upload_file(str(package))
    return _DaskExecutor(client, models)


class _DaskExecutor:
    """A client's executor that hands the model to each call, and closes the client at its end."""

    def __init__(self, client, models):
        from distributed.scheduler import KilledWorker

        self.client, self.deaths = client, (KilledWorker,)
        self.executor = client.get_executor(pure=False)
        self.models = client.submit(tuple, models)  # a task, so that it is made anew when its worker is lost

    def submit(self, function, task):
        return self.executor.submit(function, task, models=self.models)

    def shutdown(self, wait, cancel_futures):
        self.executor.shutdown(wait=False)
        self.client.close(timeout=5)
