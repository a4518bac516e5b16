"""One connection through the fault proxy: a lane each way, in the proxy's asyncio loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections import deque
from dataclasses import dataclass, field

from fl_sim.frames import Doubling, NotMqtt, Packets
from fl_sim.line import FLIGHT_BYTES, Flow, Line

HELD_S = 0.05
"""A frame that waits for another to overtake it waits no longer than this."""
RESET = struct.pack("ii", 1, 0)


@dataclass
class Counts:
    """What has passed so far. Bytes are counted as they come in, before anything is done to them."""

    connections: int = 0
    refused: int = 0
    cut: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    dropped_bytes: int = 0
    copies: int = 0


@dataclass
class State:
    """What all connections of a proxy share."""

    line: Line
    rng: random.Random
    mqtt: bool
    doubled: bool = False
    counts: Counts = field(default_factory=Counts)
    moving: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class End:
    """A socket, seen from the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def reset(self) -> None:
        """Away with it: RST, unless it was closed in order before."""
        transport = self.writer.transport
        if not transport.is_closing():
            with contextlib.suppress(OSError):
                self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            transport.abort()

    async def close(self) -> None:
        """FIN behind all that was written."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Path:
    """One connection through the proxy: a lane each way."""

    def __init__(self, state: State, near: End, far: End) -> None:
        self.dead = False
        self._carrying: list[asyncio.Task[None]] = []
        self._near, self._far = near, far
        self._up = Lane(state, self, near, far, up=True)
        self._down = Lane(state, self, far, near, up=False)

    @property
    def copies(self) -> int:
        return self._down.doubling.copies

    async def carry(self) -> None:
        """Until one side has ended and the other knows; if the path is dead, until both have ended by themselves."""
        lanes = self._carrying = [asyncio.create_task(lane.carry()) for lane in (self._up, self._down)]
        try:
            await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
            if self.dead:
                await asyncio.wait(lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    def shape(self, line: Line) -> None:
        self._up.flow.shape(line)
        self._down.flow.shape(line)

    def reset(self) -> None:
        for lane in self._carrying:
            lane.cancel()
        self._near.reset()
        self._far.reset()

    def replay(self, after_s: float) -> int:
        return self._down.replay(after_s)


class Lane:
    """One direction: reads as fast as the line takes, and writes each piece when it has come through."""

    def __init__(self, state: State, path: Path, source: End, sink: End, *, up: bool) -> None:
        self._state, self._path, self._up = state, path, up
        self._source, self._sink = source, sink
        rng = random.Random(state.rng.random())
        self.flow = Flow(state.line, up=up, rng=rng)
        self.doubling = Doubling(rng)
        self._packets = Packets() if state.mqtt and not up else None
        self._entering = asyncio.Lock()
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._flight_bytes = 0
        self._change = asyncio.Event()
        self._over = False

    async def carry(self) -> None:
        """Until the source has ended and all that it sent has come out, or the sink is gone."""
        delivering = asyncio.create_task(self._deliver())
        try:
            with contextlib.suppress(OSError):
                await self._take_in()
            self._over = True
            self._change.set()
            await delivering
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

    async def _take_in(self) -> None:
        while data := await self._read():
            counts = self._state.counts
            counts.up_bytes += len(data) if self._up else 0
            counts.down_bytes += 0 if self._up else len(data)
            if self._path.dead:
                counts.dropped_bytes += len(data)
                continue
            for packet in self._cut_up(data):
                await self._enter(packet)

    async def _read(self) -> bytes:
        """Some bytes; a frame that is held back goes on its way if none come."""
        reading = self._source.reader.read(self.flow.piece_bytes)
        if not self.doubling.holding:
            return await reading
        task = asyncio.ensure_future(reading)
        done, _ = await asyncio.wait({task}, timeout=HELD_S)
        if not done:
            for packet in self.doubling.release():
                await self._enter(packet)
        return await task

    def _cut_up(self, data: bytes) -> list[bytes]:
        """As it came; or whole packets, doubled if they are to be."""
        if self._packets is None:
            return [data]
        try:
            packets = self._packets.feed(data)
        except NotMqtt:
            self._packets = None
            return [data]
        if not self._state.doubled:
            return [*self.doubling.release(), *packets]
        return [each for packet in packets for each in self.doubling.deliver(packet)]

    async def _enter(self, data: bytes) -> None:
        """Hand ``data`` to the line, piece by piece, as it takes it."""
        size = self.flow.piece_bytes
        async with self._entering:  # a replay must not come between the pieces of a packet
            for at in range(0, len(data), size):
                await self._room()
                piece = data[at : at + size]
                self._under_way.append((self.flow.enter(len(piece), time.monotonic()), piece))
                self._flight_bytes += len(piece)
                self._change.set()

    async def _room(self) -> None:
        while self._flight_bytes > FLIGHT_BYTES:
            self._change.clear()
            await self._change.wait()
        now = time.monotonic()
        if (ready := self.flow.ready_at(now)) > now:
            await asyncio.sleep(ready - now)

    def replay(self, after_s: float) -> int:
        """Put what was delivered before on its way again."""
        again = self.doubling.replay() if self._state.doubled else []
        task = asyncio.ensure_future(self._enter_late(again, after_s))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        return len(again)

    async def _enter_late(self, packets: list[bytes], after_s: float) -> None:
        await asyncio.sleep(after_s)
        for packet in packets:
            await self._enter(packet)

    async def _deliver(self) -> None:
        while True:
            while not self._under_way:
                if self._over:
                    await self._pass_on_end()
                    return
                self._change.clear()
                await self._change.wait()
            instant, piece = self._under_way.popleft()
            if (left := instant - time.monotonic()) > 0:
                await asyncio.sleep(left)
            await self._state.moving.wait()
            self._flight_bytes -= len(piece)
            self._change.set()
            if self._path.dead:
                self._state.counts.dropped_bytes += len(piece)
                continue
            try:
                self._sink.writer.write(piece)
                await self._sink.writer.drain()
            except OSError:
                return

    async def _pass_on_end(self) -> None:
        if not self._path.dead:
            await self._state.moving.wait()
            await self._sink.close()
