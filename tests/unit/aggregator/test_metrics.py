"""Counters agree with rounds.jsonl, and no peer can make a label."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.metrics import MAX_REASONS, OTHER, Histogram, Tally, edges_by_state
from fl_protocol.messages import CLIENT_STATES


def record(**changes: Any) -> dict[str, Any]:
    plain = {"round": 1, "outcome": "closed", "accepted": ["a", "b"], "rejected": [], "stragglers": [],
             "duration_s": 2.0, "bytes_up": 10, "bytes_down": 20, "metrics": None}  # fmt: skip
    return plain | changes


def refusal(reason: str, count: int = 1) -> dict[str, Any]:
    return {"client_id": "x", "reason": reason, "count": count}


def test_rounds_add_up() -> None:
    tally = Tally()
    tally.add(record(metrics={"auroc": 0.8}))
    tally.add(
        record(
            outcome="closed_short",
            accepted=["a"],
            stragglers=["b"],
            rejected=[refusal("not_finite", 3), refusal("late")],
        )
    )
    tally.add(record(outcome="abandoned", accepted=[], rejected=[refusal("late")]))
    assert dict(tally.rounds) == {"closed": 1, "closed_short": 1, "abandoned": 1}
    assert dict(tally.refused) == {"not_finite": 3, "late": 2}
    assert (tally.accepted, tally.stragglers, tally.bytes_up, tally.bytes_down) == (3, 1, 30, 60)
    assert tally.metrics == {"auroc": 0.8}
    assert tally.durations.buckets()[-1] == ("+Inf", 3.0) and tally.durations.total == 6.0


def test_what_a_client_says_when_it_declines_is_no_label() -> None:
    tally = Tally()
    tally.add(record(rejected=[refusal('declined: "}\n evil{'), refusal("declined: no_data", 2)]))
    assert dict(tally.refused) == {"declined": 3}


@given(st.lists(st.text(max_size=60) | st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True), max_size=300))
def test_reasons_are_few_and_none_is_lost(reasons: list[str]) -> None:
    tally = Tally()
    tally.add(record(rejected=[refusal(reason) for reason in reasons]))
    assert sum(tally.refused.values()) == len(reasons)
    assert len(set(tally.refused) - {OTHER, "declined"}) <= MAX_REASONS
    assert all(label.replace("_", "").isalnum() and label.isascii() for label in tally.refused)


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0.05, "0.1"), (0.1, "0.1"), (0.11, "0.3"), (3600.0, "3600.0"), (9e9, "+Inf")]
)
def test_a_duration_counts_in_the_first_bucket_that_holds_it(seconds: float, bound: str) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    buckets = dict(histogram.buckets())
    names = list(buckets)
    assert [buckets[name] for name in names] == [
        float(names.index(name) >= names.index(bound)) for name in names
    ]


def test_states_without_an_edge_are_there_too() -> None:
    assert edges_by_state({"ready": 2}) == dict.fromkeys(CLIENT_STATES, 0) | {"ready": 2}
