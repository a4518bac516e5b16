"""Run docs/notebook.ipynb from its first cell to its last: ``python docs/run_notebook.py`` writes the outputs into it.

``--out FILE`` leaves the notebook as it is and writes elsewhere; ``--folder DIR`` is where it runs (default: docs/).
Exit 1 with the cell and its error if one fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")
PATIENCE_S = 600


def executed(folder: Path) -> Any:
    """The notebook node with its outputs. Raises CellExecutionError if a cell does."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(folder)}}
    with tempfile.TemporaryDirectory() as sockets:
        # In a folder of ours: a kernel on TCP could be talked to by anybody on this machine.
        kernel = AsyncKernelManager(transport="ipc", ip=f"{sockets}/kernel")
        NotebookClient(notebook, km=kernel, timeout=PATIENCE_S, resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the time of day, which would differ every time
    return notebook


def main() -> int:
    """0 if every cell ran."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=NOTEBOOK)
    parser.add_argument("--folder", type=Path, default=NOTEBOOK.parent)
    chosen = parser.parse_args()
    try:
        notebook = executed(chosen.folder)
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    nbformat.write(notebook, chosen.out)  # type: ignore[no-untyped-call]
    return 0


if __name__ == "__main__":
    sys.exit(main())
