"""What is drawn into images: boxes with labels, probability bars, lines of text, a countdown."""
import functools

import cv2
import numpy as np

from expressions.labels import EXPRESSIONS, UNSURE

SMALL_FACE = 60  # pixels of the width below which a label has no room
EXPRESSION_COLOURS = dict(zip(EXPRESSIONS, (  # BGR; dark enough for white letters, and told apart by everybody
    (18, 24, 140), (107, 170, 5), (202, 12, 143), (0, 117, 198), (97, 3, 3), (143, 95, 0), (87, 83, 88))))
LABEL_COLOURS = {**EXPRESSION_COLOURS, UNSURE: (162, 150, 138)}


@functools.lru_cache(maxsize=1024)
def draw_letter(letter, size, outline):
    """Return a letter as uint8 (h, w, 3): its white, what it covers with its outline, its white; see draw_text."""
    from PIL import Image, ImageDraw, ImageFont  # takes 15 ms: not before something is drawn

    font = ImageFont.load_default(size)
    cell = Image.new("RGB", (round(font.getlength(letter)) + 2 * outline, round(1.1 * size) + 2 * outline))
    ImageDraw.Draw(cell).text((outline, round(0.8 * size) + outline), letter, (255, 255, 255), font, "ls",
                              stroke_width=outline, stroke_fill=(0, 255, 0))
    return np.asarray(cell)


def text_width(text, size, outline=0):
    """Return how wide draw_text draws a line of text, in pixels."""
    return sum(draw_letter(letter, size, outline).shape[1] for letter in text)


def draw_text(image, text, baseline, size, outline=0):
    """Draw a line of white text into an image uint8 BGR (h, w, 3); `baseline` is the (x, y) where it begins.

    Digits are 0.7 times the `size` high; `outline` is the width of a black line around the letters; all in pixels.
    """
    left, top = baseline[0], baseline[1] - round(0.8 * size) - outline
    letters = np.hstack([draw_letter(letter, size, outline) for letter in text])[max(0, -top):]
    region = image[max(0, top):, left:][:letters.shape[0], :letters.shape[1]]
    if region.size:  # there is room in the image
        white, cover, _ = cv2.split(letters[:region.shape[0], :region.shape[1]])
        region[:] = cv2.add(cv2.multiply(region, cv2.merge([255 - cover] * 3), scale=1 / 255), cv2.merge([white] * 3))


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
        size = round(np.clip(face.box[2] / 7, 13, 240))  # "surprise 100%" is as wide as the face
        occupied.append(draw_label(image, text, face.box, LABEL_COLOURS[face.expression], size, occupied))


def draw_label(image, text, box, colour, size, occupied):
    """Draw white letters on a coloured ground above a box, or below it where that is not free, or else inside it.

    `occupied` are the rectangles (x, y, width, height) of faces and earlier labels; returns the label's own.
    """
    (image_height, image_width), (x, y, _, box_height) = image.shape[:2], box
    width = text_width(text, size) + size // 2
    if width > image_width:
        size = max(1, size * image_width // width)
        width = text_width(text, size) + size // 2
    height = round(1.3 * size)
    left, bottom = max(0, min(x, image_width - width)), max(0, image_height - height)

    def is_free(top):
        return 0 <= top <= bottom and all(
            left >= x + w or left + width <= x or top >= y + h or top + height <= y for x, y, w, h in occupied)

    inside = max(0, min(y, bottom))  # over the forehead, not the mouth
    top = next(filter(is_free, (y - height, y + box_height)), inside)
    cv2.rectangle(image, (left, top, width, height), colour, cv2.FILLED)
    draw_text(image, text, (left + size // 4, top + size), size)
    return left, top, width, height


def draw_probability_bars(frame, face):
    """Draw the number and the probabilities of a Face into a lower corner of a frame uint8 BGR (h, w, 3), beside it."""
    height, width = frame.shape[:2]
    row_height = min(height / 26, width / 25)
    top, wide = height - round(8.5 * row_height), round(12.5 * row_height)
    left = 0 if 2 * face.box[0] + face.box[2] > width else width - wide
    darken(frame, left, top, left + wide, height)
    left, size = left + round(row_height / 2), max(1, round(0.85 * row_height))
    draw_text(frame, f"face {face.track_id}", (left, top + round(0.95 * row_height)), size)
    draw_bars(frame, face.probabilities, left, top + round(row_height), row_height)


def draw_bars(image, probabilities, left, top, row_height):
    """Draw {expression: probability} as named bars; `row_height` is in pixels, all is twelve of them wide."""
    size = max(1, round(0.85 * row_height))
    start = left + round(4.6 * row_height)
    for row, (expression, colour) in enumerate(EXPRESSION_COLOURS.items()):
        baseline, probability = top + round((row + 0.85) * row_height), probabilities[expression]
        end = start + round(probability * 5.4 * row_height)
        cv2.rectangle(image, (start, baseline - round(0.5 * row_height)), (end, baseline), [60 + v for v in colour], -1)
        draw_text(image, expression, (left, baseline), size)
        draw_text(image, f"{probability:.0%}", (end + round(0.2 * row_height), baseline), size)


def draw_overlay(frame, lines):
    """Draw lines of text into the upper left corner of a frame uint8 BGR (h, w, 3)."""
    size = round(24 * np.clip(min(frame.shape[:2]) / 720, 0.5, 3))  # legible at any size
    step = round(1.3 * size)
    darken(frame, 0, 0, max(text_width(line, size) for line in lines) + step, step * len(lines) + step // 2)
    for row, line in enumerate(lines, start=1):
        draw_text(frame, line, (step // 2, row * step), size)


def draw_countdown(frame, number):
    """Draw a large number at the top of a frame uint8 BGR (h, w, 3)."""
    height, width = frame.shape[:2]
    size, outline = max(1, height // 4), height // 70
    left = max(0, width - text_width(str(number), size, outline)) // 2
    draw_text(frame, str(number), (left, round(0.05 * height + 0.7 * size)), size, outline)


def darken(frame, left, top, right, bottom):
    """Darken a rectangle of a frame in place, so that letters stand out from whatever is behind them."""
    region = frame[top:bottom, left:right]
    region[:] = region // 5
