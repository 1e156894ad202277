"""The notebook runs as it stands, and its outputs are those that are kept in it."""
import re

import nbformat
import numpy as np
import pytest
from conftest import ROOT, YUNET
from nbclient import NotebookClient

NUMBER = r"\d+\.?\d*"


def outputs(notebook):
    """The text outputs of a notebook, and how many pictures there are."""
    data = [output["data"] for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [item for item in data if {"image/png", "image/jpeg"} & set(item)]
    return [item["text/plain"] for item in data if item not in pictures], len(pictures)


@pytest.mark.exhaustive
def test_the_notebook_gives_the_outputs_that_are_kept_in_it():
    if (ROOT / "models" / YUNET).exists():
        pytest.skip("YuNet's file is in models/, and the outputs that are kept are the cascades'")
    path = ROOT / "examples" / "first_steps.ipynb"
    kept, run = nbformat.read(path, 4), nbformat.read(path, 4)
    for cell in run.cells:
        cell.pop("outputs", None)
    NotebookClient(run, resources={"metadata": {"path": path.parent}}).execute()
    (found, n_pictures), (expected, n_kept) = outputs(run), outputs(kept)
    assert n_pictures == n_kept == 4
    assert [re.sub(NUMBER, "", text) for text in found] == [re.sub(NUMBER, "", text) for text in expected]
    for text, other in zip(found, expected):
        np.testing.assert_allclose(*(np.float64(re.findall(NUMBER, item)) for item in (text, other)), atol=0.02)
