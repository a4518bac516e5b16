"""Telling what comes late from what is new: a broker, a bridge or a line may repeat and reorder. Pure."""

from __future__ import annotations

from collections import deque
from typing import Protocol


class Counted(Protocol):
    """What an aggregator's process says over and over, counting up."""

    @property
    def instance(self) -> str | None: ...

    @property
    def seq(self) -> int: ...


class Newest:
    """What was heard last on one topic of the aggregator's."""

    def __init__(self) -> None:
        self._known: Counted | None = None
        self._superseded: deque[str] = deque(maxlen=16)

    def takes(self, state: Counted) -> bool:
        """Whether ``state`` is not older than what is known; then it is what is known."""
        known = self._known
        if known is not None and state.instance == known.instance and state.seq < known.seq:
            return False
        if state.instance in self._superseded:
            return False
        if known is not None and known.instance is not None and known.instance != state.instance:
            self._superseded.append(known.instance)
        self._known = state
        return True
