"""What becomes of an update's file when it has come: a spool's, or refused by the aggregator's own measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aggregator.folding import unfit
from fl_protocol.modelfile import write
from fl_protocol.tensors import LEAF_BYTES, TensorSpec
from fl_sim.simulation import received

VALUES = LEAF_BYTES // 4 + 10
"""A leaf and a bit of the next."""


def update(folder: Path, changes: dict[int, float]) -> tuple[Path, bytes]:
    """A file as training leaves it, and its payload."""
    values = np.linspace(-1, 1, VALUES, dtype="<f4")
    for index, value in changes.items():
        values[index] = value
    path = folder / "update.f32"
    write(path, (TensorSpec("a", (VALUES,)),), {}, [values.tobytes()])
    return path, values.tobytes()


def test_what_is_fit_lies_there_without_its_header(tmp_path: Path) -> None:
    path, payload = update(tmp_path, {})
    assert received(path) is None
    assert path.read_bytes() == payload
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("at", [0, VALUES - 1], ids=["first leaf", "last leaf"])
@pytest.mark.parametrize("value", [1e30, np.inf, np.nan])
def test_what_is_not_is_refused_with_the_aggregators_word(tmp_path: Path, at: int, value: float) -> None:
    path, payload = update(tmp_path, {at: value})
    reason = received(path)
    assert reason is not None
    assert reason == unfit(payload[4 * at : 4 * at + 4])
    assert [*tmp_path.iterdir()] == [path], "no draft is left"
