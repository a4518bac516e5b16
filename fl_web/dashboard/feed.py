"""Server-sent events: everything at first, then what changed, at most ten times a second.

A browser that reads slowly is behind in time, never in a queue: what it gets next is the newest of each part.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from fl_web.dashboard.watch import Watch

BATCH_S = 0.1
BEAT_S = 15.0
MOST_STREAMS = 100


class Feed:
    """All open streams of one server."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        watch.on_change = self.ring
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._rung = False
        self._ended = False
        self.streams = 0

    @property
    def full(self) -> bool:
        return self.streams >= MOST_STREAMS

    def ring(self) -> None:
        """Something changed. From any thread; many rings before anybody looks are one."""
        if self._loop is not None and not self._rung:
            self._rung = True
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._rung = False
        news, self._news = self._news, asyncio.Event()
        if news is not None:
            news.set()

    def end(self) -> None:
        """End all streams. In the server's loop."""
        self._ended = True
        self._wake()

    async def stream(self, allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        """One browser's events, for as long as ``allowed()``."""
        self._loop = asyncio.get_running_loop()
        self._news = self._news or asyncio.Event()
        self.streams += 1
        try:
            seen, epoch = 0, -1
            yield b"retry: 2000\n\n"
            while not self._ended and allowed():
                news = self._news
                version, now_epoch, changed = self._watch.since(seen if epoch >= 0 else 0)
                if epoch not in (-1, now_epoch):
                    version, now_epoch, changed = self._watch.since(0)
                    epoch = -1
                if changed:
                    yield event("all" if epoch == -1 else "some", version, changed)
                    seen, epoch = version, now_epoch
                    await asyncio.sleep(BATCH_S)
                if not await _within(news, BEAT_S):
                    yield f'event: beat\ndata: {{"now":{time.time():.3f}}}\n\n'.encode()
        finally:
            self.streams -= 1


async def _within(news: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(news.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


def event(kind: str, version: int, parts: dict[str, str]) -> bytes:
    """One event: JSON has no line breaks, so one line holds it. Names need no escapes: see topics.NAME."""
    body = ",".join(f'"{name}":{text}' for name, text in parts.items())
    return f'event: {kind}\nid: {version}\ndata: {{"now":{time.time():.3f},"parts":{{{body}}}}}\n\n'.encode()
