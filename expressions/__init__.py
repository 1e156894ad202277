"""Facial expressions in Python: recognise the faces of images and videos in a few lines.

>>> import expressions
>>> for face in expressions.recognise("party.jpg"):
...     print(face.box, face.expression, face.probability)
"""
import os

MAX_PIXELS = 120_000_000  # of an image; OpenCV refuses larger ones by their header
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # OpenCV reads this when it is imported

_ROOMS = {"EXPRESSIONS": "labels", "Face": "recognition", "Recogniser": "recognition", "recognise": "recognition",
          "recognise_video": "tracking"}
__all__ = list(_ROOMS)


def __getattr__(name):
    """Import a name's room when it is first used: whoever needs only the labels does not wait for OpenCV."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
