"""Sending one finished update: offer it, send what the aggregator grants, until its verdict. Pure.

The transfer id is made of the update itself, so offering again is always safe: after a cut, a restart of either
side or a long silence the answer tells what is held already.
"""

from __future__ import annotations

from dataclasses import replace

from edge_client.events import Effect, Send, SendChunks, Update
from fl_protocol.messages import Ack, Offer, transfer_id
from fl_protocol.topics import Kind, Topic
from fl_protocol.transfer import Sending

SILENCE_S, LONGEST_SILENCE_S = 10.0, 60.0
ROUND_TRIPS = 4


class Upload:
    """One update on its way out. ``parting``: its round is over, so it is offered once, to be counted as late."""

    def __init__(self, job: str, client: str, update: Update, chunk_bytes: int) -> None:
        self.update = replace(update, manifest=replace(update.manifest, chunk_bytes=chunk_bytes))
        self.transfer = transfer_id(update.round_number, update.manifest.digest)
        self.sending = Sending(self.update.manifest.num_chunks)
        self.verdict: str | None = None
        self.reason = ""
        self.parting = False
        self.given_up = False
        self._offer_topic = str(Topic(job, Kind.OFFER, client=client, transfer=self.transfer))
        self._chunk_topic = str(Topic(job, Kind.CHUNK, client=client, transfer=self.transfer))
        self._silence_s = SILENCE_S
        self._round_trip_s = 0.0
        self._offered_at: float | None = None
        self._deadline = float("inf")
        self._unsent = 0

    @property
    def deadline(self) -> float:
        """When :meth:`tick` has something to do."""
        return self._deadline

    @property
    def over(self) -> bool:
        return self.verdict is not None or self.given_up

    @property
    def progress(self) -> tuple[int, int]:
        """Chunks held by the aggregator and in all."""
        return len(self.sending.held), self.sending.held.total

    def offer(self, now: float) -> list[Effect]:
        """Offer the update; one of a single chunk goes along at once."""
        update = self.update
        self._offered_at = now
        self._wait(now)
        offer = Offer(update.round_number, update.base, update.num_examples, update.manifest, update.metrics)
        if self.sending.held.total == 1:
            self.sending.forget_under_way()
            self.sending.grant(1)
        return [Send(self._offer_topic, offer), *self._send()]

    def part(self, now: float) -> list[Effect]:
        """The round moved on: offer once more, so that the aggregator can say that it came late."""
        self.parting = True
        return self.offer(now)

    def rejoined(self, now: float, *, lost: bool) -> list[Effect]:
        """Aggregator and broker are back. ``lost``: nothing that was under way can still arrive."""
        if lost:
            self.sending.forget_under_way()
        self._silence_s = SILENCE_S
        return self.offer(now)

    def away(self) -> None:
        """Nobody can answer now: do not count the silence."""
        self._deadline = float("inf")

    def ack(self, ack: Ack, now: float) -> list[Effect]:
        """The aggregator's answer: what it holds, what it grants, or its verdict."""
        if self._offered_at is not None:
            self._round_trip_s = max(self._round_trip_s, now - self._offered_at)
            self._offered_at = None
        if ack.verdict is not None:
            self.verdict, self.reason = ack.verdict, ack.reason
            self._deadline = float("inf")
            return []
        if self.sending.acknowledge(ack.held, ack.window):
            self._silence_s = SILENCE_S
        self._wait(now)
        return self._send()

    def tick(self, now: float, unsent: int) -> list[Effect]:
        """Offer again after a long silence. While messages still leave our side, it is the link that is slow."""
        if now < self._deadline:
            return []
        moving, self._unsent = unsent != self._unsent and unsent > 0, unsent
        if moving:
            self._wait(now)
            return []
        if self.parting:
            self.given_up = True
            return []
        self._silence_s = min(LONGEST_SILENCE_S, self._silence_s * 2)
        self.sending.forget_under_way()
        return self.offer(now)

    def _wait(self, now: float) -> None:
        self._deadline = now + max(self._silence_s, min(LONGEST_SILENCE_S, ROUND_TRIPS * self._round_trip_s))

    def _send(self) -> list[Effect]:
        indexes = tuple(self.sending.take())
        return [SendChunks(self._chunk_topic, self.update, indexes)] if indexes else []
