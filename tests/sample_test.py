"""Drawn faces are the same each time, and their expressions differ."""
import csv

import numpy as np

from expressions import fer2013
from expressions.labels import EXPRESSIONS
from expressions.sample import draw_schematic_face, write_sample


def test_faces_are_drawn_the_same_each_time_and_expressions_differ():
    faces = {name: draw_schematic_face(name, np.random.default_rng(3)).astype(int) for name in EXPRESSIONS}
    for name, face in faces.items():
        assert face.shape == (48, 48) and face.std() > 20
        assert np.array_equal(face, draw_schematic_face(name, np.random.default_rng(3)))
        assert all(np.abs(face - other).max() > 60 for key, other in faces.items() if key != name)


def test_the_sample_has_fer2013s_layout(tmp_path):
    write_sample(tmp_path / "sample.csv", count=10)
    with open(tmp_path / "sample.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 70 and list(rows[0]) == ["emotion", "pixels", "Usage"]
    assert [row["Usage"] for row in rows[::7]] == ["Training"] * 8 + ["PublicTest", "PrivateTest"]
    assert fer2013.read_csv(tmp_path / "sample.csv")[1].tolist() == list(range(7)) * 10
