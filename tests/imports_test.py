"""Imports run one way, and recognition starts without what only training needs."""
import ast
import subprocess
import sys

import pytest
from conftest import ROOT

LEVELS = (  # a room imports only rooms of the lines above it
    {"labels", "console"},
    {"artifacts"},
    {"fer2013", "sample", "network", "images", "workers", "drawing", "evaluation"},
    {"model_files", "detection", "yunet", "tables", "explanation"},
    {"recognition", "training", "video", "figures", "own_faces", "report"},
    {"tracking", "camera"},
)
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
HEAVY = {"tensorflow", "keras", "pandas", "sklearn", "matplotlib", "pyarrow", "fsspec", "distributed", "PIL", "onnx"}


def imported(path):
    """The rooms and scripts that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "expressions":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.removeprefix("expressions."))
        elif isinstance(node, ast.Import):
            names |= {alias.name.removeprefix("expressions.") for alias in node.names}
    return names & (set().union(*LEVELS) | SCRIPTS)


def test_every_room_has_its_level():
    assert {path.stem for path in ROOT.glob("expressions/*.py")} - {"__init__"} == set().union(*LEVELS)


@pytest.mark.parametrize("room", sorted(set().union(*LEVELS)))
def test_a_room_imports_only_rooms_below_it(room):
    level = next(number for number, rooms in enumerate(LEVELS) if room in rooms)
    assert imported(ROOT / "expressions" / f"{room}.py") <= set().union(*LEVELS[:level])


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_no_script_imports_another(script):
    assert not imported(ROOT / f"{script}.py") & SCRIPTS


def test_the_top_level_is_the_users_list():
    assert {"preprocessing", "train_model", "test_model", "confmatrix", "recognise_image",
                       "recognise_video", "webcam_live", "image_from_camera"} == SCRIPTS


@pytest.mark.parametrize("module", ["recognise_image", "recognise_video", "webcam_live", "image_from_camera",
                                    "expressions.recognition"])
def test_recognition_starts_without_what_only_training_needs(module):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(loaded.split())


def test_the_package_alone_loads_nothing():
    code = "import sys, expressions; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "cv2"} & set(loaded.split())
