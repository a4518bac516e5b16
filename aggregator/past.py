"""What rounds that have ended still mean: whose late update may count yet, and whose counts already. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from aggregator.round import Round
from fl_protocol.messages import LATE


@dataclass
class _Ended:
    base: str
    cohort: frozenset[str]
    counted: set[str] = field(default_factory=set)
    """Clients whose update of this round was accepted, in it or in a later one."""


class Past:
    """The last ``max_staleness`` rounds and one more, from the records of all (lines of rounds.jsonl, in order)."""

    def __init__(self, max_staleness: int, records: Iterable[dict[str, Any]] = ()) -> None:
        self.max_staleness = max_staleness
        self.last: dict[str, Any] | None = None
        self._ended: dict[int, _Ended] = {}
        self.losses: dict[str, float] = {}
        """The last loss that each client told: of a round's base model, on patients whom it holds out."""
        for record in records:
            self.add(record)

    @property
    def rounds_done(self) -> int:
        return int(self.last["round"]) if self.last else 0

    def add(self, record: dict[str, Any]) -> None:
        """A round ended."""
        self.last = record
        self._note_losses(record)
        stale = [(each["client_id"], each["round"]) for each in record.get("stale", ())]
        self._note(
            record["round"], record.get("base_sha256", ""), record["cohort"], record["accepted"], stale
        )

    def _note_losses(self, record: dict[str, Any]) -> None:
        told = record.get("sites", {}).items()
        self.losses.update((client_id, figures["loss"]) for client_id, figures in told if "loss" in figures)

    def close(self, closed: Round) -> None:
        """A round's set of updates is final: what is missing in it can only count in a later one."""
        self._note(closed.number, closed.base, closed.cohort, closed.accepted, closed.stale)

    def _note(
        self, number: int, base: str, cohort: Collection[str], accepted: Iterable[str],
        stale: Iterable[tuple[str, int]],
    ) -> None:  # fmt: skip
        self._ended[number] = _Ended(base, frozenset(cohort), set(accepted))
        for client_id, trained_for in stale:
            if trained_for in self._ended:
                self._ended[trained_for].counted.add(client_id)
        for old in [each for each in self._ended if each < number - self.max_staleness]:
            del self._ended[old]

    def counts_already(self, client_id: str, round_number: int) -> bool:
        """Whether the client's update of that round was accepted: if it comes again, only our answer was lost."""
        ended = self._ended.get(round_number)
        return ended is not None and client_id in ended.counted

    def in_time(self, round_number: int, ahead: int) -> str | None:
        """Why an update of that round is too old for round ``ahead``, or of no round that was, or None."""
        if not 0 < round_number < ahead:
            return "wrong_round"
        return LATE if ahead - round_number > self.max_staleness or round_number not in self._ended else None

    def admission(self, client_id: str, round_number: int, base: str) -> str | None:
        """Why an update that is in time cannot be admitted, by name, or None if it can."""
        ended = self._ended[round_number]
        if client_id not in ended.cohort:
            return "not_invited"
        if client_id in ended.counted:
            return LATE
        return "wrong_base" if base != ended.base else None
