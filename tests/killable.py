"""Runs a script's main again and again in forked processes that are killed: started by killed_test.py.

python tests/killable.py SCRIPT MODULE... imports them once, as importing TensorFlow takes longer than most kills.
Reads JSON lines {"arguments": [...], "cwd": folder, "seconds": of life, or null, "moves": or null}: the process is
killed after these seconds, or as it is about to rename its file number `moves`. Answers with the exit status,
negative for a signal, and the seconds it lived.
"""
import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def child(script, arguments, cwd, moves):
    """What the forked process does, and never returns from."""
    os.chdir(cwd)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    sys.argv = [f"{script.__name__}.py", *arguments]

    def count_moves(event, _):
        nonlocal moves
        if event == "os.rename":
            moves -= 1
            if not moves:
                os.kill(os.getpid(), signal.SIGKILL)

    if moves:
        sys.addaudithook(count_moves)
    try:
        script.run(script.main)
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code or 0)
    finally:
        os._exit(99)


def small_network(size=48, normalization=None, way=None):
    """In place of the network: what is tested is how it is written, not how it learns."""
    import keras

    return keras.Sequential([keras.Input((size, size, 1)), keras.layers.Conv2D(4, 3, strides=3),
                             keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(7, "softmax", dtype="float32")])


def main():
    script, *_ = [importlib.import_module(name) for name in sys.argv[1:]]
    if script.__name__ == "train_model":
        script.build_network = small_network
    answers = os.fdopen(os.dup(1), "w")
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        start = time.monotonic()
        process = os.fork()
        if not process:
            child(script, task["arguments"], task["cwd"], task["moves"])
        killer = threading.Timer(task["seconds"] or 300, os.kill, (process, signal.SIGKILL))
        killer.start()
        _, status = os.waitpid(process, 0)
        killer.cancel()
        print(os.waitstatus_to_exitcode(status), time.monotonic() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
