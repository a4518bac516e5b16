"""docs/notebook.ipynb, executed from its first cell to its last, on phantoms: real X-rays take minutes to be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
@pytest.mark.slow
def test_every_cell_runs_and_the_curves_are_there(tmp_path: Path) -> None:
    folder, out = tmp_path / "docs", tmp_path / "notebook.ipynb"
    folder.mkdir()
    command = [sys.executable, str(ROOT / "docs/run_notebook.py"), "--folder", str(folder), "--out", str(out)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=230, check=False)
    assert done.returncode == 0, done.stderr
    outputs = [output for cell in json.loads(out.read_text())["cells"] for output in cell.get("outputs", ())]
    shown = json.dumps(outputs)
    assert shown.count("data:image/svg+xml;base64,") == 2
    assert "over_" not in shown and "On the pooled test the federated model is" in shown
    assert (folder / "runs/notebook/fedavg/report.html").is_file()


def test_the_notebook_in_docs_shows_what_it_showed() -> None:
    """Committed with its outputs, so that it can be read without being run."""
    cells = [
        cell
        for cell in json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]
        if cell["cell_type"] == "code"
    ]
    assert all(cell["execution_count"] for cell in cells)
    assert "data:image/svg+xml" in json.dumps(cells)
