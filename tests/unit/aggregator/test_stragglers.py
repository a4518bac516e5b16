"""Who is late three rounds running is named, once."""

from __future__ import annotations

from aggregator.stragglers import Stragglers, advice
from tests.federations import record


def test_the_third_time_in_a_row_and_only_once() -> None:
    counted = Stragglers()
    told = [counted.add(record(number, stragglers=["b"])) for number in range(1, 6)]
    assert told == [[], [], ["b"], [], []]


def test_who_answers_in_between_begins_anew_and_who_is_not_invited_does_not() -> None:
    counted = Stragglers()
    rounds = [["b"], ["b"], [], ["b"], ["b"], ["b"]]
    assert [counted.add(record(1, stragglers=late)) for late in rounds] == [[], [], [], [], [], ["b"]]
    counted = Stragglers()
    invited = [["a", "b"], ["a", "b"], ["a", "c"], ["a", "b"]]
    late = [["b"], ["b"], [], ["b"]]
    told = [counted.add(record(1, cohort=c, stragglers=s)) for c, s in zip(invited, late, strict=True)]
    assert told == [[], [], [], ["b"]]


def test_what_is_told_says_what_to_do() -> None:
    assert advice(["b"]).startswith("b was a straggler in 3 rounds running")
    line = advice([f"site-{number}" for number in range(7)])
    assert line.startswith(
        "site-0, site-1, site-2, site-3, site-4 and 2 more were stragglers in 3 rounds running"
    )
    for option in ("--quorum 1.0", "--grace", "--local-steps"):
        assert option in line
