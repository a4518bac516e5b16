"""What an aggregator is in a run and between runs: a name on a job, who is here, and those who operate it.

    frame -> decode -> membership / presence / a command / what the run makes of it

A run (server.py), or the wait for one (lobby.py), is the station's *business*: it hears of everything else.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from aggregator import events as ev
from aggregator import notices as seen
from aggregator.bulletin import Bulletin
from aggregator.commands import Desk
from aggregator.membership import Membership, Outcome
from aggregator.presence import Presence
from aggregator.probing import answers
from aggregator.round import MAX_REFUSALS
from fl_protocol import messages as msg
from fl_protocol import topics
from fl_protocol.codec import decode, encode
from fl_protocol.errors import AccessRefused, ConfigError, DecodeError, HilumError
from fl_protocol.topics import AGGREGATOR, Kind, Topic
from fl_protocol.transport import Connected, Disconnected, Received, Transport, Undelivered


class Business(Protocol):
    """What a station is at."""

    @property
    def rounds_done(self) -> int: ...

    @property
    def round_number(self) -> int:
        """The round under way, or the last one."""

    def on_connected(self, connected: Connected) -> None:
        """The broker is there, and may have lost everything."""

    def happened(self, event: ev.Event) -> None:
        """Somebody came or went, or sent what is no message."""

    def left(self, client_id: str) -> bool:
        """A client went: whether that is news."""

    def hear(self, topic: Topic, message: msg.Message) -> None:
        """A message that is of rounds and models."""

    def command(self, command: msg.Command) -> None:
        """An operator wants something. Raises ConfigError, with the reason, if it cannot be."""

    def farewell(self) -> list[tuple[str, bytes, bool]]:
        """What is published, retained, in place of the last will."""


class _Nothing:
    """Before anything was begun."""

    rounds_done = round_number = 0

    def on_connected(self, connected: Connected) -> None:
        """Nothing is to be laid out."""

    def happened(self, event: ev.Event) -> None:
        """Nobody minds."""

    def left(self, client_id: str) -> bool:
        return False

    def hear(self, topic: Topic, message: msg.Message) -> None:
        """Nobody minds."""

    def command(self, command: msg.Command) -> None:
        raise ConfigError("the aggregator has not begun yet: ask again")

    def farewell(self) -> list[tuple[str, bytes, bool]]:
        return []


_NOTHING = _Nothing()


class Station:
    """One process of the aggregator of ``job``."""

    transport: Transport

    def __init__(self, job: str, instance: str, view: seen.View, inbox: queue.Queue[Any]) -> None:
        self.job, self.instance, self.view, self.inbox = job, instance, view, inbox
        self.membership = Membership()
        self.presence = Presence(job, instance, self.publish)
        self.bulletin = Bulletin(job, instance, self.publish)
        self.desk = Desk(job, self.publish, view)
        self.business: Business = _NOTHING
        self.connection: Connected | None = None
        self.stop_requested = False
        self.ended: HilumError | None = None
        self.bytes_down = self.bytes_up = 0
        self._told: set[tuple[str, str]] = set()

    # --- what is said ---------------------------------------------------------------------------------------------

    def publish(
        self, topic: str, payload: bytes | Callable[[], bytes], *, retain: bool = False, bulk: bool = False
    ) -> None:  # fmt: skip
        """Publish, and count the bytes when they leave."""
        if isinstance(payload, bytes):
            self.bytes_down += len(payload)
            self.transport.publish(topic, payload, retain=retain, bulk=bulk)
        else:
            self.transport.publish(topic, partial(self._counted, payload), retain=retain, bulk=bulk)

    def _counted(self, payload: Callable[[], bytes]) -> bytes:
        data = payload()
        self.bytes_down += len(data)
        return data

    def send(self, client_id: str, message: msg.Message) -> None:
        """To one client's control topic."""
        self.publish(str(Topic(self.job, Kind.CONTROL, client=client_id)), encode(message))

    def connected(self, number: int) -> None:
        """A connection begins, the ``number``-th: whatever the broker kept of us may be gone."""
        self.presence.connected(number)
        self.bulletin.connected()
        self.transport.subscribe([*topics.aggregator_filters(self.job), topics.manifest_filter(self.job),
                                  topics.command_filter(self.job), self.bulletin.topic])  # fmt: skip

    # --- what is heard --------------------------------------------------------------------------------------------

    def take_item(self, item: Any, now: float) -> bool:
        """Something came out of the queue; False if it is not of the network."""
        if isinstance(item, Received):
            self.take(item, now)
        elif isinstance(item, Connected):
            self.connection = item
            self.business.on_connected(item)
            self.view.show(seen.ConnectionRestored(""))
        elif isinstance(item, Disconnected):
            self.view.show(seen.ConnectionLost(item.reason))
            self.ended = item.fatal
        elif isinstance(item, Undelivered):
            self.view.show(seen.Warned(f"not delivered: {item.topic}: {item.reason}"))
        else:
            return False
        return True

    def take(self, frame: Received, now: float) -> None:
        """A frame came."""
        self.bytes_up += len(frame.payload)
        try:
            topic = topics.parse(frame.topic)
            if topic.job != self.job or not frame.payload:
                return
            message = decode(frame.payload, topic.kind)
        except DecodeError as error:
            self._refuse(frame.topic, error)
            return
        if topic.kind in (Kind.CHUNK, Kind.OFFER) and isinstance(message, msg.Chunk | msg.Offer):
            self.business.hear(topic, message)
        elif isinstance(message, msg.Probe):
            self._answer_probe(topic, message)
        elif isinstance(message, msg.Command):
            self.desk.take(message, self.business.command, retained=frame.retained)
        elif isinstance(message, msg.RunInfo):
            self.bulletin.heard(message)
            # What lay there comes first, then only what we say ourselves.
            self.transport.unsubscribe([self.bulletin.topic])
        elif isinstance(message, msg.AggregatorState):
            self._on_aggregator(message)
        elif topic.kind is Kind.MODEL:
            self.business.hear(topic, message)
        elif topic.client != AGGREGATOR:
            self._on_client(topic, message, now)

    def _refuse(self, text: str, error: DecodeError) -> None:
        words = text.split("/")
        client_id = words[4][:64] if len(words) > 4 and words[3] == "up" else ""
        self.business.happened(ev.FrameRefused(client_id, error.reason))
        self.view.show(seen.UpdateRejected(client_id, self.business.round_number, str(error)))
        if topics.NAME.fullmatch(client_id) and self._is_news(client_id, error.reason):
            self.send(client_id, msg.Rejection(self.business.rounds_done, error.reason))

    def _is_news(self, client_id: str, reason: str) -> bool:
        """Whether to tell the client: once a round for each reason, and no more than MAX_REFUSALS in all."""
        news = (client_id, reason) not in self._told and len(self._told) < MAX_REFUSALS
        if news:
            self._told.add((client_id, reason))
        return news

    def round_begins(self) -> None:
        """What clients were told in the last one they may be told again."""
        self._told.clear()

    def _answer_probe(self, topic: Topic, probe: msg.Probe) -> None:
        for address, answer in answers(topic, probe, self.instance, self.membership, time.time()):
            if isinstance(answer, msg.AggregatorState):
                self.presence.say_online(answer.echo)
            else:
                self.publish(str(address), encode(answer))

    def _on_aggregator(self, message: msg.AggregatorState) -> None:
        """Of two that claimed the job, the one with the smaller instance keeps it; a late will is overwritten."""
        if message.instance == self.instance:
            if not message.online:
                self.presence.say_online()  # our own last will, of a connection that is over
            return
        if message.online and message.instance < self.instance:
            self.ended = AccessRefused(f"another aggregator has taken over job {self.job!r}")
            return
        self.presence.say_online()

    # --- who is here ----------------------------------------------------------------------------------------------

    def _on_client(self, topic: Topic, message: msg.Message, now: float) -> None:
        if isinstance(message, msg.Hello):
            self._perform(self.membership.hello(topic.client, message, now))
        elif isinstance(message, msg.Pong):
            self._perform(self.membership.pong(topic.client, message))
        elif isinstance(message, msg.ClientState):
            self._perform(self.membership.state(topic.client, message))
        else:
            self.business.hear(topic, message)

    def tick(self, now: float) -> None:
        """Time passed."""
        self._perform(self.membership.tick(now))

    def evict(self, client_id: str) -> None:
        """Send a client away. Raises ConfigError if it is not there."""
        self._perform(self.membership.evict(client_id))

    def _perform(self, outcome: Outcome) -> None:
        sends, happened = outcome
        for send in sends:
            if isinstance(send.message, msg.Refusal):
                self.view.show(seen.ClientRefused(send.client_id, send.message.reason))
            self.send(send.client_id, send.message)
        for event in happened:
            if isinstance(event, ev.ClientReady):
                device = self.membership.members[event.client_id].device
                self.view.show(seen.ClientJoined(event.client_id, event.num_examples, device))
            elif isinstance(event, ev.ClientGone | ev.ClientEvicted) and self.business.left(event.client_id):
                known = self.membership.members.get(event.client_id)
                self.view.show(seen.ClientLeft(event.client_id, known.state if known else msg.LOST))
            self.business.happened(event)
