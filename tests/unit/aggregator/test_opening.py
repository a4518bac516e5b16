"""When a round can open, and who is in it."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator import events as ev
from aggregator.cohort import Share
from aggregator.federation import Federation
from aggregator.opening import at_hand, open_round
from aggregator.past import Past
from aggregator.phase import Phase
from aggregator.round import Refused, note_refusal
from tests.federations import BASE, rule, update_of


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"min_clients": 3}, 3),
        ({"min_clients": 1, "quorum": Share(count=4)}, 4),
        ({"min_clients": 1, "quorum": Share(count=4), "cohort": Share(fraction=0.5)}, 7),
        ({"min_clients": 9, "quorum": Share(count=4), "cohort": Share(fraction=0.5)}, 9),
        ({"min_clients": 2, "quorum": Share(fraction=0.9), "cohort": Share(fraction=0.1)}, 2),
    ],
)
def test_a_round_opens_only_if_its_cohort_can_be_a_quorum(changes: dict[str, Any], needed: int) -> None:
    federation = Federation(rule(**changes), BASE)
    federation.start(0.0)
    for number in range(needed):
        assert federation.phase is Phase.WAITING
        federation.handle(ev.ClientReady(f"c{number}", 100), 0.0)
    assert federation.round is not None
    quorum = federation.config.quorum
    assert federation.round.quorum == (quorum.count or quorum.of(len(federation.round.cohort)))


def test_the_next_attempt_carries_on_what_the_one_before_accepted_and_what_it_refused() -> None:
    before = open_round(rule(), Past(0), BASE, {"a": 10, "b": 10}, 0.0, before=None, refusals={})
    before.accept(update_of("a"), 1.0)
    note_refusal(before.refusals, "b", "why")
    assert at_hand({"b": 10}, before) == {"a", "b"}
    after = open_round(
        rule(), Past(0), BASE, {"b": 10}, 5.0, before=before, refusals={Refused("x", "other"): 1}
    )
    assert (after.number, after.attempt, after.opened_at) == (1, 2, 5.0)
    assert after.cohort == {"a", "b"} and set(after.accepted) == {"a"}
    assert after.refusals == {Refused("b", "why"): 1}


def test_what_was_refused_between_rounds_is_of_the_next_one() -> None:
    opened = open_round(rule(), Past(0), BASE, {"a": 10}, 0.0, before=None, refusals={Refused("x", "why"): 2})
    assert (opened.refusals, opened.evaluators) == ({Refused("x", "why"): 2}, None)


def test_evaluators_are_as_many_as_asked_for_of_those_who_are_here() -> None:
    config = rule(cohort=Share(count=1), eval_cohort=Share(fraction=0.5))
    opened = open_round(config, Past(0), BASE, dict.fromkeys("abcd", 10), 0.0, before=None, refusals={})
    assert opened.evaluators is not None and len(opened.evaluators) == 2
    assert not opened.evaluators & opened.cohort
