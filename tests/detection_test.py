"""Faces are found where they are, and cropped as FER2013 frames them."""
import cv2
import numpy as np
import pytest

from expressions.detection import box_iou, crop_faces, detect_faces, run_detector


def test_box_iou_is_intersection_over_union():
    assert box_iou((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert box_iou((0, 0, 10, 10), (2, 2, 4, 5)) == pytest.approx(20 / 100)
    assert box_iou((3, 4, 10, 10), (3, 4, 10, 10)) == 1 and box_iou((0, 0, 10, 10), (10, 0, 10, 10)) == 0


def test_every_face_is_found_from_left_to_right_wherever_it_is(portrait):
    grey = cv2.cvtColor(portrait[0], cv2.COLOR_BGR2GRAY)
    boxes, scores = detect_faces(grey)
    [[x, y, width, height]] = boxes
    assert scores[0] > 3
    assert abs(x + width / 2 - 268) < 20 and abs(y + height / 2 - 215) < 30 and 180 < width < 270
    three = np.full((1000, 1700), 128, np.uint8)
    three[300:900, 0:512] = grey
    three[0:600, 600:1112] = grey
    three[400:700, 1300:1556] = cv2.resize(grey, (256, 300), interpolation=cv2.INTER_AREA)
    boxes = detect_faces(three)[0]
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
        assert not len(detect_faces(grey)[0])


def test_boxes_stay_in_an_image_that_is_searched_smaller(portrait):
    face = cv2.cvtColor(portrait[0], cv2.COLOR_BGR2GRAY)[100:335, 150:385]
    large = cv2.resize(cv2.copyMakeBorder(face, 30, 3, 30, 3, cv2.BORDER_REPLICATE), None, fx=9, fy=9)
    boxes = detect_faces(large)[0]
    assert len(boxes) and (boxes >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= large.shape[::-1]).all()


def test_eyes_come_to_where_fer2013_has_them():
    grey = np.zeros((400, 500), np.uint8)
    cv2.circle(grey, (200, 150), 6, 255, -1)
    cv2.circle(grey, (272, 150), 6, 120, -1)  # 72 pixels apart: 36 % of a crop of 200
    crop = crop_faces(grey, [[(200, 150), (272, 150)]])[0, ..., 0].astype(float)
    for half, x in ((crop[:, :24], 0.32 * 48), (crop[:, 24:], 0.68 * 48 - 24)):
        rows, columns = np.indices(half.shape) + 0.5
        assert (half * columns).sum() / half.sum() == pytest.approx(x, abs=0.2)
        assert (half * rows).sum() / half.sum() == pytest.approx(0.38 * 48, abs=0.2)


def test_a_clearly_tilted_face_is_levelled_and_a_slightly_tilted_one_is_not():
    for degrees, difference in ((15, np.sin(np.deg2rad(15)) * 0.36 * 48), (30, 0), (-40, 0)):
        grey = np.zeros((400, 400), np.uint8)
        radians = np.deg2rad(degrees)
        eyes = np.array([200, 200]) + np.outer((-38, 38), (np.cos(radians), np.sin(radians)))
        for x, y in eyes:
            cv2.circle(grey, (round(x), round(y)), 6, 255, -1)
        crop = crop_faces(grey, [eyes])[0, ..., 0].astype(float)
        heights = [(half.sum(axis=1) @ np.arange(48)) / half.sum() for half in (crop[:, :24], crop[:, 24:])]
        assert heights[1] - heights[0] == pytest.approx(difference, abs=0.5)


def test_a_crop_of_48_pixels_is_cut_out_pixel_for_pixel_and_repeats_the_border():
    grey = np.random.default_rng(0).integers(0, 256, (100, 120), np.uint8)
    offsets = np.array([(-0.18, -0.12), (0.18, -0.12)]) * 48  # of the eyes from the centre of a square of 48 pixels
    found = crop_faces(grey, [np.add(offsets, centre) for centre in ((54, 64), (0, 64))])[..., 0]
    np.testing.assert_array_equal(found[0], grey[40:88, 30:78])
    np.testing.assert_array_equal(found[1][:, 24:], grey[40:88, :24])
    np.testing.assert_array_equal(found[1][:, :24], np.repeat(grey[40:88, :1], 24, axis=1))
    assert crop_faces(grey, np.empty((0, 2, 2))).shape == (0, 48, 48, 1)


def test_a_detector_may_give_boxes_scores_and_landmarks():
    image, box = np.zeros((200, 200, 3), np.uint8), (40, 20, 100, 100)
    for answer in ([box], np.array([box]), ([box], [0.7])):
        boxes, scores, eyes = run_detector(lambda _, answer=answer: answer, image)
        assert boxes.tolist() == [list(box)] and scores.tolist() == [0.7 if isinstance(answer, tuple) else 1]
        np.testing.assert_allclose(eyes[0], [(90 - 18, 70 - 12), (90 + 18, 70 - 12)])  # the crop is the box
    landmarks = [[(70, 60), (108, 60), (90, 80), (75, 95), (105, 95)]]
    np.testing.assert_allclose(run_detector(lambda _: ([box], [0.7], landmarks), image)[2], [[(70, 60), (108, 60)]])
    boxes, scores, eyes = run_detector(lambda _: [], image)
    assert boxes.shape == (0, 4) and scores.shape == (0,) and eyes.shape == (0, 2, 2)


def test_the_eyes_of_a_profile_are_moved_apart_and_a_box_mostly_inside_another_is_no_second_face():
    eyes = run_detector(lambda _: ([(40, 20, 80, 100)], [0.9], [[(60, 60), (70, 60)]]), None)[2]
    np.testing.assert_allclose(eyes[0], [(65 - 0.36 * 40, 60), (65 + 0.36 * 40, 60)])  # as for a crop of 80 pixels
    found = [(0, 0, 100, 100), (20, 20, 50, 50), (90, 0, 50, 50)], [0.9, 0.8, 0.7]
    boxes, scores, _ = run_detector(lambda _: found, None)
    assert boxes.tolist() == [[0, 0, 100, 100], [90, 0, 50, 50]] and scores.tolist() == [0.9, 0.7]
