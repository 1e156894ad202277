"""From an image to faces with expressions: the same for a path, an array and a PIL image, with any detector."""
import cv2
import numpy as np
import pytest
from PIL import Image

from expressions import yunet
from expressions.console import InputError
from expressions.detection import crop_faces, detect_faces, eyes_of_boxes
from expressions.labels import EXPRESSIONS
from expressions.model_files import load_classifier
from expressions.recognition import Recogniser, choose_detector, face_row, make_face, recognise, recognise_file


def test_each_face_gets_its_own_probabilities():
    image, greys = np.zeros((100, 400, 3), np.uint8), [200, 40, 120]
    boxes = [(20 + 130 * number, 20, 48, 48) for number in range(3)]
    for grey, (x, *_) in zip(greys, boxes):
        image[:, x - 10:x + 58] = grey
    recogniser = Recogniser(detector=lambda _: boxes)
    recogniser.classify = lambda faces: np.repeat(faces.mean(axis=(1, 2, 3))[:, None], 7, 1)
    assert [face.box for face in recogniser(image)] == boxes
    np.testing.assert_allclose([face.probability for face in recogniser(image)], greys, atol=1)


@pytest.mark.parametrize("degrees", [-35, 25])
def test_a_tilted_face_is_found_and_recognised_upright(portrait, shipped, yunet_path, degrees):
    matrix = cv2.getRotationMatrix2D((256, 300), degrees, 1)
    rotated = cv2.warpAffine(portrait[0], matrix, (512, 600), borderMode=cv2.BORDER_REPLICATE)
    recogniser = Recogniser(shipped, yunet.YuNet(yunet_path.read_bytes()))
    [face], [upright] = recogniser(rotated), recogniser(portrait[0])
    x, y, width, height = face.box
    assert np.abs(matrix @ (268, 215, 1) - (x + width / 2, y + height / 2)).max() < 30
    assert all(abs(face.probabilities[name] - upright.probabilities[name]) < 0.25 for name in EXPRESSIONS)


def test_yunet_is_the_default_where_its_file_is_there(portrait, shipped, yunet_path, monkeypatch):
    assert Recogniser(shipped).detector is detect_faces
    assert Recogniser(shipped)(np.zeros((2, 40_000, 3), np.uint8)) == []
    monkeypatch.setattr(yunet, "PATH", yunet_path)
    recogniser = Recogniser(shipped)
    assert isinstance(recogniser.detector, yunet.YuNet)
    [face] = recogniser(portrait[0])
    assert 0.8 < face.score < 1 and face.expression == "neutral"
    recogniser.min_score = 0.99
    assert recogniser(portrait[0]) == []


def test_without_a_network_yunet_gives_way_to_the_cascades(monkeypatch, capsys):
    monkeypatch.setattr(yunet, "fetch", lambda: (_ for _ in ()).throw(InputError("it cannot be had: get it by hand")))
    assert choose_detector("yunet") == choose_detector("haar") == choose_detector(None) == "haar"
    assert capsys.readouterr().err == "it cannot be had: get it by hand; going on with the Haar cascades\n"


def test_a_path_an_array_and_a_pil_image_give_the_same_faces(portrait, shipped):
    image, path = portrait
    [face] = recognise(path, models=shipped)
    x, y, width, height = face.box
    assert abs(x + width / 2 - 268) < 20 and abs(y + height / 2 - 215) < 30
    assert list(face.probabilities) == list(EXPRESSIONS) and sum(face.probabilities.values()) == pytest.approx(1)
    assert face.probability == face.probabilities[face.expression] == max(face.probabilities.values())
    assert face.track_id is None
    for same in (str(path), image, Image.open(path)):
        assert recognise(same, models=shipped) == [face]
    assert recognise(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), models=shipped)[0].box == face.box
    for wrong in (image.astype(float), image[0, 0], np.zeros((4, 4, 2), np.uint8), np.zeros((0, 9, 3), np.uint8), None):
        with pytest.raises(InputError, match="an image is a path, an array uint8 BGR"):
            recognise(wrong, models=shipped)


def test_a_detector_of_ones_own_is_used_alone(portrait, shipped):
    grey = cv2.cvtColor(portrait[0], cv2.COLOR_BGR2GRAY)
    recogniser = Recogniser(shipped, detector=lambda image: [(150, 100, 230, 230)])
    [face] = recogniser(portrait[1])
    assert face.box == (150, 100, 230, 230)
    expected = load_classifier(shipped)(crop_faces(grey, eyes_of_boxes([(150, 100, 230, 230)])))[0]
    np.testing.assert_array_equal([*face.probabilities.values()], expected.astype(float))
    assert Recogniser(shipped, detector=lambda image: [])(portrait[0]) == []


def test_a_row_names_the_most_probable_expression_or_the_one_given():
    probabilities = np.array([0.1, 0, 0.2, 0.44444, 0.05, 0.15, 0.05556], np.float32)
    numbers = [0.1, 0, 0.2, 0.4444, 0.05, 0.15, 0.0556]
    face = make_face(np.array([1, 2, 3, 4]), probabilities, 0.98765)
    assert face_row(2, face) == [2, 1, 2, 3, 4, "happy", 0.4444, *numbers, 0.9877, "happy", "fear"]
    face = make_face((1, 2, 3, 4), probabilities, 1, expression=0)
    assert face_row(2, face) == [2, 1, 2, 3, 4, "angry", 0.1, *numbers, 1, "happy", "fear"]


def test_below_the_least_probability_a_face_is_unsure(portrait, shipped):
    [face] = Recogniser(shipped)(portrait[0])
    for least, label in ((face.probability - 1e-6, "neutral"), (face.probability + 1e-6, "unsure")):
        [same] = Recogniser(shipped, min_probability=least)(portrait[0])
        assert (same.expression, same.guesses[0], same.probability) == (label, "neutral", face.probability)
    assert Recogniser(shipped, min_probability=1).explain(portrait[0]).any()


def test_a_file_is_drawn_and_written_and_a_bad_one_is_answered_with_its_error(portrait, shipped, tmp_path):
    rows, image = recognise_file((portrait[1], tmp_path / "out.png"), shipped, keep_image=True)
    assert len(rows) == 1 and (image != portrait[0]).any()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out.png")), image)
    answer = recognise_file(("none.jpg", None), shipped, folder=tmp_path)
    assert isinstance(answer, InputError) and str(tmp_path / "none.jpg") in str(answer)
