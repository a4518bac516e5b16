"""What a person is shown of a federation's effects, whether its clients are real or virtual. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aggregator import events as ev
from aggregator import notices as seen
from aggregator.federation import Federation
from fl_protocol import messages as msg
from fl_protocol.errors import QuorumNotMet


def told(effect: object, federation: Federation) -> seen.Event | None:
    """What is said of an effect that is performed; of many nothing is."""
    say = TOLD.get(type(effect))
    return say(effect, federation) if say else None


def failure(effect: ev.Fail) -> QuorumNotMet:
    """How a run ends that was abandoned for good."""
    return QuorumNotMet(f"{effect.reason}; the same command goes on with the next round")


def current_round(federation: Federation) -> int:
    """The round under way, or the last one."""
    return federation.round.number if federation.round else federation.rounds_done


def _opened(effect: ev.KeepRound, federation: Federation) -> seen.Event:
    rounds = federation.config.rounds
    return seen.RoundOpened(effect.number, rounds, effect.cohort, effect.attempt, effect.quorum)


def _kept(effect: ev.KeepUpdate, federation: Federation) -> seen.Event:
    it = effect.update
    return seen.UpdateAccepted(it.client_id, effect.round_number, it.num_examples, it.staleness)


def _answered(effect: ev.Answer, federation: Federation) -> seen.Event | None:
    number = current_round(federation)
    if effect.verdict == msg.LATE:
        return seen.UpdateLate(effect.client_id, number)
    if effect.verdict == msg.REJECTED:
        return seen.UpdateRejected(effect.client_id, number, effect.reason)
    return None


def _closed(effect: ev.Aggregate, federation: Federation) -> seen.Event:
    return seen.AggregationStarted(effect.round_number, len(effect.updates))


def _abandoned(effect: ev.Abandon, federation: Federation) -> seen.Event:
    then = "trying again" if effect.again else "no retries left"
    return seen.Warned(
        f"round {effect.round_number}, attempt {effect.attempt} abandoned: {effect.accepted} updates of the "
        f"{effect.quorum} needed; {then}"
    )


def _finished(effect: ev.Finish, federation: Federation) -> seen.Event | None:
    return seen.EndedEarly(federation.rounds_done, effect.reason) if effect.reason else None


TOLD: dict[type[Any], Callable[[Any, Federation], seen.Event | None]] = {
    ev.KeepRound: _opened,
    ev.KeepUpdate: _kept,
    ev.Answer: _answered,
    ev.Aggregate: _closed,
    ev.Abandon: _abandoned,
    ev.Finish: _finished,
}
"""Every effect of which something is said. What a model scores and what a round brought is said when it is recorded."""
