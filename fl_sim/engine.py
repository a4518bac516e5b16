"""Who trains for the virtual clients. An engine takes requests as an edge's task process does, and runs many at once.

:class:`Crew` is task processes on this machine; ray_engine.py hands the same requests to a Ray cluster. Files hold
what is trained and what comes of it; a request and its reply name them, in a few hundred bytes.
"""

from __future__ import annotations

import heapq
import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from fl_protocol.errors import ConfigError, HilumError
from fl_tasks import jobs
from fl_tasks.process import TaskProcess

Key = Hashable
SOON = float("-inf")
"""The priority of what somebody waits for already."""


class Engine(Protocol):
    """Requests by key. Of those that wait, the one with the smallest ``priority`` is begun first."""

    def begin(self, key: Key, request: jobs.Request, priority: float = SOON) -> None: ...

    def result(self, key: Key) -> jobs.Reply:
        """Wait for the answer to ``key``, and forget it. Raises HilumError where the engine itself failed."""
        ...

    def drop(self, key: Key) -> None:
        """Nobody will ask for the result: it need not be begun, or ended."""
        ...

    def everywhere(self, request: jobs.Request) -> jobs.Reply:
        """Let every worker answer ``request``, one first and then the others; the first one's answer."""
        ...

    def close(self) -> None:
        """Leave nothing running."""
        ...


@dataclass(order=True)
class _Job:
    priority: float
    order: int
    key: Key = field(compare=False)
    request: jobs.Request = field(compare=False)
    dropped: bool = field(compare=False, default=False)


class Pool(ABC):
    """A number of workers, each with one request at a time, and the order in which requests are begun.

    A worker is given its next request by the thread that brings its last reply, so that none waits for the owner.
    """

    def __init__(self, workers: int) -> None:
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._order = 0
        self._running: list[_Job | None] = [None] * workers
        self._known: dict[Key, _Job] = {}
        self._replies: dict[Key, jobs.Reply] = {}
        self._broken: HilumError | None = None

    @abstractmethod
    def _send(self, index: int, request: jobs.Request) -> None:
        """Let that worker begin; :meth:`_delivered` is called, on another thread, with what comes of it."""

    @abstractmethod
    def _cancel(self, index: int) -> None:
        """Nobody wants what that worker is at: it may give it up, and deliver whatever it likes."""

    @abstractmethod
    def _stop(self) -> None:
        """End all workers."""

    def begin(self, key: Key, request: jobs.Request, priority: float = SOON) -> None:
        with self._changed:
            self._order += 1
            job = _Job(priority, self._order, key, request)
            self._known[key] = job
            heapq.heappush(self._waiting, job)
            for index in range(len(self._running)):
                self._give(index)

    def result(self, key: Key) -> jobs.Reply:
        with self._changed:
            self._changed.wait_for(lambda: self._broken or key in self._replies)
            if self._broken:
                raise self._broken
            del self._known[key]
            return self._replies.pop(key)

    def drop(self, key: Key) -> None:
        with self._changed:
            job = self._known.pop(key, None)
            if job is None:
                return
            job.dropped = True
            if self._replies.pop(key, None) is not None:
                _throw_away(job.request)
            if job in self._running:
                self._cancel(self._running.index(job))

    def everywhere(self, request: jobs.Request) -> jobs.Reply:
        self.begin(("everywhere", 0), request)
        first = self.result(("everywhere", 0))
        others = [("everywhere", index) for index in range(1, len(self._running))]
        if not isinstance(first, jobs.Failed):
            self._each_of_the_others(request, others)
        return first

    def _each_of_the_others(self, request: jobs.Request, keys: list[tuple[str, int]]) -> None:
        """Nothing else runs now: each takes one. The one that answered first would answer again at no cost."""
        for key in [("everywhere", -1), *keys]:
            self.begin(key, request)
        for key in [("everywhere", -1), *keys]:
            self.result(key)

    def close(self) -> None:
        with self._changed:
            self._waiting.clear()
            self._broken = self._broken or HilumError("the workers were stopped")
            self._changed.notify_all()
        self._stop()

    def _give(self, index: int) -> None:
        """Let an idle worker begin what waits first. The lock is held."""
        if self._running[index] is not None:
            return
        while self._waiting:
            job = heapq.heappop(self._waiting)
            if not job.dropped:
                self._running[index] = job
                self._send(index, job.request)
                return

    def _delivered(self, index: int, reply: jobs.Reply) -> None:
        if isinstance(reply, jobs.TrainingProgress):
            return
        with self._changed:
            job, self._running[index] = self._running[index], None
            if isinstance(reply, jobs.Failed) and reply.kind in (jobs.PROCESS, jobs.BUG, jobs.MEMORY):
                self._broken = HilumError(f"a worker failed ({reply.kind}): {reply.message.strip()}")
            else:
                if job is not None and not job.dropped:
                    self._replies[job.key] = reply
                elif job is not None:
                    _throw_away(job.request)
                self._give(index)
            self._changed.notify_all()


class Crew(Pool):
    """``workers`` task processes, each with one torch thread and its own resident module."""

    def __init__(self, workers: int, *, device: str = "cpu", plugin: str | None = None) -> None:
        super().__init__(workers)
        self._tasks = [
            TaskProcess(device=device, plugin=plugin, threads=1, deliver=partial(self._delivered, index))
            for index in range(workers)
        ]

    @property
    def pids(self) -> list[int]:
        """Of the processes that run now."""
        return [task.pid for task in self._tasks if task.pid is not None]

    def _send(self, index: int, request: jobs.Request) -> None:
        self._tasks[index].submit(request)

    def _cancel(self, index: int) -> None:
        self._tasks[index].cancel()

    def _stop(self) -> None:
        for task in self._tasks:
            task.stop()


def _throw_away(request: jobs.Request) -> None:
    """What was written for nobody: a training may come to its end before it hears that it was dropped."""
    if isinstance(request, jobs.Train):
        for file in filter(None, (request.out, request.kept_out)):
            Path(file).unlink(missing_ok=True)


def answered(reply: jobs.Reply) -> jobs.Reply:
    """``reply``, unless it is a failure: then the error that it stands for."""
    if isinstance(reply, jobs.Failed):
        raise ConfigError(reply.message) if reply.kind == jobs.DATA else HilumError(reply.message)
    return reply
