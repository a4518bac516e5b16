"""What counts as lost, one loss at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from fl_sim.scoreboard import Lap, Score, Training, board, total


def record(number: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "round": number,
        "outcome": "closed",
        "accepted": ["site-1"],
        "model_sha256": f"m{number}",
        "attempts": 1,
    }
    return plain | changes


CALM = Lap(
    records=(record(1), record(2)), digest="m2", seconds=10.0, bytes_carried=1_000_000,
    trainings=(Training("site-1", 1, 1.0), Training("site-1", 2, 3.0)),
    accepted={("site-1", 1): 2.0, ("site-1", 2): 4.0},
)  # fmt: skip


def score(**changes: Any) -> Score:
    wild = replace(
        CALM, seconds=15.0, bytes_carried=1_500_000, injected=Counter({"cut": 2, "dup": 1}), copies=5
    )
    return Score(7, 2, CALM, replace(wild, **changes))


def test_all_is_well() -> None:
    assert score().losses() == []
    found = score().as_json()
    assert (found["bytes_sent_again"], found["seconds_lost"]) == (500_000, 5.0)
    assert found["faults_injected"] == {"cut": 2, "dup": 1}
    assert board([score()])[-1] == "nothing was lost"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"digest": "other"}, "final model"),
        ({"digest": ""}, "missing"),
        ({"records": (record(1),)}, "rounds recorded"),
        ({"records": (record(1), record(2), record(2))}, "rounds recorded"),
        ({"records": (record(1, outcome="abandoned"), record(2))}, "round 1 ended as abandoned"),
        ({"records": (record(1, outcome="closed_short"), record(2))}, "round 1 ended as closed_short"),
        ({"records": (record(1, accepted=[]), record(2))}, "round 1 has the updates of []"),
        ({"records": (record(1, model_sha256="x"), record(2))}, "round 1 ends in another model"),
        ({"trainings": (*CALM.trainings, Training("site-1", 1, 2.5))}, "site-1 trained for round 1 again"),
        ({"cancelled": 2}, "2 piece(s) of work"),
        ({"faults": ("process 9 left running: fl-edge",)}, "process 9 left running"),
    ],
)
def test_a_loss_is_named(changes: dict[str, Any], told: str) -> None:
    losses = score(**changes).losses()
    assert any(told in line for line in losses), losses
    assert any(line.startswith("LOST") and told in line for line in board([score(**changes)]))


def test_training_again_before_acceptance_is_no_loss() -> None:
    """A killed edge had finished nothing that anybody knew of."""
    assert score(trainings=(*CALM.trainings, Training("site-1", 2, 3.5))).losses() == []


def test_the_undisturbed_run_must_be_well_too() -> None:
    ill = Score(7, 2, replace(CALM, faults=("site-1 ended with 1",)), CALM)
    assert ill.losses() == ["without any fault: site-1 ended with 1"]
    short = Score(7, 3, CALM, CALM)
    assert "without any fault: 2 of 3 rounds closed" in short.losses()


def test_runs_add_up() -> None:
    sums = total([score(), score(digest="other")])
    assert (sums["runs"], sums["rounds_closed"], sums["seconds_lost"]) == (2, 4, 10.0)
    assert sums["faults_injected"] == {"cut": 4, "dup": 2}
    assert sums["runs_with_the_undisturbed_model"] == 1
    assert len(sums["lost"]) == 1
