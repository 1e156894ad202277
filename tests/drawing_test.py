"""Boxes, labels and bars are drawn where they belong, and labels off each other."""
import itertools

import cv2
import numpy as np

from expressions.drawing import draw_countdown, draw_faces, draw_label, draw_overlay, draw_probability_bars
from expressions.recognition import make_face

PROBABILITIES = np.array([0.05, 0.05, 0.1, 0.6, 0.1, 0.05, 0.05], np.float32)


def test_labels_are_legible_in_images_of_every_size():
    random = np.random.default_rng(0)
    for height, width in ((480, 640), (64, 64), (2000, 1500)):
        image = np.full((height, width, 3), 128, np.uint8)
        size = min(height, width) // 5
        boxes = np.array([(0, 0, size, size), (width - size, 0, size, size), (0, height - size, size, size),
                          (width - size, height - size, size, size)])
        draw_faces(image, [make_face(box, random.dirichlet(np.ones(7)), 1) for box in boxes])
        assert (image > 200).all(axis=2).sum() > 20  # white letters


def test_labels_stay_off_each_other():
    occupied = []
    for box in ((200, 200, 100, 100), (210, 200, 100, 100), (220, 200, 100, 100)):
        occupied.append(draw_label(np.zeros((480, 640, 3), np.uint8), "surprise 100%", box, (1, 2, 3), 0.75, occupied))
    for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations(occupied, 2):
        assert x >= x2 + w2 or x2 >= x + w or y >= y2 + h2 or y2 >= y + h


def test_a_box_has_the_colour_of_its_expression_and_surrounds_the_face():
    image = np.zeros((400, 400, 3), np.uint8)
    draw_faces(image, [make_face((100, 120, 150, 150), PROBABILITIES, 1)])
    assert (image[200, 100] == (0, 100, 180)).all() and (image[200, 249] == (0, 100, 180)).all()  # happy: orange
    assert not image[150:240, 130:220].any()
    draw_faces(image, [make_face((100, 120, 150, 150), PROBABILITIES, 1, expression=0, track_id=12)])
    assert (image[200, 100] == (30, 30, 190)).all()  # angry: red


def test_a_bar_is_as_long_as_its_probability():
    def bar_lengths(probabilities):
        frame = np.full((520, 480, 3), 255, np.uint8)
        draw_probability_bars(frame, make_face((0, 0, 9, 9), probabilities, 1))
        region = frame[370:, 102:]
        return [int((np.ptp(region[row].astype(int), axis=1) > 20).sum()) for row in range(10, 150, 20)]

    half, whole = bar_lengths(np.full(7, 0.5)), bar_lengths(np.ones(7))
    assert max(whole) > 90 and abs(max(half) - max(whole) / 2) <= 2


def test_lines_and_a_countdown_are_white_on_a_dark_ground():
    frame = np.full((480, 640, 3), 255, np.uint8)
    draw_overlay(frame, ["30 frames a second", "q quits"])
    assert (frame[3, 3] == 51).all() and (frame[:60] == 255).all(axis=2).any() and (frame[200:] == 255).all()
    frame = np.full((480, 640, 3), 128, np.uint8)
    draw_countdown(frame, 3)
    drawn = np.abs(frame.astype(int) - 128).max(axis=2) > 60
    ys, xs = np.nonzero(drawn)
    assert abs(xs.mean() - 320) < 20 and ys.max() < 240 and (frame[drawn] > 200).any() and (frame[drawn] < 50).any()
    assert cv2.countNonZero(drawn.astype(np.uint8)) > 1000
