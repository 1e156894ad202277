"""Work that is shared out to processes of this machine, or to the workers of a Dask cluster, with answers in order."""
import collections
import contextlib
import importlib.util
import itertools
import os
import re
import shutil
import signal
import tempfile
import threading

from expressions.artifacts import ROOT
from expressions.console import InputError

DIED = "ended the process that worked on it: does it need more memory than there is?"


def available_cpus():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(call, tasks, ahead, jobs):
    """Yield (task, call(task)) in order; at most `ahead` tasks are taken in advance, and `jobs` called at once."""
    from concurrent.futures import ThreadPoolExecutor  # here and below: a single image need not wait for it

    threads, waiting, tasks = ThreadPoolExecutor(jobs, initializer=_leave_ctrl_c), collections.deque(), iter(tasks)
    try:
        while True:
            waiting.extend((task, threads.submit(call, task)) for task in itertools.islice(tasks, ahead - len(waiting)))
            if not waiting:
                return
            task, future = waiting.popleft()
            yield task, future.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _leave_ctrl_c():
    """Keep Ctrl-C, which a terminal sends to all processes, from this thread and the processes that it begins."""
    if hasattr(signal, "pthread_sigmask"):  # Windows has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


@contextlib.contextmanager
def in_processes(function):
    """Yield a function that calls `function` in a process that belongs to the calling thread.

    A task that ends its process, for want of memory for example, is tried once more, and then answered by InputError.
    """
    import multiprocessing
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor

    own = threading.local()

    def call(task):
        for _ in range(2):
            if not hasattr(own, "process"):
                own.process = processes.enter_context(
                    ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin))
            try:
                return own.process.submit(function, task).result()
            except BrokenExecutor:
                del own.process
        return InputError(DIED)

    with contextlib.ExitStack() as processes:
        yield call


def _begin():
    import cv2

    cv2.setNumThreads(1)  # the other cores have processes of their own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    import multiprocessing

    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def on_cluster(function, address, models):
    """Yield a function that calls `function` on the workers of a Dask cluster, also on those that join later.

    They get this package as it is here, and `models` as the argument of that name. Workers that have run another
    version of the package must be started anew. Raises InputError where no scheduler answers.
    """
    # Dask's client takes ten seconds to end after an address of another kind
    if not (importlib.util.find_spec("distributed") and re.fullmatch(r"(tcp|tls)://[^/]+:\d+", address)):
        raise InputError(f"give an address like tcp://host:8786 instead of {address}, and see requirements-cluster.txt")
    import logging
    from concurrent.futures import CancelledError

    import distributed

    one_suspect = threading.Lock()
    logging.disable(logging.CRITICAL)  # Dask's tracebacks about workers that come and go
    try:
        client = distributed.Client(address, timeout=5, set_as_default=False)
    except OSError:
        raise InputError(f"no Dask scheduler answers at {address}: check that `dask scheduler` runs there") from None

    def call(task):
        for turn in contextlib.nullcontext(), one_suspect:
            try:
                with turn:
                    return client.submit(function, task, models=shared, pure=False).result()
            except distributed.KilledWorker:
                pass  # Dask also suspects tasks that only waited on the worker: each suspect is tried by itself
            except CancelledError:
                raise InputError("the scheduler is gone: run it again with --resume when it is back") from None
        return InputError(DIED)

    with client, tempfile.TemporaryDirectory() as folder:
        client.upload_file(shutil.make_archive(f"{folder}/expressions", "zip", ROOT, "expressions"))
        shared = client.submit(tuple, models)  # a task, so that it is made anew when its worker is lost
        yield call
