"""The end of a job, for an edge: the final model is fetched, and then it leaves. Pure."""

from __future__ import annotations

from collections.abc import Callable

from edge_client.events import Effect, Leave
from edge_client.library import Library
from fl_protocol.errors import BrokerUnavailable

OLD_NEWS_S = 10.0
"""An ended run on the broker may be the one before: its aggregator has this long to say what is true now."""
LAST_MODEL_S = 120.0
"""After the last round so long without a piece of the final model: it will not come."""


class Departure:
    """What is waited for once the round on the broker is the last one, and for how long."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._patient_until = float("inf")
        self._finished_at: float | None = None

    def connected(self, now: float) -> None:
        """What is retained on this broker may be old news for a while."""
        self._patient_until = now + OLD_NEWS_S

    def stay(self) -> None:
        """There are rounds to come."""
        self._finished_at = None

    def deadline(self, *, finished: bool, welcomed: bool) -> float:
        """When to look again; infinite if nothing is waited for."""
        news = self._patient_until if finished and not welcomed else float("inf")
        return min(news, float("inf") if self._finished_at is None else self._give_up_at)

    def pursue(
        self, base: str | None, parting: Callable[[], list[Effect]], now: float, *, welcomed: bool
    ) -> list[Effect]:
        """Want the final model ``base``; with it, and after ``parting``, leave."""
        if not welcomed and now < self._patient_until:
            return []
        if base is None or self._library.has(base):
            return [*parting(), Leave(model=base)]
        self._finished_at = now if self._finished_at is None else self._finished_at
        if now >= self._give_up_at:
            lost = f"the final model did not come within {LAST_MODEL_S:g} s: join again, or ask for the file"
            return [Leave(BrokerUnavailable(lost))]
        return self._library.want(base, now)

    @property
    def _give_up_at(self) -> float:
        assert self._finished_at is not None
        return max(self._finished_at, self._library.moved_at) + LAST_MODEL_S
