"""Every event in every phase: handled without an exception, and the phase it ends in is one the table names."""

from __future__ import annotations

from typing import get_args

import pytest

from aggregator import events as ev
from aggregator.cohort import Share
from aggregator.federation import TRANSITIONS, Federation
from aggregator.phase import Phase
from fl_protocol.codec import decode, encode
from fl_protocol.topics import Kind
from tests.federations import BASE, arrived, of_kind, opened, rule
from tests.payloads import digest_of


def _in(phase: Phase) -> Federation:
    federation = opened("a", "b", quorum=Share(count=2), retries=0, rounds=1)
    if phase is Phase.WAITING:
        federation = Federation(rule(min_clients=9), BASE)
        federation.start(0.0)
    elif phase is Phase.STOPPED:
        federation = Federation(rule(min_clients=9), BASE)
        federation.start(0.0)
        federation.handle(ev.LastRoundSet(), 1.0)
    elif phase is not Phase.OPEN:
        federation.handle(
            ev.Ticked() if phase is Phase.FAILED else arrived("a"), 60.0 * (phase is Phase.FAILED)
        )
        if phase is not Phase.FAILED:
            federation.handle(arrived("b"), 1.0)
        if phase in (Phase.EVALUATING, Phase.FINISHED):
            federation.handle(ev.Aggregated(1, digest_of("model 1")), 2.0)
        if phase is Phase.FINISHED:
            federation.handle(ev.Evaluated(1, None), 3.0)
    assert federation.phase is phase
    return federation


EVENTS: list[ev.Event] = [
    *(ev.ClientReady(client, n) for client in "abx" for n in (0, 1, 10**10)),
    *(ev.ClientGone(client) for client in "abx"),
    *(arrived(client, number, base, n) for client in "abx" for number in (0, 1, 2, 10**9)
      for base in (BASE, "0" * 64) for n in (0, 10)),
    *(ev.ClientDeclined(client, number, "why") for client in "abx" for number in (0, 1, 2)),
    *(ev.ModelScored(client, number, base, {"eval_auroc": float("nan")}) for client in "abx"
      for number in (0, 1, 2) for base in (BASE, "0" * 64)),
    *(ev.UpdateRefused(client, "1-t", "not_finite", answered, number) for client in "abx"
      for answered in (True, False) for number in (0, 1, 2)),
    ev.FrameRefused("", "unknown_topic"),
    ev.FrameRefused("x" * 9999, "not_msgpack"),
    *(ev.Aggregated(number, digest_of("m")) for number in (0, 1, 2)),
    *(ev.Evaluated(number, metrics) for number in (0, 1, 2) for metrics in (None, {}, {"loss": float("nan")})),
    ev.Ticked(),
    *(ev.ClientEvicted(client) for client in "abx"),
    ev.Paused(), ev.Resumed(), ev.LastRoundSet(), ev.RoundsAdded(1), ev.RoundsAdded(10**8),
]  # fmt: skip


def test_the_events_below_are_all_there_are() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(ev.Event))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("later", [0.0, 11.0, 1e9])
def test_every_event_in_every_phase_is_handled_and_ends_where_the_table_says(
    phase: Phase, later: float
) -> None:
    for event in EVENTS:
        federation = _in(phase)
        now = 100.0 + later
        effects = federation.handle(event, now)
        move = TRANSITIONS.get((phase, type(event)))
        assert federation.phase in (move.to if move else {phase}), event
        if move is None:
            assert effects == []
        assert decode(encode(federation.state()), Kind.ROUND) == federation.state()
        for announced in of_kind(effects, ev.Announce):
            assert decode(encode(announced.state), Kind.ROUND) == announced.state
        federation.next_instant()
        for second in EVENTS[::7]:
            federation.handle(second, now + 1.0)
