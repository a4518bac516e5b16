"""``fl-sim chaos``: every kind of fault in less than a minute, and a Ctrl-C in the middle of it."""

from __future__ import annotations

import json

import pytest

from fl_sim.faults import KINDS, schedule
from tests.e2e.processes import Programs

ROUNDS, SEED, KILOBYTES = 7, 1, 300


def test_the_seed_has_every_kind() -> None:
    assert {fault.kind for fault in schedule(KINDS, ROUNDS, 3, SEED, 1.0)} == set(KINDS)


@pytest.mark.slow
@pytest.mark.timeout(260)
def test_every_fault_and_nothing_lost(programs: Programs) -> None:
    chaos = programs.start(
        "fl-sim", "chaos", "--rounds", ROUNDS, "--seed", SEED, "--kilobytes", KILOBYTES, "--json",
        "--faults", ",".join(KINDS), "--out", programs.folder / "out", name="chaos",
    )  # fmt: skip
    assert chaos.wait(200) == 0, chaos.told()
    found = json.loads(chaos.out)["total"]
    assert found["lost"] == []
    assert set(found["faults_injected"]) == set(KINDS), chaos.told()
    assert found["rounds_closed"] == ROUNDS
    assert found["updates_accepted"] <= 3 * ROUNDS <= found["trainings"]
    assert found["runs_with_the_undisturbed_model"] == 1
    assert found["frames_delivered_again"] > 0


def test_ctrl_c_leaves_nothing_running(programs: Programs) -> None:
    chaos = programs.start(
        "fl-sim", "chaos", "--rounds", 3, "--seed", SEED, "--kilobytes", 10, "--faults", "kill-edge,cut,dup",
        "--out", programs.folder / "out", name="chaos",
    )  # fmt: skip
    chaos.says(r"(?m)^  round \d+ ", 60.0)
    chaos.interrupt()
    assert chaos.wait() == 130, chaos.told()
