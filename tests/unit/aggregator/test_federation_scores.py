"""What sites measure: who scores a round's model, and what of it stands in the record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aggregator import events as ev
from aggregator.cohort import Share
from aggregator.federation import Federation
from aggregator.phase import Phase
from tests.federations import (
    BASE,
    arrived,
    finish_round,
    of_kind,
    opened,
    rule,
    update_of,
)
from tests.payloads import digest_of

FIGURES = {"eval_auroc": 0.8, "eval_examples": 10.0}


def recorded(federation: Federation) -> dict[str, Any]:
    """The record of the round that is open, closed by the updates of those of its cohort who are missing."""
    assert federation.round is not None
    for client in sorted(federation.round.waited_for):
        federation.handle(arrived(client), 1.0)
    record: dict[str, Any] = of_kind(finish_round(federation, 2.0), ev.KeepRecord)[0].record
    return record


def with_evaluators(size: Share, **changes: Any) -> Federation:
    """Six clients, two of whom train."""
    config = rule(**{"min_clients": 6, "cohort": Share(count=2), "eval_cohort": size} | changes)
    federation = Federation(config, BASE)
    federation.start(0.0)
    for client in "abcdef":
        federation.handle(ev.ClientReady(client, 100), 0.0)
    return federation


TWO = Share(count=2)


def test_figures_come_with_updates_into_the_record() -> None:
    federation = opened("a", "b")
    assert federation.state().evaluators is None, "the cohort scores"
    told = replace(update_of("a"), metrics={"train_loss": 0.5, **FIGURES})
    federation.handle(ev.UpdateArrived(1, BASE, told), 1.0)
    record = recorded(federation)
    assert record["sites"] == {"a": {"auroc": 0.8, "examples": 10.0}}
    assert record["client_metrics"] == {"train_loss": 0.5, **FIGURES}


def test_evaluators_are_drawn_from_those_who_do_not_train_and_are_not_waited_for() -> None:
    federation = with_evaluators(TWO)
    state = federation.state()
    assert state.evaluators is not None and len(state.evaluators) == 2
    assert not set(state.evaluators) & set(state.cohort)
    assert with_evaluators(TWO).state().evaluators == state.evaluators, "drawn from the seed"
    federation.handle(ev.ModelScored(state.evaluators[0], 1, BASE, FIGURES), 1.0)
    assert list(recorded(federation)["sites"]) == [state.evaluators[0]]


def test_if_too_few_are_idle_some_of_the_cohort_score_too() -> None:
    state = with_evaluators(Share(fraction=1.0)).state()
    assert state.evaluators == tuple("abcdef")
    state = with_evaluators(Share(count=5)).state()
    assert state.evaluators is not None
    assert set("abcdef") - set(state.cohort) < set(state.evaluators)
    assert len(state.evaluators) == 5


def test_a_score_counts_once_from_an_evaluator_for_the_model_of_the_round() -> None:
    federation = with_evaluators(TWO)
    state = federation.state()
    assert state.evaluators is not None
    first, second = state.evaluators
    for event in (
        ev.ModelScored(state.cohort[0], 1, BASE, FIGURES),
        ev.ModelScored("x", 1, BASE, FIGURES),
        ev.ModelScored(first, 2, BASE, FIGURES),
        ev.ModelScored(first, 1, digest_of("another"), FIGURES),
    ):
        assert federation.handle(event, 1.0) == []
    federation.handle(ev.ModelScored(second, 1, BASE, FIGURES), 1.0)
    federation.handle(ev.ModelScored(second, 1, BASE, {"eval_auroc": 0.1}), 1.0)
    assert recorded(federation)["sites"] == {second: {"auroc": 0.8, "examples": 10.0}}


def test_a_score_still_counts_while_the_round_is_folded() -> None:
    federation = with_evaluators(TWO)
    state = federation.state()
    assert state.evaluators is not None
    for client in state.cohort:
        federation.handle(arrived(client), 1.0)
    assert federation.phase is Phase.AGGREGATING
    federation.handle(ev.ModelScored(state.evaluators[1], 1, BASE, FIGURES), 1.0)
    record = of_kind(finish_round(federation, 2.0), ev.KeepRecord)[0].record
    assert list(record["sites"]) == [state.evaluators[1]]
    assert record["client_metrics"]["eval_auroc"] == 0.8
