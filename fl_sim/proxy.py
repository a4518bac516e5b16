"""A TCP proxy that makes a loopback connection as bad as a hospital's line, and worse: a shell around line.py.

    with FaultProxy(("127.0.0.1", 1883), PROFILES["rural"]) as proxy:
        start_edge(broker=proxy.where)
        proxy.cut()                 # every connection is reset, at once
        proxy.half_open()           # every connection goes dead silently, on both sides; new ones live
        with proxy.refusing(): ...  # nobody listens there
        with proxy.stalled(): ...   # the cable is out: nothing moves, nothing is lost
        proxy.shape(PROFILES["dialup"])

It runs in a thread with an asyncio loop of its own; all methods may be called from any other thread, and have taken
effect when they return. One proxy stands for one line: give each edge its own, or share one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from fl_sim.lanes import Counts, End, Path, State
from fl_sim.line import PROFILES, Line

PATIENCE_S = 10.0
SOCKET_BYTES = 256 * 1024
T = TypeVar("T")


class FaultProxy:
    """One line between whoever connects to :attr:`where` and ``target``, with faults at will.

    ``port``: where to listen on loopback (0: anywhere free). ``mqtt``: what passes is plain MQTT, whose frames can be
    doubled; else it may be anything, TLS too.
    """

    def __init__(
        self, target: tuple[str, int], line: Line = PROFILES["lan"], *, seed: int = 0, port: int = 0, mqtt: bool = False
    ) -> None:  # fmt: skip
        self._target, self._port = target, port
        self._state = State(line, random.Random(seed), mqtt)
        self._state.moving.set()
        self._paths: set[Path] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

    # --- life ---------------------------------------------------------------------------------------------------

    def start(self) -> FaultProxy:
        """Listen. Raises OSError if the port is taken."""
        self._thread.start()
        try:
            self._do(self._open)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Reset what is connected and stop listening."""
        if self._thread.is_alive():
            self._do(self._end)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE_S)
        elif not self._loop.is_closed():
            self._loop.close()

    def __enter__(self) -> FaultProxy:  # noqa: PYI034 - Self needs Python 3.11
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _do(self, what: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(what(), self._loop).result(PATIENCE_S)

    def _now(self, what: Callable[[], T]) -> T:
        """Call ``what`` in the proxy's thread."""

        async def call() -> T:
            return what()

        return self._do(call)

    # --- what a test reads --------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._port

    @property
    def where(self) -> str:
        """``HOST:PORT`` for ``--broker``."""
        return f"127.0.0.1:{self._port}"

    def counts(self) -> Counts:
        """A copy of the counters."""
        return self._now(lambda: Counts(**vars(self._state.counts)))

    def connected(self) -> int:
        """How many connections pass through now; those that went half-open count no more."""
        return self._now(lambda: sum(not path.dead for path in self._paths))

    # --- faults -------------------------------------------------------------------------------------------------

    def shape(self, line: Line) -> None:
        """The line is like this from now on, also for what is connected."""

        def change() -> None:
            self._state.line = line
            for path in self._paths:
                path.shape(line)

        self._now(change)

    def cut(self) -> int:
        """Reset every connection, both sides; returns how many. New ones are welcome."""
        return self._now(self._cut)

    def _cut(self) -> int:
        for path in list(self._paths):
            path.reset()
        self._state.counts.cut += len(self._paths)
        return len(self._paths)

    def half_open(self) -> int:
        """Every connection goes dead: what is sent is dropped, and neither side hears of the other's end. For good.

        As behind a firewall that forgot them. Returns how many; new connections live.
        """

        def silence() -> int:
            alive = [path for path in self._paths if not path.dead]
            for path in alive:
                path.dead = True
            return len(alive)

        return self._now(silence)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens meanwhile. What is connected stays so: ``cut`` it first for an outage."""
        self.refuse()
        try:
            yield
        finally:
            self.accept()

    def refuse(self) -> None:
        """Stop listening, until :meth:`accept`."""
        self._do(self._shut)

    def accept(self) -> None:
        """Listen again on the same port."""
        self._do(self._open)

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Nothing moves meanwhile, either way, and nothing is lost: TCP makes up for it when the cable is back."""
        self.stall()
        try:
            yield
        finally:
            self.flow()

    def stall(self) -> None:
        """Nothing moves, until :meth:`flow`."""
        self._now(self._state.moving.clear)

    def flow(self) -> None:
        """Everything moves again."""
        self._now(self._state.moving.set)

    def double(self, on: bool) -> None:
        """Whether frames that come down this line are delivered twice and out of order. Needs ``mqtt``."""
        if not self._state.mqtt:
            raise ValueError("frames can be doubled only by a FaultProxy(mqtt=True)")

        def change() -> None:
            self._state.doubled = on

        self._now(change)

    def replay(self, after_s: float = 0.0) -> int:
        """Deliver once more, so many seconds from now, what was delivered since the last replay; returns how many.

        Only what was delivered while frames were doubled; nobody gets frames of an earlier connection.
        """
        return self._now(lambda: sum(path.replay(after_s) for path in self._paths if not path.dead))

    # --- in the loop's thread -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        if self._server is not None:
            return
        with contextlib.closing(socket.socket()) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
            listening.bind(("127.0.0.1", self._port))
            self._port = listening.getsockname()[1]
            self._server = await asyncio.start_server(self._serve, sock=listening.dup())

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)

    async def _end(self) -> None:
        await self._shut()
        self._cut()
        for task in list(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._state.tasks.add(task)
        near = End(reader, writer)
        try:
            self._state.counts.connections += 1
            await self._state.moving.wait()
            try:
                far = End(*await asyncio.open_connection(*self._target))
            except OSError:
                self._state.counts.refused += 1
                return
            path = Path(self._state, near, far)
            self._paths.add(path)
            try:
                await path.carry()
            finally:
                self._paths.discard(path)
                self._state.counts.copies += path.copies
                far.reset()
        except asyncio.CancelledError:
            pass  # the proxy ends; a task of asyncio's server must not end as cancelled, or it is logged as a fault
        finally:
            near.reset()
            self._state.tasks.discard(task)
