"""Files made to harm, and files that are loadable but wrong: refused, or said, with nothing run and little used."""
import csv
import gzip
import http.server
import io
import json
import os
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib

import preprocessing
from preprocessing import (
    EXPRESSIONS,
    InputError,
    check_stamp,
    load_array,
    read_csv,
    read_stamp,
    save_arrays,
    strangers,
)
from recognise_image import cell
from saved_model import STAMP, export_model, load_model, read_layers, save_model
from train_model import build_network

import cv2
import h5py
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, assert_refused, csv_text, run_script, write_video


def measured(name, *arguments, cwd):
    """Run a script; the finished process, its seconds of processor and its megabytes of memory at most."""
    code = ("import json, os, subprocess, sys\n"
            "process = subprocess.Popen(sys.argv[1:])\n"
            "_, status, usage = os.wait4(process.pid, 0)\n"
            "print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, "
            "usage.ru_maxrss / 1024]))\n")
    process = subprocess.run([sys.executable, "-c", code, sys.executable, str(ROOT / name), *map(str, arguments)],
                             cwd=cwd, capture_output=True, text=True, env={**os.environ, **NO_DISPLAY})
    status, seconds, megabytes = json.loads(process.stdout.splitlines()[-1])
    return subprocess.CompletedProcess(process.args, status, process.stdout, process.stderr), seconds, megabytes


# ---- models ------------------------------------------------------------------------------------

@pytest.fixture
def model(shipped, tmp_path):
    """A copy of the shipped model, and a function that changes its model.json."""
    for path in shipped.glob("model.*"):
        shutil.copy(path, tmp_path)

    def change(change_tree):
        tree = json.loads((tmp_path / "model.json").read_text())
        changed = change_tree(tree)
        (tmp_path / "model.json").write_text(json.dumps(tree if changed is None else changed))
        (tmp_path / STAMP).unlink(missing_ok=True)
        return tmp_path

    return change


def add_layer(module, name, config):
    def change(tree):
        layer = {"module": module, "class_name": name, "config": config, "registered_name": name}
        tree["config"]["layers"].insert(2, layer)
    return change


def lambda_layer(marker):
    """A Lambda layer as Keras writes it, whose function would write a file."""
    import keras

    layer = keras.layers.Lambda(eval(f"lambda x: (open({str(marker)!r}, 'w'), x)[1]"))
    return add_layer("keras.layers", "Lambda", layer.get_config())


@pytest.mark.parametrize("kind", ["lambda", "other module", "as a dtype", "as an activation", "compiled", "functional"])
def test_a_model_that_would_run_code_is_refused(model, tmp_path, monkeypatch, kind):
    marker = tmp_path / "it ran"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    evil = {"module": "evil", "class_name": "Evil", "config": {}, "registered_name": None}
    folder = model({
        "lambda": lambda_layer(marker),
        "other module": add_layer("evil", "Evil", {}),
        "as a dtype": lambda tree: tree["config"]["layers"][2]["config"].update(dtype=evil),
        "as an activation": lambda tree: tree["config"]["layers"][-1]["config"].update(activation=evil),
        "compiled": lambda tree: tree.update(class_name="Functional", compile_config={"loss": evil}),
        "functional": lambda tree: tree.update(class_name="Functional"),
    }[kind])
    with pytest.raises(InputError, match="is no model that is loaded here"):
        load_model(folder)
    assert not marker.exists() and "evil" not in sys.modules
    process = run_script("recognise_image.py", "--models", folder, cwd=tmp_path)
    assert_refused(process, folder / "model.json", "is no model that is loaded here")


def test_what_a_model_adds_to_its_layers_is_left_aside(model, tmp_path, monkeypatch):
    marker = tmp_path / "it ran"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    evil = {"module": "evil", "class_name": "Evil", "config": {}, "registered_name": None}

    def change(tree):
        tree["compile_config"] = {"optimizer": evil, "loss": evil}
        tree["build_config"] = evil
        tree["config"]["layers"][2]["build_config"] = evil
        tree["config"]["layers"][2]["registered_name"] = "evil>Evil"

    assert load_model(model(change)).output_shape == (None, 7)
    assert not marker.exists()


@pytest.mark.parametrize("units", [10 ** 6, 10 ** 9, 10 ** 30])
def test_a_model_that_asks_for_a_terabyte_is_refused_before_it_is_built(model, tmp_path, units):
    def change(tree):
        tree["config"]["layers"].insert(-1, {"module": "keras.layers", "class_name": "Dense", "registered_name": None,
                                             "config": {"units": units}})
    folder = model(change)
    process, _, megabytes = measured("recognise_image.py", "--models", folder, cwd=tmp_path)
    assert_refused(process, "another network")
    assert megabytes < 1200  # TensorFlow alone takes 700


def test_a_bottomless_model_is_refused(model):
    folder = model(lambda tree: tree)
    for text in ('{"config": ' * 100_000, "[" * 1_000_000, "NaN", "7", '{"config": {"layers": [1]}}', ""):
        (folder / "model.json").write_text(text)
        with pytest.raises(InputError, match="is no model that is loaded here"):
            read_layers(folder / "model.json")


@pytest.mark.parametrize("change, words", [
    (lambda tree: tree["expressions"].reverse(), ["'neutral', 'surprise'", "in this order"]),
    (lambda tree: tree.update(expressions=["happy", "sad"]), ["['happy', 'sad']"]),
    (lambda tree: tree["config"]["layers"][0]["config"].update(batch_shape=[None, 64, 64, 1]), ["64"]),
    (lambda tree: tree["config"]["layers"][0]["config"].update(batch_shape=[None, 48, 48, 3]), ["48, 48, 3"]),
])
@pytest.mark.parametrize("with_stamp", [True, False])
def test_other_expressions_or_faces_are_refused(model, tmp_path, change, words, with_stamp):
    folder = model(change)
    if with_stamp:  # as if it had been made like this
        content = (folder / "model.tflite").read_bytes()
        with preprocessing.written_whole(folder / "model.tflite", stamp=folder / STAMP,
                                         made_from=["model.json", "model.weights.h5"]) as [tflite]:
            tflite.write_bytes(content)
    assert_refused(run_script("recognise_image.py", "--models", folder, cwd=tmp_path), folder / "model.json", *words)


def test_a_model_that_does_not_name_its_expressions_is_taken_with_a_word(model, tmp_path, portrait):
    folder = model(lambda tree: tree.pop("expressions") and None)
    process = run_script("recognise_image.py", portrait[1], "--models", folder, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "does not say which expressions it tells apart" in process.stderr


def rewrite(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def virtual(file):
    layout = h5py.VirtualLayout((256, 7), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd.h5", "x", (256, 7))
    del file["layers/dense/vars/0"]
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def external(file):
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (256, 7), "f4", external=[("/etc/passwd", 0, 256 * 7 * 4)])


def linked(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/tmp/other.h5", "x")


def packed(file):
    values = file["layers/dense/vars/0"][:]
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", data=values, compression="gzip")


def not_a_number(file):
    file["layers/dense/vars/1"][3] = np.nan


def smaller(file):
    values = file["layers/conv2d_3/vars/0"][:, :, :, 1:]
    del file["layers/conv2d_3/vars/0"]
    file["layers/conv2d_3/vars/0"] = values


def one_more(file):
    file["layers/conv2d_8/vars/0"] = np.zeros((3, 3, 256, 256), np.float32)


@pytest.mark.parametrize("change, words", [
    (virtual, "not plain values"), (external, "not plain values"), (packed, "not plain values"),
    (linked, "another network|dense"), (not_a_number, "not all weights are numbers"), (smaller, "another network"),
    (one_more, "another network")])
def test_weights_that_are_not_this_networks_own_numbers_are_refused(model, change, words):
    folder = model(lambda tree: None)
    rewrite(folder / "model.weights.h5", change)
    with pytest.raises(InputError, match=words):
        load_model(folder)


def test_a_network_without_numbers_is_not_saved(tmp_path):
    network = build_network()
    save_model(network, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    network.layers[-1].bias.assign([np.nan] * 7)
    with pytest.raises(InputError, match="not all weights of the network are numbers"):
        save_model(network, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_of_another_run_are_named(model, tmp_path, portrait):
    folder = model(lambda tree: None)
    export_model(load_model(folder), folder)
    rewrite(folder / "model.weights.h5", lambda file: file["layers/dense/vars/1"].__setitem__(3, 9.0))
    process = run_script("recognise_image.py", portrait[1], "--models", folder, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert f"{folder / 'model.weights.h5'} is not of the run" in process.stderr
    assert "train_model.py --export" in process.stderr
    assert process.stdout.split(",")[6] == EXPRESSIONS[3]  # what counts is model.json and the weights, not model.tflite


# ---- arrays ------------------------------------------------------------------------------------

def test_arrays_of_two_runs_are_refused_with_what_mends_them(small_set, tmp_path):
    faces, labels, usage = small_set
    for folder, order in (("one", slice(None)), ("two", slice(None, None, -1))):
        save_arrays({tmp_path / folder / "fdataX.npy": faces[order], tmp_path / folder / "fusage.npy": usage[order],
                     tmp_path / folder / "flabels.npy": np.eye(7, dtype=np.uint8)[labels[order]]})
    shutil.copy(tmp_path / "two/flabels.npy", tmp_path / "one/flabels.npy")
    assert_refused(run_script("train_model.py", "--data", tmp_path / "one"), tmp_path / "one/flabels.npy",
                   "another run", "run preprocessing.py again")
    shutil.copy(tmp_path / "two/flabels.npy", tmp_path / "two/modytest.npy")
    save_arrays({tmp_path / "one/truey.npy": np.arange(7), tmp_path / "one/predy.npy": np.arange(7)})
    np.save(tmp_path / "one/predy.npy", np.arange(7)[::-1])
    assert_refused(run_script("confmatrix.py", "--data", tmp_path / "one"), tmp_path / "one/predy.npy",
                   "another run", "run test_model.py again")


def test_test_faces_of_an_earlier_preprocessing_are_refused(small_set, tmp_path):
    from train_model import save_test_faces

    faces, labels, usage = small_set
    arrays = {tmp_path / "fdataX.npy": faces, tmp_path / "flabels.npy": np.eye(7, dtype=np.uint8)[labels],
              tmp_path / "fusage.npy": usage}
    save_arrays(arrays)
    save_test_faces(tmp_path)
    save_arrays({**arrays, tmp_path / "fusage.npy": usage[::-1].copy()})
    assert_refused(run_script("test_model.py", "--data", tmp_path), tmp_path / "fusage.npy", "run train_model.py")


def test_what_a_killed_writer_left_ready_is_moved_into_place(tmp_path):
    one, two, stamp = tmp_path / "one.npy", tmp_path / "two.npy", tmp_path / "one.sha256"
    save_arrays({one: np.zeros(3, np.uint8), two: np.zeros(3, np.uint8)})
    new = tmp_path / "new"
    save_arrays({new / "one.npy": np.ones(3, np.uint8), new / "two.npy": np.full(3, 2, np.uint8)})
    digests = read_stamp(new / "one.sha256")
    shutil.copy(new / "one.npy", one)  # killed after the stamp and the first file
    shutil.copy(new / "one.sha256", stamp)
    shutil.copy(new / "two.npy", tmp_path / f".4194305-{digests['two.npy'][:16]}-two.npy")
    assert strangers(stamp) == []
    assert np.load(two).tolist() == [2, 2, 2] and len(list(tmp_path.iterdir())) == 4
    shutil.copy(new / "one.npy", two)
    with pytest.raises(InputError, match=r"two\.npy changed"):
        check_stamp(stamp, "")
    stamp.write_text(f"{'0' * 64}  ../two.npy\n")
    with pytest.raises(InputError, match="damaged"):
        check_stamp(stamp, "")


def test_leftovers_of_a_killed_process_are_cleared_away_and_others_left(tmp_path):
    path = tmp_path / "a.npy"
    kept = [f".{os.getppid()}-a.npy", ".4194305-b.npy", ".x-a.npy"]
    for name in (".4194305-a.npy", f".4194305-{'0' * 16}-a.npy", *kept):
        (tmp_path / name).write_bytes(b"begun")
    with preprocessing.written_whole(path) as [beside]:
        beside.write_bytes(b"whole")
    assert sorted(left.name for left in tmp_path.iterdir()) == sorted(["a.npy", *kept])


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_an_array_never_runs_code_nor_takes_what_its_header_claims(tmp_path):
    marker, path = tmp_path / "it ran", tmp_path / "fdataX.npy"
    hostile = [pickle.dumps(Evil(marker))]
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil(marker)], object), allow_pickle=True)
    hostile.append(buffer.getvalue())
    marker.unlink(missing_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros((3, 48, 48, 1), np.uint8))
    hostile.append(buffer.getvalue())
    for shape in ((10 ** 7, 48, 48, 1), (10 ** 30, 48, 48, 1), (-1, 48, 48, 1)):
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        hostile.append(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(1000))
    for content in hostile:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"not a whole \.npy array|has the shape"):
            load_array(path, (None, 48, 48, 1), "preprocessing.py")
        with pytest.raises(InputError, match=r"not a whole \.npy array|has the shape|holds"):
            load_array(path, (None,), "preprocessing.py", "iuO")
    assert not marker.exists()
    np.save(path, np.zeros((3, 48, 48, 1)))
    with pytest.raises(InputError, match="holds float64 instead of bytes"):
        load_array(path, (None, 48, 48, 1), "preprocessing.py")


def test_labels_that_are_not_one_hot_are_refused(small_set, tmp_path):
    faces, labels, usage = small_set
    right = np.eye(7, dtype=np.uint8)[labels]
    for wrong in (right * 2, right | np.eye(7, dtype=np.uint8)[0], right * 0):
        save_arrays({tmp_path / "fdataX.npy": faces, tmp_path / "flabels.npy": wrong, tmp_path / "fusage.npy": usage})
        assert_refused(run_script("train_model.py", "--data", tmp_path), tmp_path / "flabels.npy", "a single 1")


# ---- archives ----------------------------------------------------------------------------------

def zipped(members, links=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = ((stat.S_IFLNK if name in links else stat.S_IFREG) | 0o644) << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def tarred(members, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["../fer2013.csv", "/tmp/fer2013.csv", "a/../../fer2013.csv", "..\\fer2013.csv"])
def test_an_archive_with_a_way_out_is_refused_and_writes_nothing(small_set, tmp_path, name):
    text = csv_text(*small_set).encode()
    inside = tmp_path / "inside"
    inside.mkdir()
    for content in (zipped({name: text}), zipped({"fer2013.csv": text, name: b"x"}), tarred({name: text})):
        (inside / "archive").write_bytes(content)
        assert_refused(run_script("preprocessing.py", "archive", "--data", "out", cwd=inside), "archive", "path out of")
        assert [path.name for path in inside.iterdir()] == ["archive"]
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_an_archive_with_links_is_refused(small_set, tmp_path):
    text = csv_text(*small_set).encode()
    path = tmp_path / "archive"
    for content in (zipped({"fer2013.csv": text, "x.csv": b"/etc/passwd"}, links=["x.csv"]),
                    tarred({"x.csv": b""}, tarfile.SYMTYPE), tarred({"x.csv": b""}, tarfile.LNKTYPE),
                    tarred({"x.csv": b""}, tarfile.FIFOTYPE), tarred({"x.csv": b""}, tarfile.CHRTYPE)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="a link or a path out of its folder"):
            read_csv(path)


def test_a_bomb_in_an_archive_is_refused(small_set, tmp_path, monkeypatch):
    path = tmp_path / "archive"
    text = csv_text(*small_set).encode()
    monkeypatch.setattr(preprocessing, "LARGEST_CSV", 10 * len(text))
    header, rows = text.split(b"\n", 1)
    bomb = header + b"\n" + rows * 11
    for content in (gzip.compress(bomb), zipped({"fer2013.csv": bomb}), tarred({"fer2013.csv": bomb})):
        path.write_bytes(content)
        with pytest.raises(InputError, match="unpacks to more than"):
            read_csv(path)
    path.write_bytes(bomb)
    assert len(read_csv(path)[0]) == 770  # what is not packed is as large as it looks
    path.write_bytes(gzip.compress(bytes(300 << 20)))
    process, seconds, megabytes = measured("preprocessing.py", path, cwd=tmp_path)
    assert_refused(process, path, "no column")
    assert megabytes < 200 and seconds < 5
    for _ in range(4):
        text = gzip.compress(text)
    path.write_bytes(text)
    with pytest.raises(InputError, match="an archive in an archive"):
        read_csv(path)
    path.write_bytes(zipped({f"{number}.csv": b"x,y\n" for number in range(1500)}))
    with pytest.raises(InputError, match="holds no CSV"):
        read_csv(path)


# ---- pictures and videos -----------------------------------------------------------------------

def png_bomb(width, height):
    """A PNG of one bit a pixel, all black, whose header is true."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = bytes(1 + (width + 7) // 8) * 100
    data = b"".join(packer.compress(rows) for _ in range(height // 100)) + packer.flush()
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
            + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def endless_gif(frames):
    from PIL import Image

    buffer = io.BytesIO()
    pictures = [Image.new("P", (400, 400), number % 2) for number in range(2)]
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], loop=0, duration=20)
    content = buffer.getvalue()
    begin = content.index(b"\x21\xf9\x04")
    return content[:begin] + content[begin:-1] * (frames // 2) + b";"


def write_bomb(kind, path):
    if kind == "png":
        path.write_bytes(png_bomb(60_000, 60_000))
    elif kind == "bmp":
        path.write_bytes(b"BM" + struct.pack("<IHHI", 0xFFFFFFFF, 0, 0, 54)
                         + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0))
    elif kind == "pgm":
        path.write_bytes(b"P5\n60000 60000\n255\n" + bytes(1000))
    elif kind == "10 GB":
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
        os.truncate(path, 10 << 30)  # on the disk it takes 4 KB
    elif kind == "gif":
        path.write_bytes(b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + endless_gif(2)[10:])


@pytest.mark.parametrize("kind", ["png", "bmp", "pgm", "gif", "10 GB"])
def test_a_picture_bomb_is_refused_in_little_time_and_memory(tmp_path, kind):
    write_bomb(kind, tmp_path / "bomb.png")
    process, seconds, megabytes = measured("recognise_image.py", "bomb.png", cwd=tmp_path)
    assert_refused(process, "bomb.png", "more than 120,000,000 pixels", "--max-pixels")
    assert seconds < 2 and megabytes < 500  # of the processor, so that a busy machine changes nothing
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.png"]


def test_an_endless_gif_takes_little(tmp_path):
    (tmp_path / "endless.gif").write_bytes(endless_gif(100_000))
    process, seconds, megabytes = measured("recognise_image.py", "endless.gif", "--no-pictures", cwd=tmp_path)
    assert process.returncode in (0, 2) and "Traceback" not in process.stderr
    assert seconds < 2 and megabytes < 500


def test_the_limit_of_pixels_is_the_one_given(tmp_path, portrait):
    cv2.imwrite(str(tmp_path / "a.png"), cv2.resize(portrait[0], (200, 240)))
    process = run_script("recognise_image.py", "a.png", "--max-pixels", 200 * 240 - 1, cwd=tmp_path)
    assert_refused(process, "a.png", "more than 47,999 pixels")
    process = run_script("recognise_image.py", "a.png", "--max-pixels", 200 * 240, cwd=tmp_path)
    assert process.returncode == 0 and process.stdout.startswith("a.png,1,"), process.stderr
    (tmp_path / "b.png").write_bytes(png_bomb(12_000, 11_000))
    process = run_script("recognise_image.py", "b.png", "--max-pixels", 140_000_000, "--no-pictures", cwd=tmp_path)
    assert process.returncode == 0 and "one flat colour" in process.stderr, process.stderr


@pytest.fixture
def clip(portrait, tmp_path):
    picture = cv2.resize(portrait[0], (256, 300))
    return write_video(tmp_path / "clip.mp4", [picture] * 10)


@pytest.mark.parametrize("script, extra", [
    ("recognise_video.py", []), ("webcam_live.py", ["--csv", "rows.csv"]), ("image_from_camera.py", ["--now"])])
def test_videos_obey_the_limit_of_pixels_too(clip, tmp_path, script, extra):
    process = run_script(script, clip, *extra, "--max-pixels", 256 * 300 - 1, cwd=tmp_path, env=NO_DISPLAY)
    assert_refused(process, clip, "256 x 300", "more than 76,799 pixels")
    process = run_script(script, clip, *extra, "--max-pixels", 256 * 300, cwd=tmp_path, env=NO_DISPLAY)
    assert process.returncode == 0, process.stderr


def test_a_playlist_that_is_a_file_reaches_no_network(tmp_path):
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *words):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/secret"
        (tmp_path / "a.m3u8").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{address}.ts\n#EXT-X-ENDLIST\n")
        (tmp_path / "b.mp4").write_text(f"ffconcat version 1.0\nfile {address}.mp4\n")
        for name in ("a.m3u8", "b.mp4"):
            process = run_script("recognise_video.py", name, cwd=tmp_path)
            assert process.returncode == 2 and "Traceback" not in process.stderr, process.stderr
        server.shutdown()
    assert not asked


def test_one_flat_colour_is_said(tmp_path, shipped):

    black = np.zeros((300, 400, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "black.png"), black)
    process = run_script("recognise_image.py", "black.png", cwd=tmp_path)
    assert process.returncode == 0 and process.stdout == ""
    assert "black.png: nothing but one flat colour" in process.stderr
    write_video(tmp_path / "black.mp4", [black] * 5)
    assert_refused(run_script("image_from_camera.py", "black.mp4", "--now", cwd=tmp_path), "one flat colour", "lens")

    faces = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), np.uint8)
    faces[3] = 0
    save_arrays({tmp_path / "modXtest.npy": faces, tmp_path / "modytest.npy": np.eye(7, dtype=np.uint8)[:5]})
    process = run_script("test_model.py", "--data", tmp_path, "--models", shipped)
    assert process.returncode == 0 and "1 of the faces are one flat colour" in process.stdout, process.stderr


# ---- names -------------------------------------------------------------------------------------

def test_names_cannot_reach_the_terminal_or_a_spreadsheet(tmp_path, portrait):
    names = ["=cmd|' C calc'!A0.jpg", "+1.jpg", "@SUM(A1).jpg", "-2.jpg", "\x1b]0;title\x07\x1b[31mred.jpg",
             "two\nlines.jpg", "\u202egpj.exe.jpg", "plain, \"quoted\".jpg", "\tTab.jpg", "größe 表情 👩‍👧.jpg"]
    for name in names:
        cv2.imwrite(str(tmp_path / "picture.jpg"), cv2.resize(portrait[0], (256, 300)))
        (tmp_path / "picture.jpg").rename(tmp_path / name)
    (tmp_path / "\x1b[2Jno picture.jpg").write_bytes(b"x")
    process = run_script("recognise_image.py", "*.jpg", "--csv", "rows.csv", "--json", "rows.json", "--no-pictures",
                         cwd=tmp_path)
    assert process.returncode == 2
    assert "\\x1b[2Jno picture.jpg is not a picture" in process.stderr
    rows = list(csv.reader(io.StringIO((tmp_path / "rows.csv").read_text("utf-8"))))[1:]
    cells = [row[0] for row in rows]
    assert cells == [row["file"] for row in json.loads((tmp_path / "rows.json").read_text("utf-8"))]
    assert cells == [row[0] for row in csv.reader(io.StringIO(process.stdout))]
    assert len(cells) == len(names)
    for text in (process.stdout, process.stderr, (tmp_path / "rows.csv").read_text("utf-8")):
        assert not set(text) & set("\x1b\x07\t\u202e")
    assert not [text for text in cells if text[0] in "=+-@\t\r\n" or "\n" in text]
    assert {"./=cmd|' C calc'!A0.jpg", "./-2.jpg", "plain, \"quoted\".jpg", "größe 表情 👩‍👧.jpg",
            "two\\nlines.jpg"} <= set(cells)
    assert all((tmp_path / text).exists() for text in cells if "\\" not in text)  # still the way to the file
    assert cell("/a/=b.jpg") == "/a/=b.jpg"


def test_a_csvs_words_are_shown_harmless(tmp_path):
    path = tmp_path / "fer2013.csv"
    path.write_bytes(b"emotion,pixels,Usage\n\x1b[31m" + b"x" * 5000 + b",1 2 3,Training\n")
    sentence = assert_refused(run_script("preprocessing.py", path), "row 1", "\\x1b[31m")
    assert "\x1b" not in sentence and len(sentence) < 400
