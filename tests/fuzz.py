"""Feed damaged files to whatever reads files, and report what ends otherwise than with an answer or a sentence.

Makes small files of every kind the project reads, damages them differently for each case - bits, values, blocks,
headers, halves of two files - and has the scripts' readers read them. A case is a find unless the reader returns, or
raises what run() in preprocessing.py turns into status 2, within 10 s and 1 GB. Cases run in processes of their
own, so those that crash or hang are found, too. Needs Linux or macOS.
Prints each find with the number that repeats it, and a table. The status is 1 if anything was found.

$ python tests/fuzz.py --cases 100000 --jobs 2
$ python tests/fuzz.py --seed 3 --only 1234      # this case again, all it says included; its files are kept
"""
import collections
import contextlib
import faulthandler
import functools
import gzip
import hashlib
import io
import itertools
import json
import lzma
import multiprocessing.connection
import os
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import preprocessing
import recognise_video
import tables
from confmatrix import load_predictions
from preprocessing import EXPRESSIONS, FACE_SIZE, PRIVATE_TEST, USAGES, InputError, first_line, run, script_parser
from recognise_image import load_recogniser, portrait, read_picture, recognise
from recognise_video import open_video, read_video
from saved_model import STAMP, import_keras, load_model, read_layers, save_model
from test_model import load_test_faces, predict
from train_model import load_dataset, read_checkpoint, save_checkpoint
from webcam_live import open_camera

import av
import cv2
import h5py  # noqa: F401, or each process loads it anew
import numpy as np
from tqdm import tqdm

SECONDS = 10  # a case may take
MEMORY = 1 << 30  # bytes a process may hold; with Keras, more than at its start: TensorFlow alone has 700 MB
CEILING = 6 << 30  # bytes of data at which a process gets no more, so that a find does not stop the computer
PER_PROCESS = 200  # cases
TOO_LONG, TOO_MUCH = f"more than {SECONDS} s", "more than 1 GB"
FRAMES = 50  # of a video that are read
PICTURES = ("jpg", "png", "bmp", "gif", "webp", "tiff", "jp2", "avif", "ppm", "pgm", "pam", "pfm", "hdr", "ras")
VIDEOS = {  # format: codecs of picture and sound
    "mp4": ("libx264", "aac"), "mov": ("libx264", "pcm_s16le"), "mkv": ("libx264", "libopus"), "gif": ("gif", None),
    "webm": ("libvpx-vp9", "libopus"), "avi": ("mjpeg", "pcm_s16le"), "ts": ("mpeg2video", "mp2")}
PLAYLIST = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nvideo.ts\n#EXT-X-ENDLIST\n"
PACKED = {"csv": (), "gz": ("gz",), "xz": ("xz",), "zip": ("zip",), "tar.gz": ("tar", "gz"),
          "tar.gz.zip": ("tar", "gz", "zip")}  # a CSV, layer about layer
NUMBERS = (0, 1, 2, 3, 4, 7, 10, 100, 127, 128, 255, 256, 1000, 32767, 32768, 65535, 65536, 0x7FFFFFFF, 0x80000000,
           0xFFFFFFFF, 1 << 40, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)
WORDS = (b"", b"\n", b"\r", b"\0", b",", b'"', b" ", b"-1", b"7", b"256", b"1e5", b"9" * 30, b"NaN", b"Infinity",
         b"null", b"../../x", b"/dev/zero", b"http://localhost/x", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xae",
         b"\x1b[2J", b"PK\x03\x04", b"\x1f\x8b", b"\x93NUMPY\x01\x00", b"\x89HDF\r\n\x1a\n", b"GIF89a", b"RIFF",
         b"moov", b"mdat")
VALUES = (None, True, False, 0, 1, -1, 2, 7, 48, 1 << 20, 10 ** 9, 1 << 63, 10 ** 30, 0.5, 1e-300, 1e308,
          float("nan"), float("inf"), "", "x", "relu", "softmax", "same", "float64", "string", "channels_first",
          "Sequential", "Lambda", "Dense", "Flatten", "Softmax", "LeakyReLU", "keras", "keras.layers",
          "keras.src.layers", "os", "nested", [], {}, [None], [[0]], [3, 3], [None, 48, 48, 1], [10 ** 9, 10 ** 9],
          "\ud800", {"class_name": "Lambda", "module": "keras.layers"},
          {"class_name": "__lambda__", "config": {"value": ["4w"]}},
          {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float16"}})
SOURCES = {}  # name: bytes of an undamaged file
FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None


# ---- undamaged files ---------------------------------------------------------------------------

def make_arrays(folder):
    """A CSV of ten drawn faces and whatever .npy files are made from them."""
    random = np.random.default_rng(0)
    labels = np.arange(10) % len(EXPRESSIONS)
    usage = np.array([0] * 6 + [1, 1, 2, 2])
    faces = np.array([preprocessing.draw_face(EXPRESSIONS[label], random) for label in labels])
    rows = [f"{label},{' '.join(map(str, face.ravel()))},{USAGES[part]}\n"
            for face, label, part in zip(faces, labels, usage)]
    (folder / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "".join(rows))
    votes = "".join(f"{USAGES[part]},fer{number:07}.png,4,0,0,1,3,2,0,0,0,0\n" for number, part in enumerate(usage))
    (folder / "fer2013new.csv").write_text(
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n" + votes)
    hot, test = np.eye(len(EXPRESSIONS), dtype=np.uint8)[labels], usage == PRIVATE_TEST
    preprocessing.save_arrays({folder / "fdataX.npy": faces[..., None], folder / "flabels.npy": hot,
                               folder / "fusage.npy": usage.astype(np.uint8)})
    preprocessing.save_arrays({folder / "modXtest.npy": faces[test, ..., None], folder / "modytest.npy": hot[test]})
    preprocessing.save_arrays({folder / "truey.npy": labels, folder / "predy.npy": labels[::-1],
                               folder / "predp.npy": hot.astype(np.float32)})
    cv2.imwrite(str(folder / "face.png"), faces[0])
    cv2.imwrite(str(folder / "face.jpg"), cv2.resize(faces[3], (64, 64)))


def make_pictures(folder):
    """A portrait in all formats that OpenCV writes, and frames of it for the videos."""
    picture = cv2.resize(cv2.imread(str(portrait())), (120, 141), interpolation=cv2.INTER_AREA)[:120]
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    (folder / "picture.grey.pfm").write_bytes(b"Pf\n120 120\n-1\n" + (grey[::-1] / np.float32(255)).tobytes())
    for ending in PICTURES:
        kind = {"pfm": picture.astype(np.float32) / 255, "hdr": picture.astype(np.float32) / 255,
                "pgm": grey}.get(ending, picture)
        with contextlib.suppress(cv2.error):  # an OpenCV without this format
            (folder / f"picture.{ending}").write_bytes(cv2.imencode(f".{ending}", kind)[1].tobytes())
    jpg = (folder / "picture.jpg").read_bytes()
    turned = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # EXIF: a quarter to the right
    (folder / "picture.turned.jpg").write_bytes(
        jpg[:2] + b"\xff\xe1" + (len(turned) + 2).to_bytes(2, "big") + turned + jpg[2:])
    (folder / "picture.deep.png").write_bytes(cv2.imencode(".png", picture.astype(np.uint16) * 257)[1].tobytes())
    (folder / "picture.progressive.jpg").write_bytes(
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes())
    for ending, codecs in VIDEOS.items():
        if codecs[0] in av.codecs_available and codecs[1] in {*av.codecs_available, None}:
            make_video(folder / f"video.{ending}", cv2.resize(picture, (160, 160))[:120], *codecs)


def make_video(path, picture, codec, sound_codec):
    """Ten frames of 160 x 120 and, where the format has it, 0.4 seconds of sound."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as file:  # no chance in it, no date
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.thread_count = 160, 120, 1
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        sound = sound_codec and file.add_stream(sound_codec, rate=48000)
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * number, axis=1), format="bgr24")
            file.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
        file.mux(stream.encode(None))
        if not sound:
            return
        samples = (3000 * np.sin(np.arange(19200) / 20)).astype(np.int16)[None]
        clip = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        clip.sample_rate, clip.pts = 48000, 0
        changed = av.AudioResampler(sound.format, sound.layout, 48000, frame_size=sound.frame_size or 1024)
        for part in [*changed.resample(clip), *changed.resample(None)]:
            file.mux(sound.encode(part))
        file.mux(sound.encode(None))


def make_models(folder):
    """The files of a small network with random weights, and a checkpoint."""
    keras = import_keras()
    from keras import layers

    keras.utils.set_random_seed(0)
    network = keras.Sequential([
        keras.Input((FACE_SIZE, FACE_SIZE, 1)), layers.Rescaling(1 / 127.5, offset=-1),
        layers.Conv2D(4, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU(),
        layers.MaxPooling2D(), layers.Conv2D(6, 3), layers.LeakyReLU(), layers.GlobalMaxPooling2D(),
        layers.Dropout(0.3), layers.Dense(len(EXPRESSIONS), activation="softmax")])
    save_model(network, folder)
    network.compile("sgd")
    save_checkpoint(network, folder / "checkpoint.weights.h5", {"epochs": 5, "batch_size": 4, "seed": 0, "data": {}},
                    [{"epoch": 1, "size": 32, "loss": 1.5, "accuracy": 0.2, "val_loss": 1.4, "val_accuracy": 0.3}])


def make_tables(folder):
    """A table of each kind, and the journal of one."""
    rows = [[f"photos/{number}.jpg", 1, 3, 4, 50, 50, "happy", 0.4, 0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1]
            for number in range(20)]
    for ending, table in tables.TABLES.items():
        with table(folder / f"rows{ending}", tables.COLUMNS) as add:
            for row in rows:
                add(row)
    journal = tables.Journal(folder / "rows.csv", "model", resume=False)
    for row in rows:
        journal.add(row[0], [row[1:]])


def make_sources(folder):
    make_tables(folder)
    make_arrays(folder)
    make_pictures(folder)
    make_models(folder)
    for path in Path(preprocessing.__file__).with_name("models").glob("model.*"):
        shutil.copy(path, folder / f"shipped.{path.name}")


def pack(kind, data):
    """A file packed as this layer of an archive."""
    packed = io.BytesIO()
    if kind == "gz":
        return gzip.compress(data, 1, mtime=0)
    if kind == "xz":
        return lzma.compress(data, preset=0)
    if kind == "zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(zipfile.ZipInfo("readme.txt"), b"faces")
            name = "fer2013.tar.gz" if data[:2] == b"\x1f\x8b" else "fer2013.csv"
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    else:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in (("fer2013/README", b"faces"), ("fer2013/fer2013.csv", data)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


# ---- damage ------------------------------------------------------------------------------------

def place(random, data):
    """A position in the file, more often where formats have their headers: at the start, or the end."""
    reach = min(len(data), random.choice((16, 128, 1024, len(data), len(data))))
    position = random.randrange(reach + 1)
    return len(data) - position if random.random() < 0.15 else position


def block(random, data):
    start = place(random, data)
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 100, 1000, 10000)))


def flip_bits(random, data):
    damaged = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        where = min(place(random, data), len(data) - 1)
        damaged[where] ^= 1 << random.randrange(8)
    return damaged


def overwrite(random, data):
    start = place(random, data)
    value = interesting(random)
    return data[:start] + value + data[start + len(value):]


def insert(random, data):
    start = place(random, data)
    return data[:start] + interesting(random) * random.choice((1, 1, 1, 2, 50)) + data[start:]


def interesting(random):
    if random.random() < 0.3:
        return random.choice(WORDS)
    if random.random() < 0.2:
        return random.randbytes(random.choice((1, 4, 20, 300)))
    size = random.choice((1, 2, 4, 8))
    return (random.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, random.choice(("big", "little")))


def truncate(random, data):
    return data[:place(random, data)]


def delete(random, data):
    start, end = block(random, data)
    return data[:start] + data[end:]


def duplicate(random, data):
    start, end = block(random, data)
    return data[:end] + data[start:end] * random.choice((1, 1, 3, 20)) + data[end:]


def shuffle(random, data):
    """Blocks of the file, or of its header alone, in another order."""
    reach = random.choice((64, 512, len(data)))
    size = max(1, reach // random.choice((3, 8, 20)))
    blocks = [data[start:start + size] for start in range(0, reach, size)]
    random.shuffle(blocks)
    return b"".join(blocks) + data[reach:]


def swap_header(random, data):
    size = random.choice((2, 4, 8, 16, 64, 512))
    return other_file(random)[:size] + data[random.choice((0, size)):]


def splice(random, data):
    other = other_file(random)
    halves = data[:place(random, data)], other[place(random, other):]
    return b"".join(halves if random.random() < 0.5 else halves[::-1])


def other_file(random):
    return SOURCES[random.choice(list(SOURCES))][:100_000]


DAMAGE = (flip_bits, flip_bits, overwrite, overwrite, insert, truncate, delete, duplicate, shuffle, swap_header, splice)


def damaged(random, data):
    """A copy of a file's bytes with one or a few things wrong."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        if data:
            data = bytes(random.choice(DAMAGE)(random, data))
    return data


def damaged_json(random, data):
    """A copy of a JSON file with wrong values, missing ones or ones in another's place."""
    tree = json.loads(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        places = list(_places(tree))
        if not places:
            break
        holder, key = random.choice(places)
        other, elsewhere = random.choice(places)
        deed = random.random()
        if deed < 0.6:
            holder[key] = json.loads(json.dumps(random.choice(VALUES)))
        elif deed < 0.8:
            del holder[key]
        else:
            holder[key] = json.loads(json.dumps(other[elsewhere]))
    depth = random.choice((1, 100, 1000, 100_000))
    return json.dumps(tree).replace('"nested"', "[" * depth + "]" * depth).encode()


def _places(tree):
    """(holder, key or index) of all that is in a tree of JSON."""
    for key, part in list(tree.items() if isinstance(tree, dict) else enumerate(tree)):
        yield tree, key
        if isinstance(part, (dict, list)):
            yield from _places(part)


def damaged_array(random, data):
    """A copy of a .npy file, with another header or other bytes."""
    if random.random() < 0.6:
        return damaged(random, data)
    shape = random.choice((
        "()", "(10,)", "(10, 7)", "(-1,)", "(0,)", "(1 << 40,)", "(999999999999,)", "(10, 48, 48, 1)", "(0, 48, 48, 1)",
        "(9999999, 48, 48, 1)", "(True,)", "(10.0,)", "10", "None", "(4294967296, 4294967296)", "(" + "1, " * 70 + ")",
        "(9223372036854775808,)", "[10]", "(" * 300 + ")" * 300))
    kind = random.choice(("|u1", "<u8", "<i8", ">i8", "<f4", "|O", "|V0", "<U99999999", "|S0", "<M8[ns]", "<M8", "|b1",
                          "u1,u1", "", "x", "<i3", "|u1\\n"))
    header = (f"{{'descr': {random.choice((repr(kind), [('a', kind)], kind))}, "
              f"'fortran_order': {random.choice((True, False, 1, None))}, 'shape': {shape}, }}").encode()
    header += random.choice((b"", b" " * (64 - (len(header) + 11) % 64) + b"\n", b" " * 20000))
    version = random.choice((1, 1, 1, 2, 3, 4))
    size = min(len(header), 0xFFFF).to_bytes(2, "little") if version == 1 else len(header).to_bytes(4, "little")
    data = b"\x93NUMPY" + bytes([version, 0]) + size + header + data[128:]
    return damaged(random, data) if random.random() < 0.3 else data


# ---- the readers -------------------------------------------------------------------------------

def put(folder, *names):
    for name in names:
        (folder / name).write_bytes(SOURCES[name])


def read_csv(random, folder):
    kind = random.choice(list(PACKED))
    layers = PACKED[kind]
    wrong = random.randrange(len(layers) + 1)  # the layer that is damaged: 0 is the CSV
    data = SOURCES["fer2013.csv"]
    for number, layer in enumerate((*layers, None)):
        data = damaged(random, data) if number == wrong else data
        data = pack(layer, data) if layer else data
    path = folder / f"fer2013.{kind}"
    path.write_bytes(data)
    faces, labels, usage = preprocessing.read_csv(path)
    assert faces.shape == (len(labels), FACE_SIZE, FACE_SIZE, 1) and faces.dtype == np.uint8
    assert labels.max() < len(EXPRESSIONS) and (usage is None or (usage.shape == labels.shape and usage.max() < 3))


def read_votes(random, folder):
    kind = random.choice(("csv", "xz"))
    data = damaged(random, SOURCES["fer2013new.csv"])
    path = folder / f"fer2013new.{kind}"
    path.write_bytes(pack(kind, data) if kind == "xz" else data)
    votes = preprocessing.read_votes(path, np.array([0] * 6 + [1, 1, 2, 2], np.uint8))
    assert votes.shape == (10, 10) and votes.dtype == np.uint8


def read_folder(random, folder):
    expression = folder / "train" / "happy"
    expression.mkdir(parents=True)
    put(expression, "face.jpg")
    source = random.choice(["face.png", "face.jpg", *pictures()])
    (expression / f"damaged.{random.choice(('png', 'jpg'))}").write_bytes(damaged(random, SOURCES[source]))
    faces, _, _ = preprocessing.read_folder(folder)
    assert faces.shape == (2, FACE_SIZE, FACE_SIZE, 1) and faces.dtype == np.uint8


def arrays(random, folder, names, stamp):
    """Write a set of arrays, one or all of them damaged, with their stamp, a damaged one or none."""
    put(folder, *names, *[stamp] * (random.random() < 0.3))
    if (folder / stamp).exists() and random.random() < 0.5:
        (folder / stamp).write_bytes(damaged(random, SOURCES[stamp]))
    for name in random.choice(([], names, *([name] for name in names))):
        (folder / name).write_bytes(damaged_array(random, SOURCES[name]))


def dataset(random, folder):
    arrays(random, folder, ["fdataX.npy", "flabels.npy", "fusage.npy"], "fdataX.sha256")
    faces, labels, usage = load_dataset(folder)
    assert faces.shape == (len(usage), FACE_SIZE, FACE_SIZE, 1) and labels.shape == (len(usage), len(EXPRESSIONS))


def test_faces(random, folder):
    if random.random() < 0.5:
        arrays(random, folder, ["modXtest.npy", "modytest.npy"], "modXtest.sha256")
    else:  # which makes these
        arrays(random, folder, ["fdataX.npy", "flabels.npy", "fusage.npy"], "fdataX.sha256")
    faces, labels = load_test_faces(folder)
    assert faces.shape == (len(labels), FACE_SIZE, FACE_SIZE, 1) and labels.max() < len(EXPRESSIONS)


def predictions(random, folder):
    arrays(random, folder, ["truey.npy", "predy.npy"], "truey.sha256")
    truey, predy = load_predictions(folder)
    assert truey.shape == predy.shape and max(truey.max(), predy.max()) < len(EXPRESSIONS)


def stamp(random, folder):
    name = random.choice([name for name in SOURCES if name.endswith(".sha256")])
    (folder / name).write_bytes(damaged(random, SOURCES[name]))
    preprocessing.read_stamp(folder / name)
    preprocessing.strangers(folder / name)


def layers(random, folder):
    source = SOURCES[random.choice(("model.json", "shipped.model.json"))]
    (folder / "model.json").write_bytes(random.choice((damaged, damaged_json))(random, source))
    read_layers(folder / "model.json")


def model(random, folder):
    origin = "shipped." * (random.random() < 0.1)  # which is large
    files = {name: SOURCES[origin + name] for name in ("model.json", "model.weights.h5", STAMP)}
    wrong = random.randrange(3)
    if wrong != 1:
        files["model.json"] = random.choice((damaged, damaged_json, damaged_json))(random, files["model.json"])
    if wrong != 0:
        files["model.weights.h5"] = damaged(random, files["model.weights.h5"])
    for name, content in files.items():
        (folder / name).write_bytes(content)
    network = load_model(folder)
    assert predict(network, np.zeros((1, FACE_SIZE, FACE_SIZE, 1), np.uint8)).shape == (1, len(EXPRESSIONS))


def checkpoint(random, folder):
    path = folder / "checkpoint.weights.h5"
    path.write_bytes(damaged(random, SOURCES[path.name]))
    read_checkpoint(path)


def recogniser(random, folder):
    origin = "shipped." * (random.random() < 0.1)
    files = {name: SOURCES[origin + name] for name in ("model.json", "model.weights.h5", "model.tflite")}
    files["model.tflite"] = damaged(random, files["model.tflite"])
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / STAMP).write_text("".join(  # as if it were right
        f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()))
    look = load_recogniser(folder)
    faces = np.full((3, FACE_SIZE, FACE_SIZE, 1), 99, np.uint8)
    assert look(faces).shape == (3, len(EXPRESSIONS))


def resumed(random, folder):
    """A table, or the journal of one, that a run goes on with."""
    name = random.choice([name for name in SOURCES if name.startswith("rows.")])
    (folder / name).write_bytes(damaged(random, SOURCES[name]))
    journal = tables.Journal(folder / name.removesuffix(".part"), "model", resume=True)
    assert all(len(row) == len(tables.COLUMNS) for row in journal.rows())


def pictures():
    return [name for name in SOURCES if name.startswith("picture.")]


@functools.cache
def shipped_recogniser():
    return load_recogniser()


def picture(random, folder):
    name = random.choice(pictures())
    (folder / name).write_bytes(damaged(random, SOURCES[name]))
    found = recognise(read_picture(folder / name), shipped_recogniser())
    assert found[0].shape[1:] == (4,) and found[1].shape == (len(found[0]), len(EXPRESSIONS))


def damaged_video(random, folder):
    """The path of a damaged video; a playlist names another one, which is damaged instead, or too."""
    name = random.choice([*(name for name in SOURCES if name.startswith("video.")), "video.m3u8"])
    data = SOURCES.get(name, PLAYLIST)
    if name == "video.m3u8":
        put(folder, "video.ts")
        if random.random() < 0.5:
            (folder / "video.ts").write_bytes(damaged(random, SOURCES["video.ts"]))
    (folder / name).write_bytes(damaged(random, data))
    return folder / name


def video(random, folder):
    with contextlib.closing(open_video(damaged_video(random, folder))) as file:
        stream, sound = file.streams.video[0], next(iter(file.streams.audio), None)
        stream.thread_type = "AUTO"
        for _, frame in itertools.islice(read_video(file, stream, sound, []), FRAMES):
            assert frame.ndim == 3 and frame.dtype == np.uint8


def video_script(random, folder):
    """Also what recognise_video.py makes of the damaged sound and times: a new video."""
    path = damaged_video(random, folder)
    recognise_video.main([str(path), "--output", str(folder / "new.mp4"), "--quiet"])


def camera(random, folder):
    capture = open_camera(str(damaged_video(random, folder)))
    for _ in range(FRAMES):
        if not capture.read()[0]:
            break
    capture.release()


READERS = {read_csv: 36, read_votes: 4, read_folder: 16, resumed: 4, dataset: 20, test_faces: 10, predictions: 10,
           stamp: 6, layers: 16, model: 3, checkpoint: 8, recogniser: 8, picture: 35, video: 18, video_script: 4,
           camera: 10}  # shares of the cases
ORDER = [reader for reader, share in READERS.items() for _ in range(share)]
Random(0).shuffle(ORDER)


# ---- the cases ---------------------------------------------------------------------------------

def reader_of(number):
    return ORDER[number % len(ORDER)]


def memory():
    """The most bytes this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def try_case(number, seed, folder, most):
    """What the case ends with: "accepted", "refused", or a sentence that says what is wrong."""
    outcome = "accepted"
    try:
        reader_of(number)(Random(f"{seed} {number}"), folder)
    except InputError as error:
        sentences = error.args and all(isinstance(text, str) and len(text.splitlines()) == 1 for text in error.args)
        outcome = "refused" if sentences else f"no sentence: {error.args}"
    except OSError:
        outcome = "refused"
    except BaseException as error:
        traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"{type(error).__name__}: {first_line(error)} ({Path(where.filename).name}, line {where.lineno})"
    if memory() > most:
        outcome = f"{TOO_MUCH}: {memory() >> 20} MB"
    return outcome


def work(numbers, seed, folder, answer, quiet):
    """In a process of its own: the cases one after another, until there is a find."""
    if quiet:  # what libraries print about damaged files
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    else:
        faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to heed
    cv2.setNumThreads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (CEILING, CEILING))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = MEMORY + ("keras" in sys.modules) * memory()
    for number in numbers:
        own = folder / str(number)
        own.mkdir()
        outcome = try_case(number, seed, own, most)
        if quiet:
            shutil.rmtree(own)
        answer.send(outcome)
        if outcome not in ("accepted", "refused"):
            return


def run_cases(numbers, seed, folder, jobs, quiet=True):
    """Yield (number, outcome) of the cases; `jobs` processes work on them at a time."""
    waiting = [numbers[start:start + PER_PROCESS] for start in range(0, len(numbers), PER_PROCESS)]
    running = {}  # the end of a pipe: its process, its cases left, when the first of these began
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                left = waiting.pop(0)
                answers, answer = FORK.Pipe(duplex=False)
                own = Path(tempfile.mkdtemp(dir=folder))
                process = FORK.Process(target=work, args=(left, seed, own, answer, quiet))
                process.start()
                answer.close()  # the process has it: once that ends there is nothing to read
                running[answers] = [process, collections.deque(left), time.monotonic()]
            for answers in multiprocessing.connection.wait(list(running), timeout=0.5):
                process, left, began = running[answers]
                try:
                    outcome = answers.recv()
                    running[answers][2] = time.monotonic()
                    yield left.popleft(), outcome
                except EOFError:
                    del running[answers]
                    process.join()
                    if process.exitcode and left:
                        yield left.popleft(), end_of(process, time.monotonic() - began)
                    waiting[:0] = [list(left)] if left else []
            for process, left, began in running.values():
                if left and time.monotonic() - began > SECONDS:
                    process.kill()
    finally:
        for process, _, _ in running.values():
            process.kill()
            process.join()


def end_of(process, seconds):
    """Why a process ended in the midst of a case."""
    if process.exitcode == -signal.SIGKILL and seconds > SECONDS:
        return TOO_LONG
    return signal.Signals(-process.exitcode).name if process.exitcode < 0 else f"exit status {process.exitcode}"


def fuzz(numbers, seed, folder, jobs):
    """Run the cases and print the finds; how often each reader did what, {(reader, outcome): count}."""
    counts = collections.Counter()
    with tqdm(total=len(numbers), unit=" cases", disable=None, smoothing=0.02) as bar:
        for with_keras in (False, True):  # last: from then on each process has its memory
            chosen = [number for number in numbers if (reader_of(number) is model) == with_keras]
            if with_keras and chosen:
                import_keras()
            for number, outcome in run_cases(chosen, seed, folder, jobs, quiet=len(numbers) > 1):
                if outcome.startswith((TOO_LONG, TOO_MUCH)):  # the computer was busy, or the cases before left much?
                    [(_, outcome)] = run_cases([number], seed, folder, 1)
                if outcome not in ("accepted", "refused"):
                    bar.write(f"{reader_of(number).__name__}, case {number}: {outcome}", file=sys.stdout)
                    sys.stdout.flush()
                    outcome = "finds"
                counts[reader_of(number).__name__, outcome] += 1
                bar.update()
    return counts


def print_table(counts):
    print(f"{'reader':12} {'cases':>8} {'accepted':>9} {'refused':>8} {'finds':>6}")
    names = [reader.__name__ for reader in READERS]
    for name, chosen in [*((name, [name]) for name in names), ("total", names)]:
        row = [sum(counts[reader, outcome] for reader in chosen) for outcome in ("accepted", "refused", "finds")]
        print(f"{name:12} {sum(row):8,} {row[0]:9,} {row[1]:8,} {row[2]:6,}")


def main(argv=None):
    parser = script_parser(__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of all chance (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: %(default)s)")
    parser.add_argument("--reader", choices=[reader.__name__ for reader in READERS], help="only this one's cases")
    parser.add_argument("--only", type=int, metavar="CASE", help="repeat this case")
    args = parser.parse_args(argv)

    tqdm.monitor_interval = 0  # no thread of its own: processes are split off
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        if args.only is None:
            stack.callback(shutil.rmtree, folder)
        sources = folder / "undamaged"
        sources.mkdir()
        maker = FORK.Process(target=make_sources, args=(sources,))  # TensorFlow's threads do not outlive a fork
        maker.start()
        maker.join()
        if maker.exitcode:
            raise InputError("the files to damage could not be made: see above")
        SOURCES.update((path.name, path.read_bytes()) for path in sorted(sources.iterdir()))
        if args.only is not None:
            print(f"the files are kept in {folder}", file=sys.stderr)
        numbers = [number for number in (range(args.cases) if args.only is None else [args.only])
                   if args.reader in (None, reader_of(number).__name__)]
        counts = fuzz(numbers, args.seed, folder, args.jobs)
    print_table(counts)
    if any(outcome == "finds" for _, outcome in counts):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
