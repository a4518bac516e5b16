"""What an owner has subscribed to: asked for in any thread, told to the broker in the connection's, again after every cut.

The library's objects are Any here: only transport.py imports it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

FILTERS_A_PACKET = 8
"""As many as every broker takes in one SUBSCRIBE (AWS IoT Core's quota)."""


class Subscriptions:
    """The filters wanted now, and what the broker has not been told of them."""

    def __init__(self) -> None:
        self._filters: dict[str, None] = {}
        self._changes: deque[tuple[bool, tuple[str, ...]]] = deque()

    def change(self, filters: Sequence[str], *, wanted: bool) -> None:
        """Want these filters, or do not want them any more. In any thread."""
        self._changes.append((wanted, tuple(filters)))

    @property
    def changed(self) -> bool:
        return bool(self._changes)

    def renew(self, client: Any) -> None:
        """Tell a connection that begins all that is wanted."""
        self._collect()
        _subscribe(client, self._filters)

    def apply(self, client: Any) -> None:
        """Tell the connection what has changed, in the order in which it was asked for."""
        for wanted, filters in self._collect():
            if wanted:
                _subscribe(client, filters)
            elif filters:
                client.unsubscribe(list(filters))

    def _collect(self) -> list[tuple[bool, tuple[str, ...]]]:
        changes = []
        while self._changes:
            wanted, filters = change = self._changes.popleft()
            for each in filters:
                if wanted:
                    self._filters[each] = None
                else:
                    self._filters.pop(each, None)
            changes.append(change)
        return changes


def _subscribe(client: Any, filters: Iterable[str]) -> None:
    wanted = [(each, 1) for each in filters]
    for at in range(0, len(wanted), FILTERS_A_PACKET):
        client.subscribe(wanted[at : at + FILTERS_A_PACKET])
