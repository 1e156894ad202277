import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from preprocessing import EXPRESSIONS, read_csv, written_whole
from recognise_image import (
    crop_faces,
    draw_faces,
    find_faces,
    load_recogniser,
    main,
    output_path,
    overlap,
    read_picture,
    recognise,
    write_picture,
)
from saved_model import load_model
from test_model import predict

import cv2
import numpy as np
import pytest
from conftest import NO_DISPLAY, ROOT, assert_refused, csv_text, heed_ctrl_c, run_script
from PIL import Image


def rows_of(text):
    return list(csv.reader(io.StringIO(text)))


@pytest.fixture(scope="module")
def recogniser(shipped):
    return load_recogniser(shipped)


def test_recognition_prepares_a_face_as_training_does(portrait, shipped, recogniser, tmp_path, monkeypatch):
    """The same face through the CSV and Keras, and through a picture, its box and OpenCV."""
    grey = cv2.cvtColor(portrait[0], cv2.COLOR_BGR2GRAY)
    face = crop_faces(grey, [(150, 100, 230, 230)])[0]
    path = tmp_path / "fer2013.csv"
    path.write_text(csv_text([face], [3], [2]))
    through_training = predict(load_model(shipped), read_csv(path)[0])

    monkeypatch.setattr("recognise_image.find_faces", lambda grey: np.array([(150, 100, 230, 230)]))
    _, through_recognition = recognise(portrait[0], recogniser)
    np.testing.assert_allclose(through_recognition, through_training, atol=1e-4)
    assert through_training.max() < 0.9999  # not so sure that any scaling would give the same


def test_a_face_that_needs_no_resizing_is_cropped_pixel_for_pixel():
    grey = np.random.default_rng(0).integers(0, 256, (100, 120), np.uint8)
    np.testing.assert_array_equal(crop_faces(grey, [(30, 40, 48, 48), (72, 52, 48, 48)], widen=1, lower=0)[..., 0],
                                  [grey[40:88, 30:78], grey[52:100, 72:120]])
    assert crop_faces(grey, np.empty((0, 4), int)).shape == (0, 48, 48, 1)


def test_a_crop_is_framed_as_asked_and_repeats_the_border():
    columns = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    face = crop_faces(columns.T, [(60, 50, 80, 80)], widen=1.2, lower=0.1)[0, ..., 0].T.astype(float)
    # 96 pixels about (100, 90 + 8): rows 50 to 146, two of them in each of the 48
    np.testing.assert_allclose(face[24], 50 + 2 * np.arange(48) + 0.5, atol=1)
    face = crop_faces(columns, [(-20, 160, 48, 48)], widen=1, lower=0)[0, ..., 0]
    np.testing.assert_array_equal(face[5], [0] * 20 + list(range(28)))
    np.testing.assert_array_equal(face[5], face[47])


def test_each_face_gets_its_own_probabilities(monkeypatch):
    picture = np.zeros((100, 400, 3), np.uint8)
    greys = [200, 40, 120]
    boxes = [(20 + 130 * number, 20, 48, 48) for number in range(3)]
    for grey, (x, _, width, _) in zip(greys, boxes):
        picture[:, x - 10:x + width + 10] = grey
    monkeypatch.setattr("recognise_image.find_faces", lambda grey: np.array(boxes))
    found, shares = recognise(picture, lambda faces: np.repeat(faces.mean(axis=(1, 2, 3))[:, None], 7, axis=1))
    np.testing.assert_array_equal(found, boxes)
    np.testing.assert_allclose(shares[:, 0], greys, atol=1)


def test_overlap_is_intersection_over_union():
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (2, 2, 4, 5)) == pytest.approx(20 / 100)
    assert overlap((3, 4, 10, 10), (3, 4, 10, 10)) == 1 and overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0


@pytest.mark.parametrize("degrees", [-35, -25, 25, 35])
def test_a_tilted_face_is_found_and_recognised_upright(portrait, recogniser, degrees):
    picture = portrait[0]
    turned = cv2.warpAffine(picture, cv2.getRotationMatrix2D((256, 300), degrees, 1), (512, 600),
                            borderMode=cv2.BORDER_REPLICATE)
    assert not len(find_faces(cv2.cvtColor(turned, cv2.COLOR_BGR2GRAY)))  # or nothing is shown here
    [[x, y, width, height]], [shares] = recognise(turned, recogniser)
    radians = np.deg2rad(-degrees)  # where the point (268, 215) has gone, by hand
    there = (256 + np.cos(radians) * 12 - np.sin(radians) * -85, 300 + np.sin(radians) * 12 + np.cos(radians) * -85)
    assert abs(x + width / 2 - there[0]) < 30 and abs(y + height / 2 - there[1]) < 30
    upright = recognise(picture, recogniser)[1][0]
    assert np.abs(shares - upright).max() < 0.25


def test_what_is_no_face_is_not_found():
    def noise(seed, zoom):
        small = np.random.default_rng(seed).integers(0, 256, (60, 80), np.uint8)
        return cv2.resize(small, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    # in the first three the one cascade finds something, and the other is not sure of it
    pictures = [noise(12, 12), noise(21, 8), noise(30, 8), *(noise(0, zoom) for zoom in (4, 8, 16))]
    checks = np.kron(np.indices((12, 16)).sum(axis=0) % 2 * 255, np.ones((50, 50))).astype(np.uint8)
    for grey in [*pictures, checks]:
        assert not len(find_faces(grey))


def test_every_face_is_found_from_left_to_right_wherever_it_is(portrait):
    picture = portrait[0]
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    [[x, y, width, height]] = find_faces(grey)
    assert abs(x + width / 2 - 268) < 20 and abs(y + height / 2 - 215) < 30 and 180 < width < 270
    three = np.full((1000, 1700), 128, np.uint8)
    three[300:900, 0:512] = grey
    three[0:600, 600:1112] = grey
    three[400:700, 1300:1556] = cv2.resize(grey, (256, 300), interpolation=cv2.INTER_AREA)
    boxes = find_faces(three)
    assert len(boxes) == 3
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    np.testing.assert_allclose(centres, [(268, 515), (868, 215), (1434, 508)], atol=30)
    assert not len(find_faces(np.full((300, 300), 90, np.uint8)))


def test_boxes_stay_in_the_picture_when_it_is_searched_smaller(portrait):
    grey = cv2.cvtColor(portrait[0], cv2.COLOR_BGR2GRAY)[100:335, 150:385]  # just the face
    large = cv2.resize(cv2.copyMakeBorder(grey, 30, 3, 30, 3, cv2.BORDER_REPLICATE), None, fx=9, fy=9)
    boxes = find_faces(large)
    assert len(boxes) and (boxes >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= large.shape[1]).all() and (boxes[:, 1] + boxes[:, 3] <= large.shape[0]).all()


def test_the_portrait_is_recognised_with_no_argument(tmp_path, portrait):
    process = run_script("recognise_image.py", cwd=tmp_path, env=NO_DISPLAY)
    assert process.returncode == 0, process.stderr
    [[file, number, x, y, width, height, expression, probability]] = rows_of(process.stdout)
    assert file.endswith("grace_hopper.jpg") and number == "1"
    assert abs(int(x) + int(width) / 2 - 268) < 20 and abs(int(y) + int(height) / 2 - 215) < 30
    assert expression in EXPRESSIONS and 1 / 7 < float(probability) <= 1
    drawn = cv2.imread(str(tmp_path / "output_grace_hopper.jpg")).astype(int)
    assert drawn.shape == portrait[0].shape
    changed = np.abs(drawn - portrait[0]).max(axis=2) > 60
    assert 1000 < changed.sum() < 30000
    assert changed[int(y):int(y) + int(height), int(x) - 1:int(x) + 3].mean() > 0.5  # the box's left side
    assert not changed[450:].any()


def test_recognition_loads_no_heavy_library(tmp_path):
    code = ("import sys, runpy; sys.argv = ['recognise_image.py']\n"
            f"try: runpy.run_path({str(ROOT / 'recognise_image.py')!r}, run_name='__main__')\n"
            "except SystemExit as end: assert not end.code\n"
            "print(sorted({'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib', 'av'} & set(sys.modules)))")
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                             env={"PYTHONPATH": str(ROOT)})
    assert process.stdout.splitlines()[-1] == "[]", process.stdout + process.stderr


def test_without_a_deployment_file_keras_takes_over_and_says_so(shipped, tmp_path, portrait, recogniser):
    faces = crop_faces(cv2.cvtColor(portrait[0], cv2.COLOR_BGR2GRAY), [(150, 100, 230, 230)])
    for path in shipped.glob("model.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.tflite").write_bytes(b"of another model")
    process = run_script("recognise_image.py", portrait[1], "--models", tmp_path, "--output", tmp_path / "out.png")
    assert process.returncode == 0, process.stderr
    assert "model.tflite is missing or was made from another model" in process.stderr
    [row] = rows_of(process.stdout)
    through_keras = load_recogniser(shipped, keras=True)(faces)
    np.testing.assert_allclose(through_keras, recogniser(faces), atol=1e-4)
    assert float(row[-1]) > 0


def test_a_damaged_deployment_file_is_refused(shipped, tmp_path, portrait):
    for path in shipped.glob("model.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    names = ["model.json", "model.weights.h5"]
    for damaged in (b"", b"not a network" * 100):
        with written_whole(tmp_path / "model.tflite", stamp=tmp_path / "model.sha256", made_from=names) as [tflite]:
            tflite.write_bytes(damaged)
        process = run_script("recognise_image.py", portrait[1], "--models", tmp_path, "--output", tmp_path / "out.png")
        assert_refused(process, tmp_path / "model.tflite", "damaged", "--export")
    assert not (tmp_path / "out.png").exists()


def test_one_bad_file_does_not_stop_the_others(tmp_path, portrait):
    text, empty = tmp_path / "text.jpg", tmp_path / "empty.png"
    text.write_text("not a picture")
    empty.touch()
    process = run_script("recognise_image.py", text, portrait[1], empty, tmp_path / "none.jpg", cwd=tmp_path)
    assert_refused(process, tmp_path / "none.jpg", "is not there")
    for path in (text, empty):
        assert f"{path} is not a picture" in process.stderr
    assert "3 of 4 pictures could not be read" in process.stderr
    assert len(rows_of(process.stdout)) == 1 and (tmp_path / "output_grace_hopper.jpg").exists()
    assert not (tmp_path / "output_text.jpg").exists()


def test_nothing_is_written_over(tmp_path, portrait):
    original = tmp_path / "me.jpg"
    original.write_bytes(portrait[1].read_bytes())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/me.jpg").write_bytes(original.read_bytes())
    assert_refused(run_script("recognise_image.py", original, "--output", original), original, "written over")
    assert_refused(run_script("recognise_image.py", original, "other/me.jpg", cwd=tmp_path), "output_me.jpg")
    assert_refused(run_script("recognise_image.py", original, "--output", "me.txt", cwd=tmp_path), "me.txt", ".png")
    assert_refused(run_script("recognise_image.py", original, "--csv", original), original, "end it in .csv")
    assert_refused(run_script("recognise_image.py", original, "--csv", "x.csv", "--table", "x.csv", cwd=tmp_path),
                   "x.csv would be written over")
    assert original.read_bytes() == portrait[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["me.jpg", "other"]


def test_several_pictures_go_into_a_folder(tmp_path, portrait, capsys):
    other = tmp_path / "other.png"
    write_picture(other, portrait[0][::2, ::2])
    (tmp_path / "out").mkdir()
    main([str(portrait[1]), str(other), "--output", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"output_grace_hopper.jpg", "output_other.png"}
    rows = rows_of(capsys.readouterr().out)
    assert [row[0] for row in rows] == [str(portrait[1]), str(other)]
    assert abs(int(rows[0][4]) / 2 - int(rows[1][4])) < 12  # half the size, half the box


def test_a_folder_is_searched_through_and_its_rows_are_kept_whole(tmp_path, portrait):
    folder = tmp_path / "holiday photos"
    (folder / "day 2").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("b.jpg", "day 2/a.JPG", ".hidden/c.jpg", "output_d.jpg"):
        (folder / name).write_bytes(portrait[1].read_bytes())
    cv2.imwrite(str(folder / "empty.png"), np.full((80, 90, 3), 70, np.uint8))
    (folder / "notes.txt").write_text("no picture")
    process = run_script("recognise_image.py", folder, "--csv", "faces.csv", "--json", "faces.json", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "2 faces in 3 pictures, 1 without one" in process.stderr
    outputs = tmp_path / "output_holiday photos"
    assert sorted(path.relative_to(outputs).as_posix() for path in outputs.rglob("*.*")) == [
        "b.jpg", "day 2/a.JPG", "empty.png"]

    header, *rows = csv.reader(open(tmp_path / "faces.csv", newline=""))
    assert header == ["file", "face", "x", "y", "width", "height", "expression", "probability", "angry", "disgust",
                      "fear", "happy", "sad", "surprise", "neutral"]
    assert [row[:8] for row in rows] == rows_of(process.stdout)
    assert [Path(row[0]) for row in rows] == [folder / "b.jpg", folder / "day 2/a.JPG"]
    for row in rows:
        shares = [float(value) for value in row[8:]]
        assert sum(shares) == pytest.approx(1, abs=1e-3) and max(shares) == float(row[7])
        assert EXPRESSIONS[int(np.argmax(shares))] == row[6]
    objects = json.loads((tmp_path / "faces.json").read_text())
    assert [[str(value) for value in row.values()] for row in objects] == rows and list(objects[0]) == header

    again = run_script("recognise_image.py", "holiday photos/**/*.[jJ]*", "--no-pictures", "--quiet", "--json",
                       "none.json", cwd=tmp_path)
    assert again.returncode == 0 and again.stderr == "" and len(rows_of(again.stdout)) == 3  # output_d.jpg, too
    assert len(list(tmp_path.iterdir())) == 5
    assert_refused(run_script("recognise_image.py", "*.gif", cwd=tmp_path), "*.gif matches no picture")
    assert_refused(run_script("recognise_image.py", folder / ".hidden/..", "--csv", "x/faces.csv", "--output",
                              folder / "b.jpg/x", cwd=tmp_path), "b.jpg")


def test_ctrl_c_keeps_the_rows_so_far(tmp_path, portrait):
    (tmp_path / "many").mkdir()
    for number in range(400):
        (tmp_path / f"many/{number:03}.jpg").symlink_to(portrait[1])
    command = [sys.executable, str(ROOT / "recognise_image.py"), "many", "--csv", "faces.csv", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               preexec_fn=heed_ctrl_c)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob("output_many/*"))) < 10:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in message, message
    rows = list(csv.DictReader(open(tmp_path / "faces.csv", newline="")))
    assert [row["file"] for row in rows] == [f"many/{number:03}.jpg" for number in range(len(rows))]
    done = {path.name for path in (tmp_path / "output_many").iterdir() if not path.name.startswith(".")}
    assert done >= {Path(row["file"]).name for row in rows} and 2 < len(rows) < 400
    assert len(done) - len(rows) <= 8  # under way
    assert f"{len(rows)} pictures" in message


def test_no_face_makes_empty_tables(tmp_path):
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((80, 90, 3), 70, np.uint8))
    process = run_script("recognise_image.py", "empty.png", "--csv", "a.csv", "--json", "a.json", cwd=tmp_path)
    assert process.returncode == 0 and process.stdout == "" and "0 faces" in process.stderr
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1
    assert json.loads((tmp_path / "a.json").read_text()) == []


def test_keras_recognises_the_same(tmp_path, portrait):
    rows = [rows_of(run_script("recognise_image.py", portrait[1], "--csv", "-", "--no-pictures", *more,
                               cwd=tmp_path).stdout) for more in ((), ("--keras",))]
    assert rows[0][0] == rows[1][0] and len(rows[0]) == 2  # the header and her
    opencv, keras = (row[1] for row in rows)
    assert opencv[:7] == keras[:7]
    np.testing.assert_allclose(np.array(opencv[7:], float), np.array(keras[7:], float), atol=2e-4)


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_stand_upright_as_their_exif_orientation_says(tmp_path, turn):
    upright = np.zeros((60, 80, 3), np.uint8)
    upright[:30, :40] = (255, 0, 0)
    upright[30:, 40:] = (0, 255, 0)
    # what a camera stores so that EXIF's orientation `turn` brings it upright (EXIF 2.3, tag 0x0112)
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
              6: np.rot90(upright), 7: upright.swapaxes(0, 1)[::-1, ::-1], 8: np.rot90(upright, -1)}[turn]
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95, subsampling=0)
    picture = read_picture(path)[..., ::-1]
    assert picture.shape == upright.shape
    assert np.abs(picture.astype(int) - upright).mean() < 5


@pytest.mark.parametrize("mode, ending", [("L", "png"), ("RGBA", "png"), ("P", "gif"), ("CMYK", "jpg"), ("1", "png"),
                                          ("I;16", "png"), ("RGB", "webp"), ("RGB", "tif"), ("RGB", "bmp")])
def test_pictures_of_every_kind_are_read(tmp_path, portrait, mode, ending):
    rgb = Image.fromarray(portrait[0][..., ::-1])
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 256)
    else:
        picture = rgb.convert(mode)
    path = tmp_path / f"grüße {mode[0]}.{ending}"
    picture.save(path)
    read = read_picture(path)
    assert read.shape == (600, 512, 3) and read.dtype == np.uint8
    soft = [cv2.blur(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (9, 9)).ravel() for image in (read, portrait[0])]
    assert np.corrcoef(*soft)[0, 1] > 0.95  # blurred because black and white is dithered
    assert cv2.haveImageWriter(output_path(path).name)


def test_labels_stay_in_the_picture_and_off_each_other():
    random = np.random.default_rng(0)
    for height, width in ((480, 640), (64, 64), (2000, 1500)):
        picture = np.full((height, width, 3), 128, np.uint8)
        size = min(height, width) // 5
        boxes = np.array([(0, 0, size, size), (width - size, 0, size, size), (0, height - size, size, size),
                          (width - size, height - size, size, size)])
        probabilities = random.dirichlet(np.ones(7), 4).astype(np.float32)
        draw_faces(picture, boxes, probabilities)
        assert picture.shape == (height, width, 3)
        assert (picture > 200).all(axis=2).sum() > 20  # white letters
    from recognise_image import draw_label
    taken = []
    for box in ((200, 200, 100, 100), (210, 200, 100, 100), (220, 200, 100, 100)):
        taken.append(draw_label(np.zeros((480, 640, 3), np.uint8), "surprise 100%", box, (1, 2, 3), 0.75, taken))
    for first in range(3):
        for second in range(first):
            (x, y, w, h), (x2, y2, w2, h2) = taken[first], taken[second]
            assert x >= x2 + w2 or x2 >= x + w or y >= y2 + h2 or y2 >= y + h
