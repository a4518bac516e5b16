"""Questions to the task process, asked and waited for: for whoever predicts now and then, and holds no torch itself."""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor

from fl_protocol.errors import DataError
from fl_tasks import jobs
from fl_tasks.process import TaskProcess

LET_GO_S = 3.0


class Desk:
    """One question at a time, from any thread. The process starts with the first, and goes when it is let go."""

    def __init__(self, device: str = "cpu", plugin: str | None = None) -> None:
        self._answers: queue.SimpleQueue[jobs.Reply] = queue.SimpleQueue()
        self._process = TaskProcess(device=device, plugin=plugin, threads=1, deliver=self._answers.put)
        self._thread = ThreadPoolExecutor(1, "desk")  # the child dies with the thread that started it

    def ask(self, request: jobs.Request, *, last: bool = False) -> jobs.Reply:
        """The answer; ``last``: the process is let go after it. Raises DataError if it failed, in one line."""
        return self._thread.submit(self._ask, request, last).result()

    def _ask(self, request: jobs.Request, last: bool) -> jobs.Reply:
        self._process.submit(request)
        reply = self._answers.get()
        while isinstance(reply, jobs.Failed) and not reply.request:  # an idle process died: told late
            reply = self._answers.get()
        if last:
            self._process.stop(LET_GO_S)
        if isinstance(reply, jobs.Failed):
            raise DataError(_line(reply))
        return reply

    def close(self) -> None:
        """End the process, a question under way included."""
        self._process.kill()
        self._answers.put(jobs.Failed("Explain", jobs.PROCESS, "the reading room ends"))
        self._thread.shutdown(wait=False, cancel_futures=True)


def _line(failed: jobs.Failed) -> str:
    lines = failed.message.strip().splitlines() or [failed.kind]
    return lines[-1] if failed.kind == jobs.BUG else lines[0]
