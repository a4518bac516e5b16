"""Server-sent events: every page hears at once when something changed, whichever thread changed it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

MOST = 64
HEARTBEAT_S = 15.0


class Feed:
    """``state()`` to everybody who listens: when they come, and whenever :meth:`changed` was called."""

    def __init__(self, state: Callable[[], dict[str, Any]]) -> None:
        self._state = state
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bells: set[asyncio.Event] = set()
        self._closed = False

    @property
    def full(self) -> bool:
        return len(self._bells) >= MOST

    def changed(self) -> None:
        """From any thread."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._ring)

    def close(self) -> None:
        """End every stream; called in the server's loop."""
        self._closed = True
        self._ring()

    def _ring(self) -> None:
        for bell in self._bells:
            bell.set()

    async def lines(self) -> AsyncIterator[str]:
        """The stream of one page."""
        self._loop = asyncio.get_running_loop()
        bell = asyncio.Event()
        self._bells.add(bell)
        last = ""
        try:
            while not self._closed:
                bell.clear()
                now = json.dumps(self._state())
                yield f"data: {now}\n\n" if now != last else ": still here\n\n"
                last = now
                with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                    await asyncio.wait_for(bell.wait(), HEARTBEAT_S)
        finally:
            self._bells.discard(bell)
