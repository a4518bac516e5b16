"""What a round wants of one client."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_client.rounds import assignment_of, counts, is_current, is_worth_beginning, training_seed
from fl_protocol.messages import AGGREGATING, FINISHED, STOPPED, WAITING, RoundState
from tests.unit.edge_client.sessions import ME, MODEL, MODEL2, PLAN, round_state

KEY = (1, MODEL.digest)


def test_an_assignment_is_what_the_open_round_says() -> None:
    found = assignment_of(round_state(attempt=2), ME)
    assert found is not None
    assert (found.key, found.attempt, found.task, found.model, found.image_size) == (
        KEY, 2, "chest-xray", "hilum-cnn", 32
    )  # fmt: skip
    assert found.plan == replace(PLAN, seed=training_seed(PLAN.seed, 1, ME))
    assert 0 <= found.plan.seed < 2**63


@pytest.mark.parametrize(
    "state",
    [
        None,
        round_state(phase=WAITING),
        round_state(cohort=("site-b",)),
        round_state(base=None),
        round_state(plan=None),
    ],
)
def test_no_assignment(state: RoundState | None) -> None:
    assert assignment_of(state, ME) is None


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (round_state(phase=STOPPED), True),
        (round_state(phase=STOPPED, cohort=("site-b",)), False),
        (round_state(2, phase=STOPPED), False),
        (round_state(phase=STOPPED, base=MODEL2.digest), False),
    ],
)
def test_a_stopped_aggregator_may_go_on_with_the_round_it_was_in(state: RoundState, wanted: bool) -> None:
    assert is_current(state, ME, KEY) is wanted


BEHIND = round_state(3, base=MODEL2.digest, max_staleness=2)


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (BEHIND, True),
        (replace(BEHIND, cohort=("site-b",)), True),
        (replace(BEHIND, max_staleness=1), False),
        (replace(BEHIND, phase=AGGREGATING), False),
        (replace(BEHIND, round_number=2, phase=AGGREGATING), True),
        (replace(BEHIND, round_number=2, phase=WAITING), True),
        (replace(BEHIND, round_number=3, phase=WAITING), False),
        (replace(BEHIND, round_number=2, rounds=2, phase=AGGREGATING), False),
        (replace(BEHIND, phase=FINISHED), False),
        (replace(BEHIND, round_number=1), False),
        (replace(BEHIND, round_number=0, phase=WAITING), False),
    ],
)
def test_what_counts_behind(state: RoundState, wanted: bool) -> None:
    """Of round 1, in round 3 or before it."""
    assert counts(state, ME, KEY) is wanted
    assert not is_current(state, ME, KEY)


def test_a_model_is_fetched_while_the_broker_has_it() -> None:
    assert is_worth_beginning(replace(BEHIND, round_number=2), ME, KEY)
    assert not is_worth_beginning(BEHIND, ME, KEY)
    assert is_worth_beginning(round_state(), ME, KEY)


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (None, False),
        (round_state(), True),
        (round_state(attempt=9), True),
        (round_state(cohort=("site-b",)), False),
        (round_state(2), False),
        (round_state(base=MODEL2.digest), False),
        (round_state(0, WAITING, cohort=()), True),
        (round_state(1, WAITING, cohort=()), False),
        (round_state(1, AGGREGATING), False),
        (round_state(1, FINISHED), False),
    ],
)
def test_what_still_counts(state: RoundState | None, wanted: bool) -> None:
    assert counts(state, ME, KEY) is wanted
