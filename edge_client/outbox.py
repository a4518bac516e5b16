"""Finished updates: the one that may still count, and one whose round moved on and that is offered a last time. Pure.

The current one stays on disk until its round is over, also when it was accepted: an aggregator that lost its memory
is offered it again, and nothing is trained twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_client.events import AckArrived, DropUpdate, Effect, KeepAccepted, Update
from edge_client.upload import Upload
from fl_protocol import messages

HELD_ALREADY = "duplicate_update"
"""The refusal of an update that was accepted before: its verdict was lost on the way, nothing else."""


@dataclass(frozen=True)
class Verdict:
    """What became of an update; ``parting`` if its round was over for us."""

    update: Update
    verdict: str
    reason: str
    parting: bool

    @property
    def accepted(self) -> bool:
        return self.verdict == messages.ACCEPTED


class Outbox:
    """``kept`` is the update that may still count; ``upload`` is its way out, once it was offered."""

    def __init__(self, job: str, client: str, kept: Update | None, *, accepted: bool) -> None:
        self.job, self.client = job, client
        self.kept = kept
        self.accepted_by: str | None = "" if accepted else None
        """The aggregator's instance that accepted what is kept; empty if it was one of an earlier process."""
        self.upload: Upload | None = None
        self.parting: Upload | None = None

    @property
    def key(self) -> tuple[int, str] | None:
        """Round and base of the update that is kept."""
        return (self.kept.round_number, self.kept.base) if self.kept else None

    @property
    def deadline(self) -> float:
        """When :meth:`tick` has something to do."""
        return min((way.deadline for way in (self.upload, self.parting) if way), default=float("inf"))

    def keep(self, update: Update) -> list[Effect]:
        """A new update is on disk."""
        # The same round trained again has the same file: it must not go with the update before it.
        is_other = self.kept is not None and self.kept.file != update.file
        effects: list[Effect] = [DropUpdate(self.kept)] if self.kept and is_other else []
        self.kept, self.accepted_by, self.upload = update, None, None
        return effects

    def offer(self, chunk_bytes: int, now: float) -> list[Effect]:
        """Begin to send the update that is kept."""
        assert self.kept is not None
        self.upload = Upload(self.job, self.client, self.kept, chunk_bytes)
        return self.upload.offer(now)

    def drop(self) -> list[Effect]:
        """The kept update will never count."""
        kept, self.kept, self.accepted_by, self.upload = self.kept, None, None, None
        return [DropUpdate(kept)] if kept else []

    def part(self, chunk_bytes: int, now: float) -> list[Effect]:
        """The kept update's round moved on: offer it once more, to be counted as late, then forget it."""
        assert self.kept is not None
        way = self.upload or Upload(self.job, self.client, self.kept, chunk_bytes)
        effects = self.end_parting()
        self.kept, self.accepted_by, self.upload, self.parting = None, None, None, way
        return [*effects, *way.part(now)]

    def end_parting(self) -> list[Effect]:
        parting, self.parting = self.parting, None
        if parting is None or (self.kept is not None and self.kept.file == parting.update.file):
            return []
        return [DropUpdate(parting.update)]

    def rejoined(self, now: float, *, lost: bool) -> list[Effect]:
        """The aggregator is back: offer at once what it may lack."""
        ways = [way for way in (self.upload, self.parting) if way]
        return [effect for way in ways for effect in way.rejoined(now, lost=lost)]

    def away(self) -> None:
        """Nobody can answer now."""
        for way in (self.upload, self.parting):
            if way is not None:
                way.away()

    def ack(
        self, event: AckArrived, aggregator: str, now: float
    ) -> tuple[list[Effect], Upload | Verdict | None]:
        """The aggregator answered: what to send, and the upload that went on or ended."""
        way = next((w for w in (self.upload, self.parting) if w and w.transfer == event.transfer), None)
        if way is None:
            return [], None
        effects = way.ack(event.ack, now)
        return (effects, way) if way.verdict is None else self._end(way, aggregator)

    def _end(self, way: Upload, aggregator: str) -> tuple[list[Effect], Verdict]:
        held_already = way.reason == HELD_ALREADY
        verdict = messages.ACCEPTED if held_already else way.verdict or ""
        reason = "" if held_already or way.reason == verdict else way.reason
        ended = Verdict(way.update, verdict, reason, way is self.parting)
        if ended.parting:
            kept: list[Effect] = [KeepAccepted(way.update)] if ended.accepted else []
            return [*kept, *self.end_parting()], ended
        if not ended.accepted:
            return self.drop(), ended
        self.accepted_by, self.upload = aggregator, None
        return [KeepAccepted(way.update)], ended

    def tick(self, now: float, unsent: int) -> list[Effect]:
        """Offer again after a silence; give up what parted."""
        effects = self.upload.tick(now, unsent) if self.upload else []
        if self.parting is not None:
            effects += self.parting.tick(now, unsent)
            effects += self.end_parting() if self.parting.over else []
        return effects
