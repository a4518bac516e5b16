"""Late updates that count: whose, towards what, and what waits between rounds."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator import events as ev
from aggregator.cohort import Share
from aggregator.federation import Federation
from aggregator.phase import Phase
from aggregator.round import OpenRound
from fl_protocol import messages as msg
from tests.federations import (
    BASE,
    Disk,
    answers,
    arrived,
    finish_round,
    kinds,
    of_kind,
    opened,
    record,
    rule,
    update_of,
)
from tests.payloads import digest_of


def second_round(**changes: Any) -> Federation:
    """The second round of a, b and c is open, and c is still at work for the first."""
    federation = opened(
        "a", "b", "c", **{"rounds": 4, "quorum": Share(count=2), "max_staleness": 1} | changes
    )
    federation.handle(arrived("a"), 1.0)
    federation.handle(arrived("b"), 1.0)
    federation.handle(ev.Ticked(), 11.0)
    effects = finish_round(federation, 12.0)
    assert of_kind(effects, ev.KeepRecord)[0].record["stragglers"] == ["c"]
    assert federation.state().max_staleness == federation.config.max_staleness
    return federation


def test_a_stragglers_update_joins_the_next_round_with_its_staleness() -> None:
    federation = second_round()
    base = federation.base
    kept, told = federation.handle(arrived("c", 1), 13.0)
    assert kept == ev.KeepUpdate(2, update_of("c", 1, staleness=1))
    assert told == ev.Answer("c", update_of("c", 1).transfer, msg.ACCEPTED)
    assert federation.round is not None
    assert federation.round.waited_for == {"a", "b", "c"}, "it is no answer to the second round"
    assert federation.handle(arrived("c", 1), 13.0) == [told], "told again, not kept again"
    assert answers(federation.handle(arrived("c", 1, try_number=1), 13.0))[0][1:] == (
        msg.REJECTED, "duplicate_update"
    )  # fmt: skip
    federation.handle(arrived("c", 2, base), 14.0)
    federation.handle(arrived("a", 2, base), 14.0)
    closing = federation.handle(arrived("b", 2, base), 14.0)
    folded = of_kind(closing, ev.Aggregate)[0].updates
    assert [(each.client_id, each.staleness) for each in folded] == [("a", 0), ("b", 0), ("c", 1), ("c", 0)]
    record_now = of_kind(finish_round(federation, 15.0), ev.KeepRecord)[0].record
    assert record_now["stale"] == [{"client_id": "c", "round": 1, "staleness": 1, "num_examples": 10}]
    assert (record_now["accepted"], record_now["num_examples"]) == (["a", "b", "c"], 40)
    assert federation.state().last is not None
    assert federation.state().last.stale == 1  # type: ignore[union-attr]
    assert answers(federation.handle(arrived("c", 1), 16.0)) == [("c", msg.ACCEPTED, "")]


def test_late_updates_count_towards_the_quorum() -> None:
    federation = second_round(grace_s=0.0)
    federation.handle(arrived("c", 1), 13.0)
    assert federation.phase is Phase.OPEN
    assert kinds(federation.handle(arrived("a", 2, federation.base), 13.0))[:3] == [
        "KeepUpdate",
        "Answer",
        "Aggregate",
    ]


@pytest.mark.parametrize(
    ("client", "base", "examples", "verdict"),
    [
        ("c", "wrong", 10, (msg.REJECTED, "wrong_base")),
        ("x", "", 10, (msg.REJECTED, "not_invited")),
        ("c", "", 101, (msg.REJECTED, "bad_num_examples")),
        ("c", "", 0, (msg.REJECTED, "bad_num_examples")),
    ],
)
def test_a_late_update_is_held_to_its_own_round(
    client: str, base: str, examples: int, verdict: tuple[str, str]
) -> None:
    federation = second_round()
    federation.handle(ev.ClientReady("x", 100), 12.0)
    event = arrived(client, 1, digest_of(base) if base else BASE, examples)
    assert answers(federation.handle(event, 13.0))[0][1:] == verdict


def test_a_synchronous_strategy_takes_nothing_late() -> None:
    federation = second_round(max_staleness=0)
    assert answers(federation.handle(arrived("c", 1), 13.0))[0][1:] == (msg.LATE, msg.LATE)


def test_what_comes_between_rounds_waits_unanswered_for_the_next() -> None:
    federation = opened("a", "b", "c", rounds=4, quorum=Share(count=2), max_staleness=1, grace_s=0.0)
    federation.handle(arrived("a"), 1.0)
    assert kinds(federation.handle(arrived("b"), 1.0))[-2:] == ["Aggregate", "Announce"]
    assert federation.admission("c", 1, BASE, 10) is None
    assert federation.handle(arrived("c"), 2.0) == []
    assert federation.handle(arrived("c"), 2.0) == []
    assert answers(federation.handle(arrived("c", try_number=1), 2.0))[0][2] == "duplicate_update"
    effects = finish_round(federation, 3.0)
    assert kinds(effects)[2:] == ["KeepRecord", "KeepRound", "Announce", "KeepUpdate", "Answer"]
    assert of_kind(effects, ev.KeepUpdate) == [ev.KeepUpdate(2, update_of("c", 1, staleness=1))]


def test_nothing_waits_for_a_round_that_will_not_be() -> None:
    federation = opened("a", "b", "c", rounds=1, quorum=Share(count=2), max_staleness=1, grace_s=0.0)
    federation.handle(arrived("a"), 1.0)
    federation.handle(arrived("b"), 1.0)
    assert answers(federation.handle(arrived("c"), 2.0))[0][1] == msg.LATE
    finish_round(federation, 3.0)
    assert federation.settled == 1


def test_the_next_attempt_carries_late_updates_too() -> None:
    federation = second_round(quorum=Share(count=2))
    federation.handle(arrived("c", 1), 13.0)
    effects = federation.handle(ev.Ticked(), 80.0)
    assert of_kind(effects, ev.Abandon) == [ev.Abandon(2, 1, 1, 2, again=True)]
    assert of_kind(effects, ev.KeepRound)[0].attempt == 2
    assert federation.round is not None
    assert [each.staleness for each in federation.round.folded] == [1]


@pytest.mark.parametrize("closed", [False, True])
def test_a_restart_knows_what_came_late_and_who_may(closed: bool) -> None:
    config = rule(rounds=4, min_clients=3, quorum=Share(count=2), max_staleness=1)
    late = update_of("c", 1, staleness=1)
    disk = Disk(digest_of("model 1"), [record(1, cohort=["a", "b", "c"])])
    disk.open = OpenRound(2, 1, ("a", "b", "c"), digest_of("model 1"), 2, (late, update_of("a", 2)), closed)
    federation = disk.federation(config)
    effects = federation.start(0.0, disk.open)
    if closed:
        assert of_kind(effects, ev.Aggregate)[0].updates == (update_of("a", 2), late)
        return
    federation.handle(ev.ClientReady("c", 100), 0.0)
    assert answers(federation.handle(arrived("c", 1), 0.0)) == [("c", msg.ACCEPTED, "")]
    assert federation.round is not None
    assert federation.round.has_quorum
