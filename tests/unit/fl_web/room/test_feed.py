"""Streams that say what changed, and end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from fl_web.room.feed import MOST, Feed


def test_a_stream_begins_with_the_state_and_goes_on_with_changes() -> None:
    state: dict[str, Any] = {"n": 1}

    async def run() -> list[str]:
        feed = Feed(lambda: dict(state))
        lines, told = feed.lines(), []
        told.append(await anext_(lines))
        state["n"] = 2
        threading.Thread(target=feed.changed).start()
        told.append(await anext_(lines))
        waiting = asyncio.ensure_future(anext_(lines))
        await asyncio.sleep(0)
        feed.close()
        try:
            told.append(await waiting)
        except StopAsyncIteration:
            told.append("end")
        return told

    assert asyncio.run(run()) == ['data: {"n": 1}\n\n', 'data: {"n": 2}\n\n', "end"]


async def anext_(lines: Any) -> str:
    found: str = await asyncio.wait_for(lines.__anext__(), 20)
    return found


def test_streams_are_bounded_and_those_that_end_make_room() -> None:
    async def run() -> list[bool]:
        feed = Feed(dict)
        streams = [feed.lines() for _ in range(MOST)]
        for stream in streams:
            await anext_(stream)
        found = [feed.full]
        await streams[0].aclose()  # type: ignore[attr-defined]
        return [*found, feed.full]

    assert asyncio.run(run()) == [True, False]


def test_a_change_before_anybody_listens_is_nothing() -> None:
    Feed(dict).changed()
