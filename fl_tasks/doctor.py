"""What a doctor asks of the task process, and what the answers mean: torch, the device, the images. No torch here."""

from __future__ import annotations

import queue
import time
from typing import Any

from fl_protocol import doctor as dr
from fl_protocol.messages import DataSummary
from fl_tasks import jobs
from fl_tasks.jobs import DataOptions, Failed, Inspect, Inspected, Prepare, Prepared, Reply, Request
from fl_tasks.process import TaskProcess

INSPECT_S, DATA_S = 120.0, 3600.0
"""Bounds: torch from a cold SD card takes a minute, and a large archive of images several."""
FEW_IMAGES = 20
RARE = 0.05


class Questions:
    """A task process that answers one question after the other."""

    def __init__(self, device: str, plugin: str | None, threads: int | None = None) -> None:
        self._replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._tasks = TaskProcess(device=device, plugin=plugin, threads=threads, deliver=self._replies.put)
        self.device = device

    def ask(self, request: Request, timeout_s: float = INSPECT_S) -> Reply:
        """The answer, or a Failed that says why there is none."""
        self._tasks.submit(request)
        until = time.monotonic() + timeout_s
        name = type(request).__name__
        while (left_s := until - time.monotonic()) > 0:
            try:  # in short waits, so that Ctrl-C is heard
                reply: Reply = self._replies.get(timeout=min(left_s, 0.5))
            except queue.Empty:
                continue
            return reply
        return Failed(name, jobs.PROCESS, f"the task process has not answered within {timeout_s:g} s")

    def inspect(self, task: str) -> dr.Finding:
        """Torch and device."""
        return judge_device(self.ask(Inspect(task)), self.device)

    def data(self, options: DataOptions) -> list[dr.Finding]:
        """The folder."""
        return judge_data(self.ask(Prepare(options), DATA_S), options)

    def stop(self) -> None:
        self._tasks.stop(1.0)


def judge_device(reply: Reply, wanted: str) -> dr.Finding:
    """What it computes with, and where."""
    if isinstance(reply, Inspected):
        return dr.ok("device", reply.device + (f" ({reply.software})" if reply.software else ""))
    return judge_reply("device", reply, f"install Hilum anew, or try --device cpu instead of {wanted}")


def judge_reply(check: str, reply: Reply, otherwise: str) -> dr.Finding:
    """A request that failed: a person's mistake says how to mend it, the last line of anything else says what broke."""
    assert isinstance(reply, Failed), reply
    lines = reply.message.strip().splitlines() or [reply.kind]
    if reply.kind == jobs.DATA:
        detail, colon, advice = lines[0].rpartition(": ")
        return dr.fail(check, detail if colon else advice, advice if colon else otherwise, dr.HERE)
    return dr.fail(check, lines[-1], otherwise, dr.HERE)


def judge_data(reply: Reply, options: DataOptions) -> list[dr.Finding]:
    """Whether a folder can be learned from, and what is odd about it."""
    if not isinstance(reply, Prepared):
        return [judge_reply("data", reply, "mend the folder, or give another --data")]
    told = reply.summary
    found = [_amount(reply, options)]
    if told.unreadable:
        first = f", such as {reply.problems[0]}" if reply.problems else ""
        found.append(dr.warn("data", f"{told.unreadable} files cannot be read and are left out{first}",
                             "replace or remove them"))  # fmt: skip
    if told.duplicates:
        found.append(
            dr.warn(
                "data",
                f"{told.duplicates} images are there more than once",
                "remove the copies: they weigh double",
            )
        )
    rare = [name for name, count in (told.classes or {}).items() if count < RARE * told.images]
    if rare:
        found.append(
            dr.warn("data", f"of {', '.join(rare)} there are very few images", "expect little of that class")
        )
    return found


def _amount(reply: Prepared, options: DataOptions) -> dr.Finding:
    words = counts(reply.summary, reply.num_examples)
    if reply.num_examples < 1 and options.role == jobs.TRAIN:
        return dr.fail("data", f"{words}: nothing to train on", "give another --data or --shard", dr.HERE)
    if reply.summary.images < FEW_IMAGES:
        return dr.warn("data", words, "that is little to learn from")
    return dr.ok("data", words)


def counts(told: DataSummary, num_examples: int) -> str:
    """A folder in one line: counts only."""
    classes = ", ".join(f"{count:,} {name}" for name, count in sorted((told.classes or {}).items()))
    return (
        f"{told.images:,} images of {told.patients:,} patients" + (f" ({classes})" if classes else "")
        + f", {num_examples:,} to train on, {told.val_images:,} to validate"
    )  # fmt: skip
