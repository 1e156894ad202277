"""Faces are found where they are, and cropped as FER2013 frames them."""
import cv2
import numpy as np
import pytest

from expressions.detection import box_iou, crop_faces, detect_faces


def test_box_iou_is_intersection_over_union():
    assert box_iou((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert box_iou((0, 0, 10, 10), (2, 2, 4, 5)) == pytest.approx(20 / 100)
    assert box_iou((3, 4, 10, 10), (3, 4, 10, 10)) == 1 and box_iou((0, 0, 10, 10), (10, 0, 10, 10)) == 0


def test_every_face_is_found_from_left_to_right_wherever_it_is(portrait):
    grey = cv2.cvtColor(portrait[0], cv2.COLOR_BGR2GRAY)
    [[x, y, width, height]] = detect_faces(grey)
    assert abs(x + width / 2 - 268) < 20 and abs(y + height / 2 - 215) < 30 and 180 < width < 270
    three = np.full((1000, 1700), 128, np.uint8)
    three[300:900, 0:512] = grey
    three[0:600, 600:1112] = grey
    three[400:700, 1300:1556] = cv2.resize(grey, (256, 300), interpolation=cv2.INTER_AREA)
    boxes = detect_faces(three)
    assert boxes.shape == (3, 4) and boxes.dtype == int
    np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:] / 2, [(268, 515), (868, 215), (1434, 508)], atol=30)


def test_what_is_no_face_is_not_found():
    def noise(seed, zoom):
        small = np.random.default_rng(seed).integers(0, 256, (60, 80), np.uint8)
        return cv2.resize(small, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)

    # In the first three one cascade proposes a face, and the other rejects it.
    images = [noise(12, 12), noise(21, 8), noise(30, 8), noise(0, 8), np.full((300, 300), 90, np.uint8)]
    images.append(np.kron(np.indices((12, 16)).sum(axis=0) % 2 * 255, np.ones((50, 50))).astype(np.uint8))
    for grey in images:
        assert not len(detect_faces(grey))


def test_boxes_stay_in_an_image_that_is_searched_smaller(portrait):
    face = cv2.cvtColor(portrait[0], cv2.COLOR_BGR2GRAY)[100:335, 150:385]
    large = cv2.resize(cv2.copyMakeBorder(face, 30, 3, 30, 3, cv2.BORDER_REPLICATE), None, fx=9, fy=9)
    boxes = detect_faces(large)
    assert len(boxes) and (boxes >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= large.shape[::-1]).all()


def test_a_face_that_needs_no_resizing_is_cropped_pixel_for_pixel():
    grey = np.random.default_rng(0).integers(0, 256, (100, 120), np.uint8)
    crops = crop_faces(grey, [(30, 40, 48, 48), (72, 52, 48, 48)], scale=1, shift_y=0)
    np.testing.assert_array_equal(crops[..., 0], [grey[40:88, 30:78], grey[52:100, 72:120]])
    assert crop_faces(grey, np.empty((0, 4), int)).shape == (0, 48, 48, 1)


def test_a_crop_is_framed_as_asked_and_repeats_the_border():
    columns = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    face = crop_faces(columns.T, [(60, 50, 80, 80)], scale=1.2, shift_y=0.1)[0, ..., 0].T.astype(float)
    # 96 pixels about (100, 90 + 8): rows 50 to 146, two of them in each of the 48
    np.testing.assert_allclose(face[24], 50 + 2 * np.arange(48) + 0.5, atol=1)
    face = crop_faces(columns, [(-20, 160, 48, 48)], scale=1, shift_y=0)[0, ..., 0]
    np.testing.assert_array_equal(face[5], [0] * 20 + list(range(28)))
    np.testing.assert_array_equal(face[5], face[47])
