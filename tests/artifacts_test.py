"""Files appear whole or not at all, and files of two runs are told apart."""
import hashlib
import os
import subprocess

import numpy as np
import pytest
from conftest import ROOT

from expressions.artifacts import (
    load_arrays,
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


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])  # a closed pipe is no full disk
def test_after_an_error_the_files_are_as_they_were(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(error), replace_when_whole(path) as [temporary]:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_and_a_folder_in_the_way_are_told(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    for name, reason in (("folder.txt", "Is a directory"), ("a.npy", "No space left on device")):
        with (pytest.raises(InputError, match=rf"{name} cannot be written \({reason}\): .*make room"),
              replace_when_whole(tmp_path / name) as [temporary]):
            if name == "a.npy":
                temporary.unlink()
                temporary.symlink_to("/dev/full")
            np.save(temporary.open("wb"), np.zeros(100_000))


def test_outputs_must_not_replace_inputs_or_each_other(tmp_path):
    refuse_overwriting([tmp_path / "a", tmp_path / "b"], [tmp_path / "c"])
    for outputs in ([tmp_path / "a", tmp_path / "folder" / ".." / "a"], [tmp_path / "c"]):
        with pytest.raises(InputError, match="would be written over"):
            refuse_overwriting(outputs, [tmp_path / "c"])


def test_the_stamp_tells_files_of_two_runs_apart(tmp_path):
    arrays = {"a.npy": np.arange(3), "b.npy": np.arange(4), "c.npy": None}
    (tmp_path / "c.npy").write_text("of an earlier run")
    assert save_arrays(tmp_path, arrays) == ["a.npy", "b.npy"] and not (tmp_path / "c.npy").exists()
    stamp = tmp_path / "a.sha256"
    assert subprocess.run(["sha256sum", "--check", "--quiet", stamp.name], cwd=tmp_path).returncode == 0
    assert read_stamp(stamp)["b.npy"] == hashlib.sha256((tmp_path / "b.npy").read_bytes()).hexdigest()
    require_same_run(stamp, "run it again")
    np.save(tmp_path / "b.npy", np.arange(5))
    with pytest.raises(InputError, match=r"b\.npy changed since .*a\.sha256 was written.*run it again"):
        require_same_run(stamp, "run it again")
    require_same_run(stamp, "run it again", ignored=["b.npy"])
    stamp.unlink()
    require_same_run(stamp, "run it again")  # arrays of one's own need no stamp


def test_arrays_come_back_and_others_are_refused(tmp_path):
    arrays = {"a.npy": np.random.default_rng(0).integers(0, 256, (5, 4), np.uint8), "b.npy": np.arange(5)}
    with pytest.raises(InputError, match=r"a\.npy is missing or damaged \(No such file or directory\): run it again"):
        load_arrays(tmp_path, ["a.npy"], "run it again")
    save_arrays(tmp_path, arrays)
    *found, nothing = load_arrays(tmp_path, ["a.npy", "b.npy", "c.npy"], "run it again", optional=["b.npy", "c.npy"])
    assert nothing is None and all(map(np.array_equal, found, arrays.values()))
    with pytest.raises(InputError, match=r"c\.npy is missing"):
        load_arrays(tmp_path, ["a.npy", "c.npy"], "run it again")
    (tmp_path / "a.sha256").unlink()
    os.truncate(tmp_path / "a.npy", (tmp_path / "a.npy").stat().st_size - 1)
    np.save(tmp_path / "b.npy", np.array([print], object), allow_pickle=True)  # may run code when it is read
    for name, words in (("a.npy", "damaged"), ("b.npy", "damaged .*allow_pickle=False")):
        with pytest.raises(InputError, match=f"{name} is missing or {words}.*run it again"):
            load_arrays(tmp_path, [name], "run it again")


def test_other_data_never_replaces_the_shipped_model(tmp_path):
    assert models_folder(ROOT / "data") == ROOT / "models"
    assert models_folder(tmp_path) == tmp_path / "models"
    (tmp_path / "link").symlink_to(ROOT / "data")
    assert models_folder(tmp_path / "link") == ROOT / "models"
