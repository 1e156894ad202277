"""Ctrl-C at random moments: status 130, a sentence on what is safe and how to go on, never a traceback."""
import os
import random
import signal
import subprocess
import sys
import time

from preprocessing import save_arrays
from saved_model import save_model
from train_model import build_network

import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, csv_text, heed_ctrl_c, write_video

MOMENTS = 6  # of each script
STARTED = 0.1  # seconds until Python has begun with the script itself


@pytest.fixture(scope="module")
def place(small_set, portrait, tmp_path_factory):
    """A folder with what every script needs."""
    folder = tmp_path_factory.mktemp("place")
    faces, labels, usage = small_set
    (folder / "fer2013.csv").write_text(csv_text(*small_set))
    save_arrays({folder / "fdataX.npy": faces, folder / "flabels.npy": np.eye(7, dtype=np.uint8)[labels],
                 folder / "fusage.npy": usage})
    np.save(folder / "truey.npy", labels.astype(int))
    np.save(folder / "predy.npy", labels.astype(int))
    save_model(build_network(), folder / "models")
    (folder / "pictures").mkdir()
    for number in range(60):
        cv2.imwrite(str(folder / f"pictures/{number}.jpg"), portrait[0])
    picture = cv2.resize(portrait[0], (256, 300))
    write_video(folder / "clip.mp4", [picture] * 75)
    return folder


def interrupt(command, folder, seconds, times=1):
    """Run a script and press Ctrl-C after so many seconds; its status, what it said, and how long it lived."""
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, str(ROOT / command[0]), *command[1:]], cwd=folder, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c,
                               env={**os.environ, **NO_DISPLAY})
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
    _, said = process.communicate(timeout=120)
    return process.returncode, said, time.monotonic() - start


COMMANDS = [
    ["preprocessing.py", "fer2013.csv", "--data", "out"],
    ["train_model.py", "--data", ".", "--models", "trained", "--epochs", "2", "--batch-size", "28"],
    ["test_model.py", "--data", "."],
    ["confmatrix.py", "--data", "."],
    ["recognise_image.py", "pictures", "--csv", "rows.csv"],
    ["recognise_video.py", "clip.mp4", "--csv", "rows.csv"],
    ["webcam_live.py", "clip.mp4", "--record", "live.mp4", "--csv", "rows.csv"],
    ["image_from_camera.py", "clip.mp4", "--now", "--output", "taken.jpg"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_ctrl_c_at_any_moment(place, command):
    status, _, life = interrupt(command, place, 100)
    assert status == 0
    moments = random.Random(command[0])
    interrupted = early = 0
    for number in range(MOMENTS):
        seconds = moments.uniform(STARTED, life)
        status, said, _ = interrupt(command, place, seconds, times=1 + number % 2)  # some press it twice
        if status == -signal.SIGINT:  # Python and its own modules were still being loaded, as the trace must say
            assert ", in main" not in said and early < 2, (seconds, said)
            early += 1
            continue
        assert "Traceback" not in said and "Exception ignored" not in said, (seconds, said)
        if status != 0:  # or it was done before
            assert status == 130, (seconds, status, said)
            sentence = said.strip().splitlines()[-1]
            assert sentence.startswith(f"{command[0]}: interrupted: "), sentence
            assert "run it again" in sentence or "--resume" in sentence
            interrupted += 1
    assert interrupted
    assert not [path for path in place.rglob(".[0-9]*") if path.is_file()]


def test_training_says_how_to_go_on(place):
    command = ["train_model.py", "--data", ".", "--models", "kept", "--epochs", "500", "--batch-size", "28"]
    process = subprocess.Popen([sys.executable, str(ROOT / command[0]), *command[1:]], cwd=place, text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c)
    end = time.monotonic() + 300
    while not (place / "kept/checkpoint.weights.h5").exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    sentence = said.strip().splitlines()[-1]
    assert "of 500 epochs are kept" in sentence and "--resume" in sentence and "Traceback" not in said
    assert not (place / "kept/model.json").exists()


def test_what_ctrl_c_leaves_half_built_is_cleared_away_in_silence(tmp_path):
    (tmp_path / "half_built.py").write_text("""
from preprocessing import run
class HalfBuilt:
    def __init__(self):
        raise KeyboardInterrupt
    def __del__(self):
        self.what_it_should_have
run(HalfBuilt)
""")
    process = subprocess.run([sys.executable, tmp_path / "half_built.py"], capture_output=True, text=True,
                             env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.returncode == 130
    assert process.stderr.startswith("half_built.py: interrupted: ") and process.stderr.count("\n") == 1, process.stderr
