"""What the aggregator says of itself and of the round: retained, and numbered, so that what comes late is known for old."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from fl_protocol import messages as msg
from fl_protocol.codec import encode
from fl_protocol.topics import Kind, Topic


class Publish(Protocol):
    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> None: ...


class Presence:
    """One process of the aggregator of ``job``, as all others see it."""

    def __init__(self, job: str, instance: str, publish: Publish) -> None:
        self.instance = instance
        self.run_id: str | None = None
        """Of the run that is told of."""
        self.topic = str(Topic(job, Kind.AGG))
        self._round_topic = str(Topic(job, Kind.ROUND))
        self._publish = publish
        self._announced: msg.RoundState | None = None
        self._rounds_said = self._connection = self._said = 0

    def connected(self, number: int) -> None:
        """A connection begins, the ``number``-th: what is said in it counts from there."""
        if number != self._connection:
            self._connection, self._said = number, 0

    def last_words(self, connection: int) -> bytes:
        """The last will of a connection: older than all that is said in the next one."""
        return encode(msg.AggregatorState(False, self.instance, seq=msg.state_seq(connection)))

    def say_online(self, echo: str | None = None) -> None:
        """We are here; ``echo`` answers whoever asked."""
        self._publish(self.topic, self._here(online=True, echo=echo), retain=True)

    def announce(self, state: msg.RoundState, *, again: bool = True) -> None:
        """How the round stands; unless ``again``, only what has not been said."""
        if again or state != self._announced:
            self._announced = state
            self._publish(self._round_topic, self._stamped(state), retain=True)

    def farewell(self, state: msg.RoundState) -> list[tuple[str, bytes, bool]]:
        """What is published in place of the last will: how the round stays, and that we left."""
        return [(self._round_topic, self._stamped(state), True), (self.topic, self._here(online=False), True)]

    def _here(self, *, online: bool, echo: str | None = None) -> bytes:
        seq = msg.state_seq(self._connection, self._said)
        self._said += 1
        return encode(msg.AggregatorState(online, self.instance, echo, seq))

    def _stamped(self, state: msg.RoundState) -> bytes:
        self._rounds_said += 1
        return encode(replace(state, instance=self.instance, seq=self._rounds_said, run_id=self.run_id))
