"""Means of what clients report."""

from __future__ import annotations

import random

from aggregator.strategy import MAX_METRICS, weighted_metrics
from fl_protocol.messages import LastRound
from fl_protocol.schema import build


def test_metrics_are_weighted_over_those_who_report_them() -> None:
    found = weighted_metrics([(10, {"loss": 1.0}), (30, {"loss": 2.0, "auroc": 0.5})])
    assert found == {"auroc": 0.5, "loss": 1.75}
    assert list(found) == ["auroc", "loss"]
    assert weighted_metrics([]) == {}
    assert weighted_metrics([(0, {"loss": 1.0})]) == {}


def test_metrics_that_overflow_are_left_out() -> None:
    """1e308 is a finite number and passes the wire; ten billion times it is not, and JSON has no name for that."""
    assert weighted_metrics([(10**10, {"bad": 1e308, "good": 1.0}), (1, {"good": 1.0})]) == {"good": 1.0}
    assert weighted_metrics([(1, {"bad": 1e308}), (1, {"bad": 1e308})]) == {}


def test_metrics_stay_within_what_an_announcement_may_carry() -> None:
    clients = [(1, {f"{k}-{n}": 0.0 for n in range(64)} | {"loss": 1.0}) for k in range(5)]
    random.Random(0).shuffle(clients)
    found = weighted_metrics(clients)
    assert len(found) == MAX_METRICS
    assert found["loss"] == 1.0, "what most report is kept"
    told = {
        "round_number": 1,
        "outcome": "closed",
        "accepted": 5,
        "rejected": 0,
        "stragglers": 0,
        "duration_s": 1.0,
    }
    assert build(LastRound, told | {"metrics": None, "client_metrics": found}).client_metrics == found
