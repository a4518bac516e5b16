"""A view that remembers."""

from __future__ import annotations

from aggregator import notices as seen


class Shown:
    def __init__(self) -> None:
        self.events: list[seen.Event] = []

    def show(self, event: seen.Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing to take away."""
