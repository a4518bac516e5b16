"""Every fault a hospital's network and power can produce, on real processes, a real mosquitto and a bad line between.

Shortened: HILUM_LONG=1 (``make chaos``) brings the long variants of the same tests. docs/reliability.md says which test
holds which promise.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import broker, broker_address, programs

__all__ = ["broker", "broker_address", "programs"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here starts real processes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
