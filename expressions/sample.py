"""Schematic faces, drawn by the action units of each expression: a small data set that needs no download."""
import cv2
import numpy as np

from expressions.artifacts import replace_when_whole
from expressions.labels import EXPRESSIONS, FACE_SIZE, PRIVATE_TEST, PUBLIC_TEST, SPLITS, TRAINING

# What moves in each expression by the Facial Action Coding System (Ekman, Friesen and Hager 2002):
# inner brow, outer brow (up +), eyelids (open +), mouth corners (up +), mouth open, lips stretched, nose wrinkled.
ACTION_UNITS = {
    "angry": (-0.9, 0.3, 0.2, -0.3, 0.0, -0.3, 0.3),    # AU 4 brow lowerer, 5 + 7 lids, 23 lips tight
    "disgust": (-0.5, -0.3, -0.7, -0.6, 0.2, 0.0, 1.0),  # AU 9 nose wrinkler, 15 lip corners down
    "fear": (0.8, 0.2, 0.7, -0.2, 0.4, 0.8, 0.0),       # AU 1 + 2 + 4 brows, 5 lids, 20 lips stretched
    "happy": (0.1, 0.1, -0.3, 1.0, 0.4, 0.5, 0.0),      # AU 6 cheeks, 12 lip corners pulled up
    "sad": (0.9, -0.6, -0.4, -0.9, 0.0, -0.1, 0.0),     # AU 1 + 4 inner brow, 15 lip corners down
    "surprise": (0.9, 1.0, 1.0, 0.0, 1.0, -0.6, 0.0),   # AU 1 + 2 brows, 5 lids, 26 jaw drops
    "neutral": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}


def draw_schematic_face(expression, random):
    """Return a schematic face, uint8 (48, 48), a little different each time; `random` is a numpy.random.Generator."""
    zoom = 4  # drawn large and made smaller, for soft edges
    inner, outer, lids, corners, jaw, stretch, nose = np.array(ACTION_UNITS[expression]) + random.normal(0, 0.13, 7)
    skin = random.uniform(130, 215)
    dark, background = skin * random.uniform(0.2, 0.45), random.uniform(20, 240)
    canvas = np.full((FACE_SIZE * zoom,) * 2, background, np.uint8)

    def points(*pairs):  # fractions of the picture to OpenCV's fixed point
        return np.round(np.array(pairs) * FACE_SIZE * zoom).astype(np.int32)

    def line(*pairs, width=0.018):
        cv2.polylines(canvas, [points(*pairs)], False, dark, max(1, round(width * FACE_SIZE * zoom)), cv2.LINE_AA)

    def ellipse(centre, axes, colour):
        cv2.ellipse(canvas, points(centre)[0].tolist(), points(axes)[0].clip(1).tolist(), 0, 0, 360, colour, -1,
                    cv2.LINE_AA)

    ellipse((0.5, 0.52), (random.uniform(0.36, 0.42), 0.5), skin)
    for side in (-1, 1):
        eye = 0.5 + side * 0.19
        opened = 0.045 * (1 + 0.75 * lids)
        ellipse((eye, 0.40), (0.085, opened), 245)
        ellipse((eye, 0.40), (min(0.04, opened), min(0.04, opened)), dark * 0.5)
        line((0.5 + side * 0.08, 0.29 - 0.06 * inner), (eye, 0.265 - 0.04 * (inner + outer) / 2),
             (0.5 + side * 0.30, 0.29 - 0.06 * outer), width=0.03)
        line((0.5 + side * 0.05, 0.56), (0.5 + side * (0.07 + 0.03 * nose), 0.60 - 0.03 * nose))
        if nose > 0.2:  # wrinkles beside its root
            line((0.5 + side * 0.03, 0.40), (0.5 + side * 0.07, 0.47), width=0.015)
    across = np.linspace(-1, 1, 15)
    half_width = 0.16 * (1 + 0.4 * stretch)
    bend = 0.08 * corners * (across ** 2 - 0.5)
    gap = 0.13 * max(jaw, 0) * np.sqrt(1 - across ** 2)
    upper = np.stack([0.5 + half_width * across, 0.76 - bend - 0.4 * gap], axis=1)
    lower = np.stack([0.5 + half_width * across, 0.76 - bend + gap], axis=1)
    cv2.fillPoly(canvas, [points(*upper, *lower[::-1])], dark * 0.6, cv2.LINE_AA)
    line(*upper)
    line(*lower)

    face = cv2.resize(canvas, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_AREA)
    return np.clip(face + random.normal(0, 5, face.shape), 0, 255).astype(np.uint8)


def write_sample(path, count=120, seed=0):  # with so many the scripts take a minute and recognise nearly all
    """Write a CSV like fer2013.csv of `count` faces an expression: 80 % Training, 10 % PublicTest, 10 % PrivateTest."""
    random = np.random.default_rng(seed)
    with replace_when_whole(path) as [temporary], open(temporary, "w", encoding="ascii", newline="\n") as file:
        file.write("emotion,pixels,Usage\n")
        for number in range(count):
            split = SPLITS[{8: PUBLIC_TEST, 9: PRIVATE_TEST}.get(number % 10, TRAINING)]
            for label, expression in enumerate(EXPRESSIONS):
                pixels = " ".join(map(str, draw_schematic_face(expression, random).ravel()))
                file.write(f"{label},{pixels},{split}\n")
