"""The stream: everything first, then what changed; a slow reader gets the newest, and all streams end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from fl_web.dashboard.feed import Feed
from fl_web.dashboard.parts import Parts
from fl_web.dashboard.watch import Watch


class Board:
    """A watch without a broker."""

    def __init__(self) -> None:
        self.parts = Parts()
        self.on_change: Any = None

    def since(self, version: int) -> tuple[int, int, dict[str, str]]:
        return self.parts.version, self.parts.epoch, self.parts.since(version)


async def read(stream: AsyncIterator[bytes]) -> tuple[str, Any]:
    while True:
        text = (await asyncio.wait_for(anext(stream), 5)).decode()
        fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        if "data" in fields:
            return fields["event"], json.loads(fields["data"]).get("parts")


def test_first_everything_then_what_changed_and_the_newest_alone() -> None:
    async def run() -> None:
        board = Board()
        feed = Feed(cast(Watch, board))
        board.parts.put("a", 1)
        board.parts.put("b", 1)
        stream = feed.stream(lambda: True)
        assert await read(stream) == ("all", {"a": 1, "b": 1})
        for value in range(2, 1000):
            board.parts.put("b", value)
            board.on_change()
        assert await read(stream) == ("some", {"b": 999})
        waiting = asyncio.ensure_future(read(stream))
        await asyncio.sleep(0.15)
        board.parts.put("c", 1)
        threading.Thread(target=board.on_change).start()
        assert await waiting == ("some", {"c": 1})
        board.parts.epoch += 1
        board.parts.put("d", 1)
        board.on_change()
        assert await read(stream) == ("all", {"a": 1, "b": 999, "c": 1, "d": 1})

    asyncio.run(run())


def test_streams_end_with_the_server_and_with_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl_web.dashboard.feed.BEAT_S", 0.3)

    async def run() -> None:
        board = Board()
        feed = Feed(cast(Watch, board))
        board.parts.put("a", 1)
        allowed = [True]
        streams = [feed.stream(lambda: True), feed.stream(lambda: allowed[0])]
        for stream in streams:
            await read(stream)
        assert feed.streams == 2
        allowed[0] = False
        beats = await _rest(streams[1])
        assert len(beats) == 1 and beats[0].startswith(b"event: beat")
        reading = asyncio.ensure_future(_rest(streams[0]))
        await asyncio.sleep(0.15)
        feed.end()
        assert all(part.startswith(b"event: beat") for part in await asyncio.wait_for(reading, 5))
        assert feed.streams == 0

    asyncio.run(run())


async def _rest(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [part async for part in stream]
