"""Clients that are late round after round: an operator can do something about it, once it is said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

IN_A_ROW = 3
MOST_NAMES = 5


class Stragglers:
    """Counts in how many rounds running each client was a straggler; names each once."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._named: set[str] = set()

    def add(self, record: Mapping[str, Any]) -> list[str]:
        """A round ended: the clients that have been late so often now for the first time.

        A client that was not invited is as late as it was.
        """
        late = set(record["stragglers"])
        for name in set(record["cohort"]) - late:
            self._running.pop(name, None)
        for name in late:
            self._running[name] = self._running.get(name, 0) + 1
        new = sorted(name for name in late if self._running[name] >= IN_A_ROW and name not in self._named)
        self._named.update(new)
        return new


def advice(names: list[str]) -> str:
    """What to tell of them."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    who = ", ".join(names[:MOST_NAMES]) + more
    verb = "were stragglers" if len(names) > 1 else "was a straggler"
    return (
        f"{who} {verb} in {IN_A_ROW} rounds running, so the model learns nothing from there: wait for everybody with "
        "--quorum 1.0, or longer with more --grace, or give all the same amount of work with --local-steps"
    )
