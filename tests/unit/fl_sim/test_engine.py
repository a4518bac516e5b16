"""A crew of real task processes, with a task that needs no torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fl_protocol.errors import ConfigError, HilumError
from fl_protocol.messages import Plan
from fl_sim.engine import Crew, answered
from fl_tasks import jobs

PLUGIN = "tests.unit.fl_tasks.echo_plugin"
PLAN = Plan(1, 8, 0.1, 7)


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    made = Crew(2, plugin=PLUGIN)
    yield made
    made.close()


def train(folder: Path, name: str, data: str | None = None, shard: int = 1) -> jobs.Train:
    options = jobs.DataOptions("echo", data, 8, "c", shard=shard, shards=9, resident=True)
    return jobs.Train(options, str(folder / "first"), PLAN, str(folder / name), 1, "m")


def first_model(crew: Crew, folder: Path) -> None:
    crew.begin("first", jobs.Initialise("echo", "m", 8, 1, None, str(folder / "first")))
    answered(crew.result("first"))


def test_results_come_by_key_whatever_the_order(crew: Crew, tmp_path: Path) -> None:
    first_model(crew, tmp_path)
    for shard in range(1, 10):
        crew.begin(shard, train(tmp_path, f"u{shard}", shard=shard), priority=-shard)
    for shard in range(1, 10):
        reply = crew.result(shard)
        assert isinstance(reply, jobs.Trained)
        assert reply.out == str(tmp_path / f"u{shard}")
    assert len(crew.pids) == 2


def test_what_is_dropped_is_given_up(crew: Crew, tmp_path: Path) -> None:
    first_model(crew, tmp_path)
    for key in ("slow 1", "slow 2", "slow 3"):
        crew.begin(key, train(tmp_path, key, "slow"))
    for key in ("slow 3", "slow 1", "slow 2"):  # one waits, two are under way
        crew.drop(key)
    crew.begin("next", train(tmp_path, "next"))
    assert isinstance(crew.result("next"), jobs.Trained)
    assert not (tmp_path / "slow 1").exists()
    crew.drop("never heard of")


def test_what_was_written_before_it_was_dropped_is_thrown_away(crew: Crew, tmp_path: Path) -> None:
    """Answered and not asked for yet, or written by a worker that hears of the drop too late."""
    first_model(crew, tmp_path)
    answered_already = train(tmp_path, "early")
    crew.begin("early", answered_already)
    wait_for(lambda: (tmp_path / "early").exists() and not any(crew._running))
    crew.drop("early")
    assert not (tmp_path / "early").exists()

    crew.begin("late", train(tmp_path, "late", "slow"))
    crew.drop("late")
    (tmp_path / "late").write_bytes(b"what a worker wrote that heard of it too late")
    wait_for(lambda: not any(crew._running))
    assert not (tmp_path / "late").exists()


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60.0
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_every_worker_deals_once(crew: Crew) -> None:
    reply = crew.everywhere(jobs.Deal(jobs.DataOptions("echo", None, 8, "c", shards=4, resident=True)))
    assert isinstance(reply, jobs.Dealt)
    assert reply.examples == (1, 1, 1, 1)
    assert len(set(crew.pids)) == 2


def test_a_failure_of_the_data_is_an_answer(crew: Crew) -> None:
    reply = crew.everywhere(jobs.Deal(jobs.DataOptions("echo", "data", 8, "c", shards=4, resident=True)))
    with pytest.raises(ConfigError, match="give another folder"):
        answered(reply)


def test_a_worker_that_dies_ends_the_waiting(crew: Crew, tmp_path: Path) -> None:
    first_model(crew, tmp_path)
    crew.begin("dies", train(tmp_path, "dies", "die"))
    with pytest.raises(HilumError, match=r"a worker failed .*killed by signal 11"):
        crew.result("dies")


def test_a_divergence_is_an_answer(crew: Crew, tmp_path: Path) -> None:
    first_model(crew, tmp_path)
    crew.begin("diverges", train(tmp_path, "diverges", "diverged"))
    reply = crew.result("diverges")
    assert isinstance(reply, jobs.Failed)
    assert reply.kind == jobs.DIVERGED


def test_closing_leaves_no_process_and_no_thread(crew: Crew, tmp_path: Path) -> None:
    first_model(crew, tmp_path)
    crew.begin("slow", train(tmp_path, "slow", "slow"))
    pids = crew.pids
    crew.close()
    assert pids
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("task-")] == []
