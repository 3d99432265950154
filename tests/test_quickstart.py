import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")


def test_it_is_kept_without_outputs():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), cell.id


@pytest.mark.slow
def test_it_runs_from_phantom_to_picture(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")  # it really trains, so optimising its programs pays
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    outputs = {cell.id: cell.get("outputs", []) for cell in notebook.cells}
    for name in ("scan", "outlines"):
        assert any("image/png" in output.get("data", {}) for output in outputs[name]), name
    [score] = outputs["score"]
    dice, recall = map(float, re.fullmatch(r"Dice (\S+), recall (\S+)\n", score.text).groups())
    assert dice > 0.5
    assert 0.3 < recall <= 1
    complaints = [output for its in outputs.values() for output in its if output.get("name") == "stderr"]
    assert not complaints
