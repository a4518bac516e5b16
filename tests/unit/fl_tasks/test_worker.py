"""Parts of the task process that need no process; test_process.py has the whole."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest
import torch

from fl_protocol.messages import Plan
from fl_tasks import jobs
from fl_tasks.base import Place
from fl_tasks.process import read_frame, write_frame
from fl_tasks.worker import Inbox, Worker, _out_of_memory, training_seed

TRAIN = jobs.Train(jobs.DataOptions("t", None, 8, "c", 1, 3), "m", Plan(1, 8, 0.1, 7), "o", 2, "m")


def test_a_seed_for_every_round_shard_and_plan() -> None:
    requests = [
        TRAIN,
        replace(TRAIN, round_number=3),
        replace(TRAIN, options=replace(TRAIN.options, shard=2)),
        replace(TRAIN, plan=replace(TRAIN.plan, seed=8)),
    ]
    seeds = [training_seed(request) for request in requests]
    assert len(set(seeds)) == 4
    assert seeds == [training_seed(request) for request in requests]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_cancel_reaches_what_came_before_it_alone() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as out:
        inbox = Inbox(os.fdopen(reading, "rb"))
        for request in (TRAIN, TRAIN, jobs.Cancel(), TRAIN):
            write_frame(out, jobs.encode(request))
        numbers = [inbox.next()[0] for _ in range(3)]
        assert [inbox.cancelled(number) for number in numbers] == [True, True, False]
        os.dup(out.fileno())  # keeps the pipe open: its end would end this process, as it is meant to


def test_running_out_of_memory_is_told_from_other_failures() -> None:
    assert _out_of_memory(MemoryError())
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert _out_of_memory(caught.value)
    assert not _out_of_memory(RuntimeError("shape mismatch"))


def test_work_that_asks_whether_it_is_cancelled_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """But no oftener than needed: asking is done for every batch."""
    outbox = io.BytesIO()
    inbox = Inbox(os.fdopen(os.pipe()[0], "rb"))  # open at the other end for as long as this process lives
    asked = Worker(Place("cpu", 1), outbox)._cancelled(inbox, 1)
    assert not asked() and not asked()
    monkeypatch.setattr("fl_tasks.worker.ALIVE_EVERY_S", 0.0)
    assert not asked()
    outbox.seek(0)
    frames = [read_frame(outbox) for _ in range(3)]
    assert [frame and jobs.decode(frame) for frame in frames] == [jobs.Alive(), jobs.Alive(), None]
