"""What an aggregator said of its run, as a story with instants: read from the lines it prints. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_OPENED = re.compile(r"round=(\d+) opened ")
_RESUMED = re.compile(r"resumed round=(\d+) ")
_ACCEPTED = re.compile(r"round=(\d+) accepted client=(\S+)")
_ENDED = re.compile(r"round=(\d+) outcome=(\w+)")
_ALL_DONE = re.compile(r"warning: this run has had its (\d+) rounds")


@dataclass
class Story:
    """Instants are those at which a line was read: never before what it tells had happened."""

    round_number: int = 0
    """The round under way, or the one after the last that ended."""
    since: float = 0.0
    opened: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    outcomes: dict[int, str] = field(default_factory=dict)
    accepted: dict[tuple[str, int], float] = field(default_factory=dict)
    """When the update of a client for a round was accepted first."""
    moved_at: float = 0.0
    """When a round last opened or ended, or an update was accepted."""

    def hear(self, line: str, now: float) -> None:
        """One line of the aggregator's; those that tell nothing of rounds change nothing."""
        if found := _OPENED.match(line) or _RESUMED.match(line):
            self.opened.setdefault(int(found[1]), now)
            self._enter(int(found[1]), now)
        elif found := _ACCEPTED.match(line):
            self.accepted.setdefault((found[2], int(found[1])), now)
            self.moved_at = now
        elif found := _ENDED.match(line):
            number = int(found[1])
            self.ended[number], self.outcomes[number] = now, found[2]
            self._enter(number + 1, now)
        elif found := _ALL_DONE.match(line):
            self._enter(int(found[1]) + 1, now)

    def _enter(self, number: int, now: float) -> None:
        self.moved_at = now
        for before in range(
            max(1, self.round_number), number
        ):  # a killed aggregator may not have come to say so
            self.ended.setdefault(before, now)
        if number > self.round_number:
            self.round_number, self.since = number, now

    def seconds(self) -> float:
        """From the opening of the first round to the end of the last."""
        if not self.opened or not self.ended:
            return 0.0
        return max(self.ended.values()) - min(self.opened.values())
