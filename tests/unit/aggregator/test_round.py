"""The round rule, line by line, and who is waited for."""

from __future__ import annotations

import pytest

from aggregator.round import MAX_REFUSALS, Outcome, Refused, Round, note_refusal
from tests.federations import BASE, update_of

GRACE, DEADLINE, OPENED = 10.0, 60.0, 100.0


def opened(*cohort: str, quorum: int = 2) -> Round:
    return Round(3, 1, frozenset(cohort), BASE, quorum, GRACE, DEADLINE, OPENED)


def played(*steps: str, quorum: int = 2) -> Round:
    """A round of a, b, c after steps such as ``"accept a 105"``."""
    current = opened("a", "b", "c", quorum=quorum)
    for step in steps:
        what, client, at = step.split()
        now = OPENED + float(at)
        if what == "accept":
            current.accept(update_of(client, 3), now)
        elif what == "decline":
            current.decline(client, "no data", now)
        elif what == "leave":
            current.leave(client, now)
        else:
            assert what == "return"
            current.come_back(client, now)
    return current


def test_late_updates_make_the_quorum_but_are_no_answer() -> None:
    current = played("accept a 1")
    current.accept(update_of("b", 2, staleness=1), OPENED + 2.0)
    assert current.waited_for == {"b", "c"}
    assert current.stragglers() == ["b", "c"]
    assert (current.quorum_since, current.outcome(OPENED + 11.9)) == (OPENED + 2.0, None)
    assert current.outcome(OPENED + 12.0) is Outcome.CLOSED_SHORT
    assert current.admission("b", 3, BASE) is None


def test_updates_are_folded_by_client_the_oldest_first() -> None:
    current = played("accept b 1", "accept a 1")
    for behind in (1, 2):
        current.accept(update_of("a", 3 - behind, staleness=behind), OPENED)
    assert [(each.client_id, each.staleness) for each in current.folded] == [
        ("a", 2),
        ("a", 1),
        ("a", 0),
        ("b", 0),
    ]
    assert current.holds("a", update_of("a", 1).transfer)
    assert not current.holds("b", update_of("a", 1).transfer)


RULE: list[tuple[list[str], float, Outcome | None]] = [
    # nobody has answered
    ([], 0, None),
    ([], 59.9, None),
    ([], 60, Outcome.ABANDONED),
    # all of the cohort accepted
    (["accept a 1", "accept b 2", "accept c 3"], 3, Outcome.CLOSED),
    # nobody is waited for any more, quorum met
    (["accept a 1", "accept b 2", "decline c 3"], 3, Outcome.CLOSED_SHORT),
    (["accept a 1", "accept b 2", "leave c 3"], 3, Outcome.CLOSED_SHORT),
    (["leave c 0", "accept a 1", "accept b 2"], 2, Outcome.CLOSED_SHORT),
    # quorum for grace
    (["accept a 1", "accept b 2"], 11.9, None),
    (["accept a 1", "accept b 2"], 12, Outcome.CLOSED_SHORT),
    (["accept a 1", "accept b 2", "accept c 11"], 11, Outcome.CLOSED),
    (["accept a 1", "accept b 2", "leave c 3", "return c 4"], 5, None),
    # deadline with and without quorum
    (["accept a 1", "accept b 55"], 59.9, None),
    (["accept a 1", "accept b 55"], 60, Outcome.CLOSED_SHORT),
    (["accept a 1"], 59.9, None),
    (["accept a 1"], 60, Outcome.ABANDONED),
    # nobody is waited for, quorum not met
    (["decline a 1", "decline b 2", "decline c 3"], 3, Outcome.ABANDONED),
    (["accept a 1", "decline b 2", "decline c 3"], 3, Outcome.ABANDONED),
    (["leave a 1", "leave b 2", "leave c 3"], 3, None),
    (["leave a 1", "leave b 2", "leave c 3"], 12.9, None),
    (["leave a 1", "leave b 2", "leave c 3"], 13, Outcome.ABANDONED),
    (["leave a 1", "leave b 2", "leave c 3", "return a 4"], 20, None),
    (["leave a 1", "leave b 2", "leave c 3", "return a 4", "leave a 14"], 23, None),
    (["leave a 1", "leave b 2", "leave c 3", "return a 4", "leave a 14"], 24, Outcome.ABANDONED),
    (["accept a 1", "decline b 2", "leave c 3"], 12.9, None),
    (["accept a 1", "decline b 2", "leave c 3"], 13, Outcome.ABANDONED),
    # one that left after its answer is not waited for
    (["decline a 1", "decline b 2", "decline c 3", "leave a 4"], 4, Outcome.ABANDONED),
    (["accept a 1", "leave a 2", "accept b 3", "accept c 4"], 4, Outcome.CLOSED),
]


@pytest.mark.parametrize(("steps", "at", "outcome"), RULE)
def test_rule(steps: list[str], at: float, outcome: Outcome | None) -> None:
    assert played(*steps).outcome(OPENED + at) is outcome


@pytest.mark.parametrize(("steps", "at", "outcome"), [each for each in RULE if each[2] is None])
def test_the_next_instant_is_when_the_outcome_changes(steps: list[str], at: float, outcome: None) -> None:
    current = played(*steps)
    instant = current.next_instant()
    assert instant > OPENED + at
    assert current.outcome(instant) is not None
    assert current.outcome(instant - 0.01) is None


def test_an_instant_is_reached_whatever_the_clock_reads() -> None:
    """(since + grace) - since may be less than grace in binary: 1e7 + 0.1 shows it."""
    for start in (0.3, 1234.5, 1e7, 123456789.7):
        current = Round(1, 1, frozenset("ab"), BASE, 2, 0.1, 1e9, start)
        for client in "ab":
            current.leave(client, start)
        assert current.outcome(current.next_instant()) is Outcome.ABANDONED


def test_who_is_waited_for() -> None:
    current = played("accept a 1", "leave b 2")
    assert (current.answered, current.waited_for) == ({"a"}, {"c"})
    current.come_back("b", 3)
    assert current.waited_for == {"b", "c"}
    current.decline("b", "x", 4)
    assert current.waited_for == {"c"}


def test_stragglers_were_invited_and_neither_accepted_nor_declined() -> None:
    assert played("accept a 1", "leave c 2").stragglers() == ["b", "c"]
    assert played("accept a 1", "decline c 2").stragglers() == ["b"]


def test_an_update_after_a_decline_counts() -> None:
    current = played("decline a 1", "accept a 2")
    assert (set(current.accepted), current.declined) == ({"a"}, {})


def test_a_decline_after_the_update_does_not_undo_it() -> None:
    assert played("accept a 1", "decline a 2").declined == {}


@pytest.mark.parametrize("step", ["decline x 1", "leave x 1", "return x 1"])
def test_those_not_invited_change_nothing(step: str) -> None:
    current = played(step)
    assert (current.declined, current.gone, current.outcome(OPENED + 1)) == ({}, set(), None)


@pytest.mark.parametrize(
    ("client_id", "round_number", "base", "reason"),
    [
        ("b", 3, BASE, None),
        ("b", 2, BASE, "wrong_round"),
        ("x", 3, BASE, "not_invited"),
        ("a", 3, BASE, "duplicate_update"),
        ("b", 3, "0" * 64, "wrong_base"),
    ],
)
def test_admission(client_id: str, round_number: int, base: str, reason: str | None) -> None:
    assert played("accept a 1").admission(client_id, round_number, base) == reason


def test_refusals_are_counted_and_bounded() -> None:
    current = opened("a", "b")
    for _ in range(3):
        current.refuse("a", "not_finite")
    for number in range(2 * MAX_REFUSALS):
        current.refuse(f"x{number}", "bad_field")
    assert current.refusals[Refused("a", "not_finite")] == 3
    assert len(current.refusals) <= MAX_REFUSALS + 1
    assert sum(current.refusals.values()) == 2 * MAX_REFUSALS + 3


def test_a_refusal_holds_no_more_than_a_name() -> None:
    refusals: dict[Refused, int] = {}
    note_refusal(refusals, "x" * 60_000, "y" * 60_000)
    assert [(len(each.client_id), len(each.reason)) for each in refusals] == [(64, 300)]
