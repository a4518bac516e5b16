"""What operators want of the run under way. Pure. A restart forgets it: who starts a run wants it to go on."""

from __future__ import annotations

from dataclasses import dataclass

from aggregator.events import Asked, LastRoundSet, Paused, Resumed

PAUSED, STOPPING, STOPPED = (
    "paused by an operator", "stops after this round, as an operator asked", "stopped by an operator",
)  # fmt: skip


@dataclass
class Wishes:
    """``paused``: no further round is to open; ``stopping``: the run is to stop when the open one has ended."""

    paused: bool = False
    stopping: bool = False

    def objection(self, asked: Asked) -> str:
        """Why it makes no sense to ask for that now, for a person; empty if it does."""
        if self.stopping and not isinstance(asked, Resumed):
            return "the run stops after this round already"
        if isinstance(asked, Paused) and self.paused:
            return "the run is paused already"
        if isinstance(asked, Resumed) and not (self.paused or self.stopping):
            return "the run is not paused"
        return ""

    def note(self, asked: Asked) -> None:
        """An operator asked for something that there is no objection to."""
        if isinstance(asked, Resumed):
            self.paused = self.stopping = False
        self.paused = self.paused or isinstance(asked, Paused)
        self.stopping = self.stopping or isinstance(asked, LastRoundSet)

    def reason(self, *, waiting: bool) -> str:
        """What others are told of it; between rounds (``waiting``) or in one."""
        if self.stopping:
            return STOPPING
        return PAUSED if self.paused and waiting else ""
