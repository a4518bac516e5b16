"""Which global model a reading room wants, from what the job's topics say: it reads them, joins nothing, trains nothing.

Pure. The newest model is the base of the round that is open, or of the job that is over. A first model, which nobody
has trained, is not wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_client import events as ev
from edge_client.library import Library
from edge_client.newest import Newest
from fl_protocol.messages import RoundState, figures_of

MOST_KNOWN = 64
NOT_ITS_NAME = "what the broker holds under this name is something else"


@dataclass(frozen=True)
class Arrived:
    """The newest model is on disk, whole and true."""

    digest: str


@dataclass(frozen=True)
class Told:
    """What a round says of the model that it made."""

    round_number: int
    sites: int | None
    figures: Mapping[str, float] = field(hash=False)


@dataclass(frozen=True)
class Refused:
    """A model is not what it is called."""

    digest: str
    reason: str


Effect = ev.Effect | Arrived | Told | Refused


class Following:
    """One job, followed."""

    def __init__(self, job: str, on_disk: Collection[str] = ()) -> None:
        self.job = job
        self._library = Library(job, on_disk)
        self._newest = Newest()
        self._base: str | None = None
        self._rounds: OrderedDict[str, int] = OrderedDict()
        self._announced: set[str] = set()
        self._refused: set[str] = set()
        self.state: RoundState | None = None

    @property
    def deadline(self) -> float:
        """When Ticked has something to do."""
        return self._library.deadline

    @property
    def fetching(self) -> bool:
        """Whether a model is on its way."""
        return self._library.download is not None

    def handle(self, event: Any, now: float) -> list[Effect]:
        """The effects of one event; events that mean nothing here have none."""
        effects: list[Effect] = []
        if isinstance(event, RoundState):
            effects += self._round(event)
        elif isinstance(event, ev.ManifestArrived):
            self._note(event)
        effects += self._library.handle(event, now)
        effects += self._library.want(self._wanted(), now)
        return [*effects, *self._outcome()]

    def _round(self, state: RoundState) -> list[Effect]:
        if not self._newest.takes(state):
            return []
        self.state, self._base = state, state.base
        last = state.last
        if last is None:
            return []
        told: list[Effect] = []
        if last.accepted:
            told.append(Told(last.round_number, last.accepted, dict(last.metrics or {})))
        if shared := figures_of(last.client_metrics or {}):
            told.append(
                Told(last.round_number - 1, None, {f"sites_{name}": value for name, value in shared.items()})
            )
        return told

    def _note(self, event: ev.ManifestArrived) -> None:
        text = (event.manifest.metadata or {}).get("round", "0")
        self._rounds[event.digest] = (
            int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
        )
        while len(self._rounds) > MOST_KNOWN:
            self._rounds.popitem(last=False)

    def _wanted(self) -> str | None:
        return self._base if self._base is not None and self._rounds.get(self._base, 0) > 0 else None

    def _outcome(self) -> list[Effect]:
        digest = self._wanted()
        if digest is None:
            return []
        if self._library.has(digest) and digest not in self._announced:
            self._announced.add(digest)
            return [Arrived(digest)]
        if self._library.is_broken(digest) and digest not in self._refused:
            self._refused.add(digest)
            return [Refused(digest, NOT_ITS_NAME)]
        return []
