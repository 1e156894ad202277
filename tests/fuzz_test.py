"""Readers against whatever Hypothesis thinks of, and against damaged files: with these over 2,000 cases a run."""
import csv
import io
import os
import re
import unicodedata
from pathlib import Path

from preprocessing import InputError, load_array, parse_pixels, printable, read_csv
from recognise_image import cell, read_picture, recognise
from recognise_video import open_video
from saved_model import check_tflite
from webcam_live import open_camera

import cv2
import numpy as np
import pytest
from conftest import run_script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

ONE_PIXEL = re.compile("[0-9]{1,3}", re.ASCII)
NAMES = {"training": 0, "publictest": 1, "privatetest": 2}


def cases(count):
    """Hypothesis's settings: the same cases each time, however long the computer takes over them."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large,
                                           HealthCheck.large_base_example])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cases")


# ---- what the files say, read word by word -----------------------------------------------------

def pixels_of(text):
    """The 2,304 values of a row, or None if it is wrong."""
    words = [word for word in text.split(" ") if word]
    if len(words) != 2304 or not all(ONE_PIXEL.fullmatch(word) and int(word) < 256 for word in words):
        return None
    return [int(word) for word in words]


def rows_of(text):
    """(pixels, label, usage or None) of each row that Python's csv module finds; None if one is wrong."""
    header, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    names = [name.strip().lower() for name in header]
    read = []
    for row in filter(None, rows):
        if len(row) != len(names):
            return None
        fields = {name: field.strip(" ") for name, field in zip(names, row)}
        pixels, usage = pixels_of(fields["pixels"]), NAMES.get(fields.get("usage", "").lower())
        if pixels is None or fields["emotion"] not in set("0123456") or (usage is None and "usage" in fields):
            return None
        read.append((pixels, int(fields["emotion"]), usage))
    return read or None


@st.composite
def pixel_texts(draw, strange="-.x\t\0٣é"):
    """About 2,304 grey values, with anything among them."""
    alphabet = draw(st.sampled_from(("0123456789", "0123456789 ", "012 ", "0123456789 " + strange)))
    middle = draw(st.text(alphabet, max_size=30))
    glue = draw(st.sampled_from((" ", " ", "", "  ")))
    count = 2304 - len(middle.split()) + draw(st.sampled_from((0, 0, 0, 0, 1, -1, 2)))
    random, most = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from((2, 10, 100, 256)))
    values = random.integers(0, most, count)
    words = [str(value) for value in values]
    cut = draw(st.integers(0, count))
    return glue.join(filter(None, (" ".join(words[:cut]), middle, " ".join(words[cut:]))))


@st.composite
def csv_texts(draw):
    """A CSV in FER2013's layout: columns in any order, other letters, quotes and blanks, and rows that may be wrong."""
    fields = {"emotion": st.one_of(st.sampled_from("0123456"),
                                   st.sampled_from(("7", "-1", "", "a", "00", "6.0", " 3 "))),
              "pixels": st.one_of(st.just(" ".join(["7"] * 2304)), pixel_texts(strange="-.x\t٣é")),
              "usage": st.one_of(st.sampled_from(("Training", "PublicTest", "PrivateTest", " training ")),
                                 st.sampled_from(("", "Test", "Training.", "0"))),
              "id": st.text("abc123 ", max_size=4)}
    names = draw(st.permutations(draw(st.sampled_from((["emotion", "pixels"], ["emotion", "pixels", "usage"],
                                                       ["emotion", "pixels", "usage", "id"])))))
    spell = draw(st.sampled_from((str, str.upper, str.title, " {} ".format, '"{}"'.format)))
    lines = [draw(st.sampled_from(("", "\ufeff"))) * (spell is not '"{}"'.format) + ",".join(map(spell, names))]
    for _ in range(draw(st.integers(0, 3))):
        row = [draw(fields[name]) for name in names]
        if draw(st.integers(0, 5)) == 0:
            row = draw(st.sampled_from((row[:-1], [*row, "1"], [*row, ""])))
        quoted = draw(st.sampled_from(("{}", '"{}"')))
        lines.append(",".join(quoted.format(field) for field in row))
        lines += [""] * draw(st.integers(0, 1))
    return draw(st.sampled_from(("\n", "\r\n"))).join(lines) + draw(st.sampled_from(("", "\n")))


@cases(300)
@given(pixel_texts())
def test_pixels_are_read_as_word_by_word(text):
    expected = pixels_of(text)
    if expected is None:
        with pytest.raises(ValueError):
            parse_pixels(text.encode())
    else:
        assert parse_pixels(text.encode()).tolist() == expected


@cases(250)
@given(csv_texts())
def test_a_csv_is_read_as_by_pythons_own_reader_or_refused(folder, text):
    path = folder / "fer2013.csv"
    path.write_text(text, "utf-8", newline="")
    expected = rows_of(text)
    if expected is None:
        with pytest.raises(InputError):
            read_csv(path)
        return
    faces, labels, usage = read_csv(path)
    pixels, wanted_labels, wanted_usage = zip(*expected)
    assert faces.shape == (len(expected), 48, 48, 1) and faces.reshape(len(expected), -1).tolist() == list(pixels)
    assert labels.tolist() == list(wanted_labels)
    assert (usage is None and wanted_usage[0] is None) or usage.tolist() == list(wanted_usage)


@cases(200)
@given(st.binary(max_size=3000))
def test_any_bytes_are_read_as_a_csv_or_refused(folder, content):
    path = folder / "bytes.csv"
    path.write_bytes(content)
    with pytest.raises(InputError):  # no row of 2,304 pixels is this short
        read_csv(path)


# ---- arrays ------------------------------------------------------------------------------------

KINDS = st.one_of(arrays.unsigned_integer_dtypes(endianness="?"), arrays.integer_dtypes(endianness="?"),
                  arrays.floating_dtypes(endianness="?"), arrays.boolean_dtypes(), arrays.datetime64_dtypes(),
                  arrays.unicode_string_dtypes(max_len=3), arrays.array_dtypes())


@cases(300)
@given(st.data())
def test_an_array_comes_back_as_it_was_or_is_refused(folder, data):
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    array = data.draw(arrays.arrays(data.draw(KINDS), shape))
    array = np.asarray(array, order=data.draw(st.sampled_from("CF")))
    wanted = tuple(data.draw(st.sampled_from((length, length, None))) for length in array.shape)
    if data.draw(st.integers(0, 3)) == 0:
        wanted = data.draw(st.sampled_from((wanted[:-1], (*wanted, None), (*wanted, 1), (*wanted[:-1], 9))))
    kinds = data.draw(st.sampled_from(("u", "iu")))
    fits = len(wanted) == array.ndim and all(length in (None, have) for length, have in zip(wanted, array.shape))
    name = array.dtype.name
    right = name == "uint8" or (kinds == "iu" and name in ("int8", "int16", "int32", "int64"))
    path = folder / "array.npy"
    np.save(path, array)
    if fits and right:
        loaded = load_array(path, wanted, "a test", kinds)
        assert loaded.dtype.name == name and loaded.shape == array.shape and loaded.tolist() == array.tolist()
    else:
        with pytest.raises(InputError):
            load_array(path, wanted, "a test", kinds)


HEADERS = st.one_of(
    st.text(max_size=60),
    st.builds("{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format,
              st.one_of(st.sampled_from(("'|u1'", "'<i8'", "'|O'", "'<U9999999'", "[('a', '|S0')]", "u1", "''")),
                        st.text(max_size=9)),
              st.sampled_from(("True", "False", "None", "1", "")),
              st.one_of(st.lists(st.integers(-1, 1 << 70), max_size=5).map(tuple),
                        st.sampled_from(("(4,)", "(4, 4)", "4", "(True,)", "(2.0,)", "(" * 200, "None", "()")))))


@cases(300)
@given(HEADERS, st.sampled_from((1, 2, 3, 4)), st.integers(-1, 70_000), st.binary(max_size=64))
def test_any_header_of_an_array_is_read_or_refused(folder, header, version, length, content):
    header = header.encode("utf-8", "surrogatepass")
    length = len(header) if length < 0 or length % 3 else length
    size = (length & 0xFFFF).to_bytes(2, "little") if version == 1 else length.to_bytes(4, "little")
    path = folder / "header.npy"
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + header + content)
    try:
        loaded = load_array(path, (None,), "a test", "iu")
    except (InputError, OSError) as error:  # run() makes a sentence of either
        assert str(error).strip()
    else:
        assert loaded.ndim == 1 and loaded.nbytes <= len(content) and loaded.dtype.kind in "iu"


# ---- what is shown -----------------------------------------------------------------------------

@cases(200)
@given(st.text(st.characters(codec=None)))
def test_what_is_printed_has_nothing_that_a_terminal_obeys(text):
    shown = printable(text)
    assert all(letter in " \u200c\u200d" or unicodedata.category(letter)[0] not in "CZ" for letter in shown)
    assert shown.encode().decode() == shown  # no half of a surrogate pair
    assert shown == text or any(letter not in shown for letter in text)


@cases(200)
@given(st.builds("{}{}".format, st.sampled_from(["", *"=+-@＝＋－＠\t\r\n "]), st.text(st.characters(codec=None))))
def test_a_cell_is_no_formula_and_controls_nothing(name):
    shown = cell(Path(name))
    assert unicodedata.normalize("NFKC", shown)[:1] not in (*"=+-@\t\r\n", "")
    assert all(letter in " \u200c\u200d" or unicodedata.category(letter)[0] not in "CZ" for letter in shown)


# ---- damaged files -----------------------------------------------------------------------------

@pytest.mark.skipif(not hasattr(os, "fork"), reason="tests/fuzz.py needs Linux or macOS")
def test_damaged_files_are_read_or_refused_with_a_sentence():
    process = run_script("tests/fuzz.py", "--cases", 2000, "--jobs", 2)
    assert process.returncode == 0, process.stdout + process.stderr
    assert re.search(r"^total +2,000 .* 0$", process.stdout, re.MULTILINE)


def test_what_tests_fuzz_py_has_found_stays_mended(folder, portrait, shipped):
    header = b"{'descr': [('a', '|S0')], 'fortran_order': True, 'shape': (-1,), }"  # NumPy divides by zero
    array = folder / "crashes.npy"
    array.write_bytes(b"\x93NUMPY\x02\0" + len(header).to_bytes(4, "little") + header)
    with pytest.raises(InputError, match="holds"):
        load_array(array, (None,), "a test")

    picture = folder / "picture"
    png = cv2.imencode(".png", portrait[0])[1].tobytes()
    picture.write_bytes(png[:33] + b"\xff\xff\xff\x20" + png[37:])  # OpenCV makes room for 4 GB
    with pytest.raises(InputError, match="not a picture"):
        read_picture(picture)
    picture.write_bytes(png[:33] + b"\0\0\0\0tEXt\0\0\0\0" * 1_000_000 + png[33:])  # parts with nothing in them
    with pytest.raises(InputError, match="not a picture"):
        read_picture(picture)
    picture.write_bytes(b"Pf\n4 4\n-1\n" + np.ones(16, np.float32).tobytes())  # OpenCV leaves it grey
    with pytest.raises(InputError, match="not a picture"):
        read_picture(picture)

    boxes, probabilities = recognise(np.zeros((2, 40_000, 3), np.uint8), None)  # longer than OpenCV turns
    assert boxes.shape == (0, 4) and probabilities.shape == (0, 7)

    playlist = folder / "endless.m3u8"  # FFmpeg waits for its next part
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nvideo.ts\n")
    for open_it in (open_video, open_camera):
        with pytest.raises(InputError, match="playlist"):
            open_it(str(playlist))

    model = (shipped / "model.tflite").read_bytes()
    check_tflite(model)
    shape = np.array([4, 256, 3, 3, 256], "<i4").tobytes()  # a convolution's, after its length; OpenCV reads on and on
    for damaged in (model.replace(shape, np.array([4, 1 << 24, 3, 3, 256], "<i4").tobytes()), model[:-999], model[:9]):
        with pytest.raises(ValueError):
            check_tflite(damaged)
