"""docs/quickstart.ipynb runs from top to bottom in a kernel of its own, and holds no output."""

import base64
import io
import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import pipeline
from tests.helpers.repository import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "quickstart.ipynb"


def _cells() -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]


def test_the_notebook_is_kept_without_output() -> None:
    assert _cells()
    assert not any(cell.outputs or cell.execution_count for cell in _cells())


def test_it_calls_every_function_of_the_interface() -> None:
    code = "\n".join(cell.source for cell in _cells())
    assert [name for name in pipeline.__all__ if f"pipeline.{name}(" not in code] == []


@pytest.mark.slow
def test_it_goes_from_scenes_to_a_scored_frame_with_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("OMP_NUM_THREADS", str(os.cpu_count()))
    notebook = nbformat.read(NOTEBOOK, 4)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=300,
        kernel_name="python3",
        resources=place,
    ).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = ["".join(one.get("text", "") for one in cell.outputs) for cell in cells]
    assert any("constant predictor" in text for text in texts)
    assert any(text.startswith("frame score ") for text in texts)
    picture = Image.open(io.BytesIO(base64.b64decode(cells[-1].outputs[0].data["image/png"])))
    assert np.ptp(np.asarray(picture.convert("L"))) > 100
