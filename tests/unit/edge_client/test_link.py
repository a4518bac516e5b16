"""Who is there, and are we welcome?"""

from __future__ import annotations

import pytest

from edge_client import events as ev
from edge_client import notices
from edge_client.link import ALONE_S, HELLO_EVERY_S, TRANSITIONS, Link, Place
from fl_protocol.messages import AggregatorState, Hello, Ping, Pong, Refusal, Welcome, state_seq

ME, AGG, OTHER = "aa" * 8, "bb" * 8, "cc" * 8


def connected() -> Link:
    link = Link("default", "site-a", ME)
    assert link.handle(ev.BrokerConnected(None), 0.0) == []
    return link


def test_hello_is_repeated_until_the_welcome() -> None:
    link = connected()
    hello = ev.Send("fl/1/default/up/site-a/event", Hello(ME))
    assert link.handle(AggregatorState(True, AGG), 0.0) == [hello]
    assert link.handle(ev.Ticked(), HELLO_EVERY_S - 0.1) == []
    assert link.handle(ev.Ticked(), HELLO_EVERY_S) == [hello]
    assert link.deadline == 2 * HELLO_EVERY_S
    assert link.handle(Welcome(OTHER), 6.0) == []
    assert link.handle(Welcome(ME), 6.0) == [ev.Tell(notices.Welcomed("site-a", "default"))]
    assert (link.joined, link.welcomed, link.deadline) == (True, True, float("inf"))


def test_another_aggregator_is_asked_again_and_the_same_one_is_not() -> None:
    link = connected()
    link.handle(AggregatorState(True, AGG), 0.0)
    link.handle(Welcome(ME), 0.0)
    assert link.handle(AggregatorState(True, AGG, echo=OTHER), 1.0) == []
    assert link.joined
    assert link.handle(AggregatorState(True, OTHER), 1.0)
    assert link.place is Place.JOINING


def test_the_last_will_of_an_earlier_aggregator_comes_late_and_changes_nothing() -> None:
    link = connected()
    link.handle(AggregatorState(True, OTHER), 0.0)
    link.handle(AggregatorState(True, AGG), 1.0)
    assert link.handle(AggregatorState(False, OTHER), 1.0) == []
    assert link.place is Place.JOINING
    link.handle(Welcome(ME), 1.0)
    assert link.handle(AggregatorState(False, OTHER), 2.0) == []
    assert link.joined
    assert link.handle(AggregatorState(False, AGG), 3.0) == [ev.Tell(notices.AggregatorLost())]


def test_the_last_will_of_a_connection_that_another_has_followed_comes_late_and_changes_nothing() -> None:
    """The aggregator lost its line and is back before its broker noticed: the same process, the older word."""
    link = connected()
    link.handle(AggregatorState(True, AGG, seq=state_seq(1, 0)), 0.0)
    link.handle(AggregatorState(True, AGG, seq=state_seq(2, 0)), 1.0)
    assert link.handle(AggregatorState(False, AGG, seq=state_seq(1)), 2.0) == []
    assert link.place is Place.JOINING
    assert link.handle(AggregatorState(False, AGG, seq=state_seq(2)), 3.0) == [
        ev.Tell(notices.AggregatorLost())
    ]


def test_an_aggregator_that_is_away_is_said_once_and_waited_for() -> None:
    link = connected()
    assert link.handle(AggregatorState(False, AGG), 0.0) == [ev.Tell(notices.AggregatorLost())]
    assert link.handle(AggregatorState(False, AGG), 0.0) == []
    assert link.handle(Welcome(ME), 0.0) == []
    assert link.handle(AggregatorState(True, AGG), 1.0)
    assert link.place is Place.JOINING


def test_a_job_that_nobody_serves_is_said_once() -> None:
    link = connected()
    assert link.handle(ev.Ticked(), ALONE_S - 0.1) == []
    (told,) = link.handle(ev.Ticked(), link.deadline)
    assert isinstance(told, ev.Tell)
    assert isinstance(told.notice, notices.Warned)
    assert link.deadline == float("inf")
    assert link.handle(ev.Ticked(), 1e6) == []
    assert link.handle(AggregatorState(False, AGG), 1e6) == []


def test_a_reconnect_asks_again() -> None:
    link = connected()
    link.handle(AggregatorState(True, AGG), 0.0)
    link.handle(Welcome(ME), 0.0)
    link.handle(ev.BrokerLost("cut"), 1.0)
    assert (link.place, link.connected) == (Place.OFFLINE, False)
    link.handle(ev.BrokerConnected(None), 2.0)
    assert len(link.handle(AggregatorState(True, AGG), 2.0)) == 1


def test_pings_for_us_are_answered_wherever_we_stand() -> None:
    link = connected()
    assert link.handle(Ping(ME), 0.0) == [ev.Send("fl/1/default/up/site-a/event", Pong(ME))]
    assert link.handle(Ping(OTHER), 0.0) == []


@pytest.mark.parametrize("place", list(Place))
def test_after_a_refusal_nothing_moves_it(place: Place) -> None:
    link = Link("default", "site-a", ME)
    link.place = place
    hears_refusal = place in (Place.JOINING, Place.JOINED)
    assert bool(link.handle(Refusal(ME, "no"), 0.0)) == hears_refusal
    if hears_refusal:
        assert not [key for key in TRANSITIONS if key[0] is Place.SENT_AWAY]
        assert link.place is Place.SENT_AWAY


def test_an_aggregator_that_is_said_to_be_there_and_does_not_answer_is_told_of() -> None:
    """A broker may retain the birth of one that died unseen."""
    link = connected()
    link.handle(AggregatorState(True, AGG), 0.0)
    asked = [link.handle(ev.Ticked(), link.deadline) for _ in range(10)]
    told = [sum(isinstance(effect, ev.Tell) for effect in effects) for effects in asked]
    assert told == [0, 0, 1, *[0] * 7], "asked for ever, said once"
