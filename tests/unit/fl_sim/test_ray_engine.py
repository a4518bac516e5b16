"""The parts of the Ray engine that need no cluster; tests/e2e/test_simulation.py has one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_protocol.errors import ConfigError
from fl_protocol.messages import Plan
from fl_sim.engines import engine_of
from fl_sim.ray_worker import RayWorker
from fl_tasks import jobs, registry

PLUGIN = "tests.unit.fl_tasks.echo_plugin"


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'hilum\[ray\]', or use --engine local"):
        engine_of("ray", 2, "cpu", None)


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown --engine 'abacus': use local or ray"):
        engine_of("abacus", 2, "cpu", None)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayWorker]:
    # Another test of this process may have registered an echo task of its own.
    monkeypatch.setattr(registry, "_factories", {k: v for k, v in registry._factories.items() if k != "echo"})
    made = RayWorker("cpu", PLUGIN)
    yield made
    made.close()


def test_files_travel_with_requests_and_replies(worker: RayWorker, tmp_path: Path) -> None:
    first = jobs.Initialise("echo", "m", 8, 1, None, "/nowhere/first")
    frame, files = worker.answer(jobs.encode(first), None, {})
    assert isinstance(jobs.decode(frame), jobs.Initialised)
    assert set(files) == {"out"}
    train = jobs.Train(
        jobs.DataOptions("echo", None, 8, "/nowhere/cache"), "/nowhere/model", Plan(1, 8, 0.1, 7), "/nowhere/u", 1, "m"
    )  # fmt: skip
    frame, changed = worker.answer(jobs.encode(train), files["out"], {})
    assert isinstance(jobs.decode(frame), jobs.Trained)
    assert set(changed) == {"out"}
    (tmp_path / "u").write_bytes(changed["out"])
    assert not Path("/nowhere").exists()


def test_a_failure_brings_no_file(worker: RayWorker) -> None:
    train = jobs.Train(
        jobs.DataOptions("echo", "data", 8, "c"), "/nowhere/model", Plan(1, 8, 0.1, 7), "/nowhere/u", 1, "m"
    )  # fmt: skip
    frame, files = worker.answer(jobs.encode(train), b"", {})
    assert isinstance(jobs.decode(frame), jobs.Failed)
    assert files == {}
