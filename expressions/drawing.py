"""What is drawn into images: boxes with labels, probability bars, lines of text, a countdown."""
import cv2
import numpy as np

from expressions.labels import EXPRESSIONS, UNSURE

FONT = cv2.FONT_HERSHEY_SIMPLEX
LABEL_WIDTH = 240  # pixels of a face whose label has OpenCV's letters in their own size
SMALL_FACE = 60  # pixels of the width below which a label has no room
EXPRESSION_COLOURS = dict(zip(EXPRESSIONS, (  # BGR; dark enough for white letters, and told apart by everybody
    (18, 24, 140), (107, 170, 5), (202, 12, 143), (0, 117, 198), (97, 3, 3), (143, 95, 0), (87, 83, 88))))
LABEL_COLOURS = {**EXPRESSION_COLOURS, UNSURE: (162, 150, 138)}


def draw_text(image, text, baseline, scale, thickness, colour=(255, 255, 255)):
    """Draw one line of text; `baseline` is the (x, y) of its lower left corner in pixels."""
    cv2.putText(image, text, baseline, FONT, scale, colour, thickness, cv2.LINE_AA)


def draw_faces(image, faces):
    """Draw a box and a label for each Face into an image uint8 BGR (h, w, 3): "happy 97%", or "2 happy 97%".

    Letters are as large as the face allows; small faces have the first two letters of the expression, "ha".
    """
    for face in faces:
        thickness = max(2, round(face.box[2] / 70))
        cv2.rectangle(image, face.box, (255, 255, 255), 2 * thickness)  # stands out from whatever is behind it
        cv2.rectangle(image, face.box, LABEL_COLOURS[face.expression], thickness)
    occupied = [face.box for face in faces]
    for face in faces:
        text = f"{face.expression} {face.probability:.0%}" if face.expression != UNSURE else UNSURE
        text = face.expression[:2] if face.box[2] < SMALL_FACE else text
        if face.track_id is not None:
            text = f"{face.track_id} {text}"
        scale = float(np.clip(face.box[2] / LABEL_WIDTH, 0.4, 8))
        occupied.append(draw_label(image, text, face.box, LABEL_COLOURS[face.expression], scale, occupied))


def draw_label(image, text, box, colour, scale, occupied):
    """Draw white letters on a coloured ground above a box, or below it where that is not free, or else inside it.

    `occupied` are the rectangles (x, y, width, height) of faces and earlier labels; returns the label's own.
    """
    (image_height, image_width), (x, y, _, box_height) = image.shape[:2], box
    thickness = max(1, round(1.6 * scale))
    pad = thickness + 1
    (width, height), below = cv2.getTextSize(text, FONT, scale, thickness)
    if width + 2 * pad > image_width:
        scale *= image_width / (width + 2 * pad + 1)
        (width, height), below = cv2.getTextSize(text, FONT, scale, thickness)
    width, height = width + 2 * pad, height + below + 2 * pad
    left, bottom = max(0, min(x, image_width - width)), max(0, image_height - height)

    def is_free(top):
        return 0 <= top <= bottom and all(
            left >= x + w or left + width <= x or top >= y + h or top + height <= y for x, y, w, h in occupied)

    inside = max(0, min(y, bottom))  # over the forehead, not the mouth
    top = next(filter(is_free, (y - height, y + box_height)), inside)
    cv2.rectangle(image, (left, top, width, height), colour, cv2.FILLED)
    draw_text(image, text, (left + pad, top + height - pad - below), scale, thickness)
    return left, top, width, height


def draw_probability_bars(frame, face):
    """Draw the probabilities of a Face as bars into the lower left corner of a frame uint8 BGR (h, w, 3)."""
    height, width = frame.shape[:2]
    row_height = min(height / 26, width / 24)
    top = height - round(7.5 * row_height)
    darken(frame, 0, top, round(12.5 * row_height), height)
    draw_bars(frame, face.probabilities, round(row_height / 2), top, row_height)


def draw_bars(image, probabilities, left, top, row_height):
    """Draw {expression: probability} as named bars; `row_height` is in pixels, all is twelve of them wide."""
    scale, thickness = row_height / 32, max(1, round(row_height / 20))
    start = left + round(4.6 * row_height)
    for row, (expression, colour) in enumerate(EXPRESSION_COLOURS.items()):
        baseline, probability = top + round((row + 0.85) * row_height), probabilities[expression]
        end = start + round(probability * 5.4 * row_height)
        cv2.rectangle(image, (start, baseline - round(0.5 * row_height)), (end, baseline), [60 + v for v in colour], -1)
        draw_text(image, expression, (left, baseline), scale, thickness)
        draw_text(image, f"{probability:.0%}", (end + round(0.2 * row_height), baseline), scale, thickness)


def draw_overlay(frame, lines):
    """Draw lines of text into the upper left corner of a frame uint8 BGR (h, w, 3)."""
    scale = 0.8 * float(np.clip(min(frame.shape[:2]) / 720, 0.45, 3))  # legible at any size
    thickness = max(1, round(1.6 * scale))
    widths, heights = zip(*(cv2.getTextSize(line, FONT, scale, thickness)[0] for line in lines))
    step = round(1.7 * max(heights))
    darken(frame, 0, 0, max(widths) + step, step * len(lines) + step // 2)
    for row, line in enumerate(lines, start=1):
        draw_text(frame, line, (step // 2, row * step), scale, thickness)


def draw_countdown(frame, number):
    """Draw a large number at the top of a frame uint8 BGR (h, w, 3)."""
    height, width = frame.shape[:2]
    scale = height / 120
    (wide, high), _ = cv2.getTextSize(str(number), FONT, scale, 1)
    baseline = ((width - wide) // 2, height // 20 + high)
    draw_text(frame, str(number), baseline, scale, max(1, round(6 * scale)), (0, 0, 0))  # an outline
    draw_text(frame, str(number), baseline, scale, max(1, round(2.5 * scale)))


def darken(frame, left, top, right, bottom):
    """Darken a rectangle of a frame in place, so that letters stand out from whatever is behind them."""
    region = frame[top:bottom, left:right]
    region[:] = region // 5
