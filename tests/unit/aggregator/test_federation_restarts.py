"""A run that is begun again: where it goes on, and what it no longer knows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from aggregator import events as ev
from aggregator.cohort import Share
from aggregator.federation import Federation
from aggregator.phase import Phase
from tests.federations import (
    BASE,
    Disk,
    arrived,
    kinds,
    of_kind,
    record,
    rule,
)
from tests.payloads import digest_of


def test_a_fresh_start_and_a_finished_one() -> None:
    records = [record(1), record(2)]
    done = Federation(rule(), BASE, records)
    assert kinds(done.start(0.0)) == ["Announce", "Finish"]
    more = Federation(rule(rounds=3), BASE, records)
    assert kinds(more.start(0.0)) == ["Announce"]
    for client in "ab":
        effects = more.handle(ev.ClientReady(client, 100), 0.0)
    assert of_kind(effects, ev.KeepRound)[0].number == 3


def _crash(*, after: str) -> Disk:
    """The disk of a run of one round whose process died after performing the named effect."""
    disk = Disk()
    federation = Federation(rule(rounds=1, quorum=Share(count=2)), BASE)
    script: list[ev.Event] = [ev.ClientReady("a", 100), ev.ClientReady("b", 100), arrived("a"), arrived("b")]
    script += [ev.Aggregated(1, digest_of("model 1")), ev.Evaluated(1, None)]
    batches = [federation.start(0.0), *(federation.handle(event, 1.0) for event in script)]
    for effect in itertools.chain.from_iterable(batches):
        disk.perform(effect)
        if type(effect).__name__ == after:
            return disk
    raise AssertionError(after)


@pytest.mark.parametrize(
    ("after", "first", "phase"),
    [
        ("KeepRound", ["Announce"], Phase.OPEN),
        ("KeepUpdate", ["Announce"], Phase.OPEN),
        ("Aggregate", ["Aggregate"], Phase.AGGREGATING),
        ("AdoptModel", ["AdoptModel", "Evaluate"], Phase.EVALUATING),
        ("KeepRecord", ["Announce", "Finish"], Phase.FINISHED),
    ],
)
def test_a_restart_goes_on_where_the_journal_ends(after: str, first: list[str], phase: Phase) -> None:
    disk = _crash(after=after)
    federation = disk.federation(rule(rounds=1, quorum=Share(count=2)))
    assert kinds(federation.start(50.0, disk.open)) == first
    assert federation.phase is phase
    if phase is Phase.AGGREGATING:
        assert federation.round is not None
        assert set(federation.round.accepted) == {"a", "b"}


def test_a_restart_with_the_last_update_kept_but_unanswered_closes_at_once() -> None:
    disk = _crash(after="Aggregate")
    assert disk.open is not None
    disk.open = replace(disk.open, closed=False)
    federation = disk.federation(rule(rounds=1, quorum=Share(count=2)))
    assert kinds(federation.start(50.0, disk.open)) == ["Announce", "Aggregate"]


def test_a_restart_presumes_the_cohort_alive_and_begins_the_deadline_anew() -> None:
    disk = _crash(after="KeepUpdate")
    federation = disk.federation(rule(rounds=1, quorum=Share(count=2)))
    federation.start(1000.0, disk.open)
    assert federation.next_instant() == 1060.0
    assert federation.handle(ev.Ticked(), 1059.0) == []
    federation.handle(ev.ClientReady("b", 100), 1059.0)
    assert kinds(federation.handle(arrived("b"), 1059.5)) == ["KeepUpdate", "Answer", "Aggregate"]


def test_fewer_rounds_on_resume_end_the_run_and_keep_the_open_round_for_later() -> None:
    disk = _crash(after="KeepUpdate")
    assert disk.open is not None
    disk.records.append(record(3))
    federation = disk.federation(rule(rounds=2))
    assert kinds(federation.start(0.0, disk.open)) == ["Announce", "Finish"]
