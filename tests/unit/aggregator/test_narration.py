"""What a person is shown of effects: the same of real and of virtual clients."""

from __future__ import annotations

from typing import get_args

import pytest

from aggregator import events as ev
from aggregator import notices as seen
from aggregator import server
from aggregator.federation import Federation
from aggregator.narration import TOLD, current_round, failure, told
from fl_protocol import messages as msg
from fl_sim import simulation
from tests.federations import BASE, rule, update_of


@pytest.fixture
def federation() -> Federation:
    found = Federation(rule(), BASE)
    found.start(0.0)
    for client in "ab":
        found.handle(ev.ClientReady(client, 10), 0.0)
    return found


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (ev.KeepRound(1, 2, ("a", "b"), BASE, 1), seen.RoundOpened(1, 2, ("a", "b"), 2, 1)),
        (ev.KeepUpdate(3, update_of("a", 2, 7, staleness=1)), seen.UpdateAccepted("a", 3, 7, 1)),
        (ev.Answer("a", "1-t", msg.ACCEPTED), None),
        (ev.Answer("a", "1-t", msg.LATE, "late"), seen.UpdateLate("a", 1)),
        (ev.Answer("a", "1-t", msg.REJECTED, "why"), seen.UpdateRejected("a", 1, "why")),
        (ev.Aggregate(1, BASE, (update_of("a"),)), seen.AggregationStarted(1, 1)),
        (ev.Finish(), None),
        (ev.Finish("no better"), seen.EndedEarly(0, "no better")),
        (ev.Stop(), None),
    ],
)
def test_what_is_said_of_an_effect(effect: ev.Effect, said: object, federation: Federation) -> None:
    assert told(effect, federation) == said


@pytest.mark.parametrize(("again", "then"), [(True, "trying again"), (False, "no retries left")])
def test_an_abandoned_attempt_says_what_comes_next(again: bool, then: str, federation: Federation) -> None:
    said = told(ev.Abandon(2, 1, 1, 3, again), federation)
    assert isinstance(said, seen.Warned)
    assert said.text == f"round 2, attempt 1 abandoned: 1 updates of the 3 needed; {then}"


def test_the_round_under_way_or_the_last_one(federation: Federation) -> None:
    assert (current_round(Federation(rule(), BASE)), current_round(federation)) == (0, 1)
    assert "the same command goes on" in str(failure(ev.Fail("few")))


def test_no_effect_is_overlooked_by_those_who_perform_them() -> None:
    """A run without an operator has no effects of one, and what is only said needs no performing."""
    every = set(get_args(ev.Effect))
    assert every - set(server.PERFORM) - set(TOLD) == set()
    of_operators = {ev.KeepRounds, ev.Stop}
    announced = {ev.Announce}
    assert every - set(simulation.PERFORM) - set(TOLD) == of_operators | announced
