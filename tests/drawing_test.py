"""Boxes, labels and bars are drawn where they belong, and labels off each other."""
import itertools

import cv2
import numpy as np
import pytest

from expressions.drawing import (
    LABEL_COLOURS,
    draw_countdown,
    draw_faces,
    draw_label,
    draw_overlay,
    draw_probability_bars,
    draw_text,
    text_width,
)
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


@pytest.mark.parametrize("size", [13, 40, 240])
def test_a_text_is_as_wide_as_measured_and_digits_are_as_high_as_promised(size):
    image = np.full((2 * size, 8 * size, 3), 90, np.uint8)
    draw_text(image, "happy 97%", (size, size), size)
    ys, xs = np.nonzero(image[..., 0] > 120)
    assert (image >= 90).all() and image.max() > 250 and size <= xs.min() <= 1.1 * size + 1
    assert 0 <= size + text_width("happy 97%", size) - xs.max() - 1 <= 0.1 * size
    assert abs(np.ptp(ys) - 0.95 * size) <= 0.05 * size + 1  # from the top of the h to the foot of the y
    image[:] = 90
    draw_text(image, "97", (size, size), size)
    ys = np.nonzero((image[..., 0] > 120).any(axis=1))[0]
    assert abs(ys[0] - 0.3 * size) <= 0.02 * size + 1 and abs(ys[-1] + 1 - size) <= 0.02 * size + 1
    assert len({text_width(f"{number}%", size) for number in range(10, 100)}) == 1  # they do not jump


def test_letters_that_the_font_lacks_and_places_outside_are_no_fault():
    image = np.zeros((40, 40, 3), np.uint8)
    for corner in ((0, 0), (39, 39), (60, 60), (0, 20)):
        draw_text(image, "é人\n\0\udcff😀", corner, 20)
    assert image.max() > 200


def test_labels_stay_off_each_other():
    occupied = []
    for box in ((200, 200, 100, 100), (210, 200, 100, 100), (220, 200, 100, 100)):
        occupied.append(draw_label(np.zeros((480, 640, 3), np.uint8), "surprise 100%", box, (1, 2, 3), 24, occupied))
    for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations(occupied, 2):
        assert x >= x2 + w2 or x2 >= x + w or y >= y2 + h2 or y2 >= y + h


def test_a_box_has_the_colour_of_its_expression_and_surrounds_the_face():
    image = np.zeros((400, 400, 3), np.uint8)
    draw_faces(image, [make_face((100, 120, 150, 150), PROBABILITIES, 1)])
    assert (image[200, 100] == (0, 117, 198)).all() and (image[200, 249] == (0, 117, 198)).all()  # happy: orange
    assert not image[150:240, 130:220].any()
    draw_faces(image, [make_face((100, 120, 150, 150), PROBABILITIES, 1, expression=0, track_id=12)])
    assert (image[200, 100] == (18, 24, 140)).all()  # angry: red
    draw_faces(image, [make_face((100, 120, 150, 150), PROBABILITIES, 1, min_probability=0.61)])
    assert (image[200, 100] == (162, 150, 138)).all()  # unsure: grey


@pytest.mark.parametrize("matrix", [  # Machado, Oliveira and Fernandes 2009, of severity 1, for linear RGB
    np.eye(3),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
], ids=["usual sight", "protanopia", "deuteranopia", "tritanopia"])
def test_the_colours_are_told_apart_by_everybody_and_white_letters_on_them_are_read(matrix):
    rgb = np.array([*LABEL_COLOURS.values()])[:, ::-1] / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    assert (1.05 / (linear @ (0.2126, 0.7152, 0.0722) + 0.05) >= 3).all()  # WCAG 2.2: contrast of large letters
    seen = np.clip(linear @ np.transpose(matrix), 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(np.float32(seen)[None], cv2.COLOR_RGB2LAB)[0]
    distances = [np.linalg.norm(one - other) for one, other in itertools.combinations(lab, 2)]
    assert min(distances) > 25  # a difference of 2 is just noticed; before, angry and happy were 7 apart


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
