"""Files appear whole or not at all, and files of two runs are told apart."""
import hashlib
import os
import subprocess

import numpy as np
import pytest
from conftest import ROOT

from expressions.artifacts import (
    load_array,
    mismatched_files,
    models_folder,
    read_stamp,
    refuse_overwriting,
    replace_when_whole,
    require_same_run,
    save_arrays,
)
from expressions.console import InputError


def test_all_files_are_replaced_when_the_block_ends(tmp_path):
    paths = tmp_path / "new folder" / "a.txt", tmp_path / "b.txt"
    paths[1].write_text("before")
    with replace_when_whole(*paths) as temporary:
        assert [path.suffix for path in temporary] == [".txt", ".txt"]
        for number, path in enumerate(temporary):
            path.write_text(f"new {number}")
        assert paths[1].read_text() == "before" and not paths[0].exists()
    assert [path.read_text() for path in paths] == ["new 0", "new 1"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.txt", "b.txt", "new folder"]


def test_after_an_error_the_files_are_as_they_were(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), replace_when_whole(path) as [temporary]:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_and_a_folder_in_the_way_are_told(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    for name, words in (("folder.txt", "is a folder"), ("a.npy", r"cannot be written \(No space left on device")):
        with pytest.raises(InputError, match=words), replace_when_whole(tmp_path / name) as [temporary]:
            temporary.unlink()
            temporary.symlink_to("/dev/full")
            np.save(temporary, np.zeros(100_000))


def test_outputs_must_not_replace_inputs_or_each_other(tmp_path):
    refuse_overwriting([tmp_path / "a", tmp_path / "b"], [tmp_path / "c"])
    for outputs in ([tmp_path / "a", tmp_path / "folder" / ".." / "a"], [tmp_path / "c"]):
        with pytest.raises(InputError, match="would be written over"):
            refuse_overwriting(outputs, [tmp_path / "c"])


def test_the_stamp_tells_files_of_two_runs_apart(tmp_path):
    a, b = tmp_path / "a.npy", tmp_path / "b.npy"
    save_arrays({a: np.arange(3), b: np.arange(4)})
    stamp = tmp_path / "a.sha256"
    assert subprocess.run(["sha256sum", "--check", "--quiet", stamp.name], cwd=tmp_path).returncode == 0
    assert read_stamp(stamp)["b.npy"] == hashlib.sha256(b.read_bytes()).hexdigest()
    assert mismatched_files(stamp) == []
    np.save(b, np.arange(5))
    assert mismatched_files(stamp) == [b]
    with pytest.raises(InputError, match=r"b\.npy changed since a\.sha256 was written.*run it again"):
        require_same_run(stamp, "run it again")
    stamp.write_text("nonsense")
    with pytest.raises(InputError, match="is damaged"):
        read_stamp(stamp)
    stamp.unlink()
    require_same_run(stamp, "run it again")  # arrays of one's own need no stamp


def test_arrays_come_back_and_others_are_refused(tmp_path):
    path = tmp_path / "faces.npy"
    with pytest.raises(InputError, match=r"faces\.npy is not there: run preprocessing\.py first"):
        load_array(path, (None,), "preprocessing.py")
    for array, words in ((np.zeros((2, 3), np.uint8), "holds 2 x 3 uint8 instead of N x 4 bytes"),
                         (np.zeros((2, 4)), "holds 2 x 4 float64 instead of N x 4 bytes")):
        np.save(path, array)
        with pytest.raises(InputError, match=f"{words}.*run preprocessing.py again"):
            load_array(path, (None, 4), "preprocessing.py")
    whole = np.random.default_rng(0).integers(0, 256, (5, 4), np.uint8)
    np.save(path, whole)
    assert load_array(path, (None, 4), "preprocessing.py").tolist() == whole.tolist()
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(InputError, match="is not a whole .npy array"):
        load_array(path, (None, 4), "preprocessing.py")
    np.save(path, np.array([print], object), allow_pickle=True)  # may run code when it is read
    with pytest.raises(InputError, match="is not a whole .npy array .*pickle"):
        load_array(path, (None,), "preprocessing.py")


def test_other_data_never_replaces_the_shipped_model(tmp_path):
    assert models_folder(ROOT / "data") == ROOT / "models"
    assert models_folder(tmp_path) == tmp_path / "models"
    (tmp_path / "link").symlink_to(ROOT / "data")
    assert models_folder(tmp_path / "link") == ROOT / "models"
