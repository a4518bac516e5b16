"""Our place in the job: is the broker there, is the aggregator, and are we welcome under our name? Pure.

OFFLINE   no connection to the broker
ALONE     connected; the aggregator is away
JOINING   the aggregator is there and was asked (Hello, repeated) whether this instance may use the client id
JOINED    it said Welcome
SENT_AWAY it said Refusal: the name is another's
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from edge_client import notices
from edge_client.events import BrokerConnected, BrokerLost, Effect, Leave, Send, Tell, Ticked
from edge_client.newest import Newest
from fl_protocol.errors import AccessRefused
from fl_protocol.messages import AggregatorState, Hello, Message, Ping, Pong, Refusal, Welcome
from fl_protocol.topics import Kind, Topic

HELLO_EVERY_S = 5.0
PATIENT_HELLOS = 3
"""Unanswered ones until a person hears of it."""
ALONE_S = 2.0
"""Connected for so long without a word about an aggregator: time to say that none is known."""


class Place(Enum):
    OFFLINE = "offline"
    ALONE = "alone"
    JOINING = "joining"
    JOINED = "joined"
    SENT_AWAY = "sent away"


class Link:
    """One instance's standing with broker and aggregator."""

    def __init__(self, job: str, client: str, instance: str) -> None:
        self.job, self.client, self.instance = job, client, instance
        self.place = Place.OFFLINE
        self.aggregator = ""
        self.welcomed = False
        """Ever welcomed: from then on the client's retained state is ours to change."""
        self._event_topic = str(Topic(job, Kind.EVENT, client=client))
        self._hello_at = self._alone_at = float("inf")
        self._unanswered = 0
        self._told_away = False
        self._newest = Newest()

    @property
    def joined(self) -> bool:
        return self.place is Place.JOINED

    @property
    def connected(self) -> bool:
        return self.place in _CONNECTED

    @property
    def deadline(self) -> float:
        """When Ticked has something to do."""
        instants = {Place.JOINING: self._hello_at, Place.ALONE: self._alone_at}
        return instants.get(self.place, float("inf"))

    def say(self, message: Message) -> Send:
        """``message`` on our event topic."""
        return Send(self._event_topic, message)

    def handle(self, event: object, now: float) -> list[Effect]:
        """The effects of one event; events that mean nothing here have none."""
        handler = TRANSITIONS.get((self.place, type(event)))
        return handler(self, event, now) if handler else []

    def _connected(self, event: BrokerConnected, now: float) -> list[Effect]:
        self.place, self._alone_at = Place.ALONE, now + ALONE_S
        return []

    def _still_alone(self, event: Ticked, now: float) -> list[Effect]:
        if now < self._alone_at:
            return []
        self._alone_at, told = float("inf"), self._told_away
        self._told_away = True
        text = f"no aggregator serves job {self.job!r} yet, waiting for one (is --job right?)"
        return [] if told else [Tell(notices.Warned(text))]

    def _lost(self, event: BrokerLost, now: float) -> list[Effect]:
        self.place, self._told_away = Place.OFFLINE, False
        return []

    def _aggregator(self, event: AggregatorState, now: float) -> list[Effect]:
        if self._is_of_one_before(event) or not self._newest.takes(event):
            return []
        if not event.online:
            known, self.place = self.place, Place.ALONE
            if known is Place.ALONE and self._told_away:
                return []
            self._told_away = True
            return [Tell(notices.AggregatorLost())]
        self._told_away = False
        if self.place is not Place.ALONE and event.instance == self.aggregator:
            return []
        self.aggregator, self.place, self._unanswered = event.instance, Place.JOINING, 0
        return self._hello(now)

    def _is_of_one_before(self, event: AggregatorState) -> bool:
        """The last will of an aggregator that another has succeeded, heard of for the first time."""
        return not event.online and self.place in _SERVED and event.instance != self.aggregator

    def _hello(self, now: float) -> list[Effect]:
        self._hello_at = now + HELLO_EVERY_S
        return [self.say(Hello(self.instance))]

    def _ticked(self, event: Ticked, now: float) -> list[Effect]:
        if now < self._hello_at:
            return []
        self._unanswered += 1
        text = f"the aggregator does not answer, asking again every {HELLO_EVERY_S:g} s"
        told: list[Effect] = [Tell(notices.Warned(text))] if self._unanswered == PATIENT_HELLOS else []
        return [*told, *self._hello(now)]

    def _welcome(self, event: Welcome, now: float) -> list[Effect]:
        if event.instance != self.instance:
            return []
        self.place, self.welcomed = Place.JOINED, True
        return [Tell(notices.Welcomed(self.client, self.job))]

    def _refusal(self, event: Refusal, now: float) -> list[Effect]:
        if event.instance != self.instance:
            return []
        self.place = Place.SENT_AWAY
        return [Tell(notices.Refused(event.reason)), Leave(AccessRefused(event.reason))]

    def _ping(self, event: Ping, now: float) -> list[Effect]:
        return [self.say(Pong(self.instance))] if event.instance == self.instance else []


Handler = Callable[[Link, Any, float], list[Effect]]
_SERVED = (Place.JOINING, Place.JOINED)
_CONNECTED = (Place.ALONE, *_SERVED)

TRANSITIONS: dict[tuple[Place, type[Any]], Handler] = {
    (Place.OFFLINE, BrokerConnected): Link._connected,
    **{(place, BrokerConnected): Link._connected for place in _CONNECTED},
    **{(place, BrokerLost): Link._lost for place in _CONNECTED},
    **{(place, AggregatorState): Link._aggregator for place in _CONNECTED},
    (Place.JOINING, Welcome): Link._welcome,
    (Place.JOINING, Refusal): Link._refusal,
    (Place.JOINED, Refusal): Link._refusal,
    **{(place, Ping): Link._ping for place in _CONNECTED},
    (Place.JOINING, Ticked): Link._ticked,
    (Place.ALONE, Ticked): Link._still_alone,
}
