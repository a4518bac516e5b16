"""``--tensorboard``: the curves of real runs, also of one that is gone on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import ECHO_JOB, Programs, rounds
from tests.unit.aggregator.test_tensorboard import curves


def told(run: Path, heading: str, key: str) -> dict[int, Any]:
    """What rounds.jsonl says, as curves do."""
    found: dict[int, Any] = {record["round"]: record[heading][key] for record in rounds(run)}
    return {number: pytest.approx(value, abs=1e-6) for number, value in found.items()}


def test_a_run_that_is_gone_on_with_has_every_round_once(programs: Programs) -> None:
    folder = programs.folder / "curves"
    for count, name in ((2, "first"), (3, "second")):
        agg = programs.agg("--rounds", count, "--min-clients", 1, "--tensorboard", folder, name=name)
        programs.edge("one", name=f"one-{name}")
        assert agg.wait() == 0, agg.told()
    found = curves(folder)
    assert found["clients/loss"] == told(programs.run_dir, "client_metrics", "loss")
    assert found["phases/train"] == told(programs.run_dir, "phases", "train")
    assert sorted(found["bytes/up"]) == [1, 2, 3]


def test_a_simulation_has_curves_too(programs: Programs) -> None:
    folder = programs.folder / "curves"
    world = ("--clients", 4, "--workers", 1, "--tensorboard", folder)
    for count in (2, 3):
        sim = programs.start(
            "fl-sim", "run", *ECHO_JOB, "--out", programs.folder / "sim", "--rounds", count, *world
        )
        assert sim.wait() == 0, sim.told()
    found = curves(folder)
    assert found["clients/loss"] == told(programs.folder / "sim", "client_metrics", "loss")
    assert not [tag for tag in found if tag.startswith("phases/")], "virtual time has no phases"
