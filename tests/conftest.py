"""What every test rests on."""

from __future__ import annotations

import os
import signal
import sys

import pytest

# Started in the background, this process ignores Ctrl-C, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of short processes: what the first one compiles the others need not, whatever the person's shell says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

DEAR = {"copies": "module", "endings": "module", "undisturbed": "module", "xray_run": "session"}
"""Fixtures that take seconds to make, and what they are made once for."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (pytest -n), the tests that share a dear fixture stay in one process, which makes it once."""
    for item in items:
        for name in sorted(DEAR.keys() & set(getattr(item, "fixturenames", ()))):
            place = f"{item.path.stem}-" if DEAR[name] == "module" else ""
            item.add_marker(pytest.mark.xdist_group(f"{place}{name}"))
