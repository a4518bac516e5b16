"""The task process end to end, with a task that needs no torch and fails in every way on demand."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fl_protocol.messages import Plan
from fl_protocol.modelfile import read_header
from fl_tasks.jobs import (
    DataOptions,
    Evaluate,
    Evaluated,
    Failed,
    Initialise,
    Initialised,
    Prepare,
    Prepared,
    Reply,
    Train,
    Trained,
    TrainingProgress,
)
from fl_tasks.params import file_params
from fl_tasks.process import TaskProcess

HERE = Path(__file__).parent
PLAN = Plan(local_epochs=1, batch_size=8, learning_rate=0.1, seed=7)


class Running:
    """A task process and its replies."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self.process = TaskProcess(plugin="echo_plugin", threads=1, deliver=self.replies.put)

    def next(self) -> Reply:
        return self.replies.get(timeout=60)

    def answer(self) -> Reply:
        while isinstance(reply := self.next(), TrainingProgress):
            pass
        return reply

    def options(self, data: str | None = None) -> DataOptions:
        return DataOptions("echo", data, 8, str(self.tmp))

    def train(self, data: str | None = None, round_number: int = 1) -> Train:
        model = self.tmp / "model.safetensors"
        if not model.exists():
            self.process.submit(Initialise("echo", "m", 8, 3, None, str(model)))
            assert isinstance(self.answer(), Initialised)
        out = str(self.tmp / f"update-{round_number}.safetensors")
        return Train(self.options(data), str(model), PLAN, out, round_number, "m")


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    found = Running(tmp_path)
    yield found
    found.process.stop(2.0)
    assert found.process.pid is None


def test_a_round_without_torch(running: Running) -> None:
    assert not running.process.running
    running.process.submit(Prepare(running.options()))
    prepared = running.answer()
    assert isinstance(prepared, Prepared)
    assert (prepared.num_examples, prepared.problems, prepared.device) == (1, ("x.png: odd",), "cpu")
    assert prepared.summary.classes == {"one": 1}
    request = running.train()
    running.process.submit(request)
    first = running.next()
    assert first == TrainingProgress(1, 0.5, 1.0)
    trained = running.answer()
    assert isinstance(trained, Trained)
    assert trained.metrics["torch_loaded"] == 0.0
    assert trained.metrics["first"] == 3.0
    delta = file_params(read_header(Path(request.out)))
    assert {name: value.tolist() for name, value in delta.items()} == {"a": [1] * 3, "b": [[1, 1]] * 2}
    assert not running.process.busy


def test_evaluation_brings_its_detail(running: Running) -> None:
    request = running.train()
    running.process.submit(Evaluate(running.options(), request.model_file, detail=True))
    assert running.answer() == Evaluated({"loss": 3.0}, {"points": [1, 2]})


def test_rounds_and_shards_draw_their_own_seeds(running: Running) -> None:
    seeds = []
    for round_number in (1, 2, 1):
        running.process.submit(running.train(round_number=round_number))
        trained = running.answer()
        assert isinstance(trained, Trained)
        seeds.append(trained.metrics["seed"])
    assert seeds[0] == seeds[2] != seeds[1]


def test_cancel_ends_the_training_and_what_waits_behind_it(running: Running) -> None:
    running.process.submit(running.train("slow", 1))
    assert isinstance(running.next(), TrainingProgress)
    running.process.submit(running.train("slow", 2))
    running.process.cancel()
    running.process.submit(running.train(None, 3))
    assert running.answer() == Failed("Train", "cancelled", "cancelled", 1)
    assert running.answer() == Failed("Train", "cancelled", "cancelled", 2)
    assert isinstance(running.answer(), Trained)


@pytest.mark.parametrize("kind", ["bug", "memory", "data", "diverged"])
def test_failures_are_named_and_the_process_goes_on(running: Running, kind: str) -> None:
    running.process.submit(running.train(kind))
    failed = running.answer()
    assert isinstance(failed, Failed)
    assert (failed.request, failed.kind) == ("Train", kind)
    pid = running.process.pid
    running.process.submit(running.train())
    assert isinstance(running.answer(), Trained)
    assert running.process.pid == pid


def test_an_update_that_is_not_finite_leaves_no_file(running: Running) -> None:
    request = running.train("nan")
    running.process.submit(request)
    failed = running.answer()
    assert isinstance(failed, Failed)
    assert failed.kind == "diverged"
    assert not Path(request.out).exists()


def test_stray_prints_do_no_harm(running: Running) -> None:
    running.process.submit(running.train("stray"))
    assert isinstance(running.answer(), Trained)


def test_an_unknown_task_and_a_missing_model_are_the_operators(running: Running) -> None:
    running.process.submit(Prepare(DataOptions("nonsense", None, 8, str(running.tmp))))
    failed = running.answer()
    assert isinstance(failed, Failed)
    assert failed.kind == "data"
    assert "chest-xray, cifar10, echo, " in failed.message
    running.process.submit(Evaluate(running.options(), str(running.tmp / "absent.safetensors")))
    failed = running.answer()
    assert isinstance(failed, Failed)
    assert (failed.kind, "does not exist" in failed.message) == ("data", True)


def test_a_missing_plugin_is_named(tmp_path: Path) -> None:
    replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
    process = TaskProcess(plugin="no_such_plugin", deliver=replies.put)
    process.submit(Prepare(DataOptions("echo", None, 8, str(tmp_path))))
    failed = replies.get(timeout=60)
    process.stop(2.0)
    assert isinstance(failed, Failed)
    assert failed.kind == "data"
    assert "no module 'no_such_plugin'" in failed.message


def test_a_child_that_dies_is_reported_and_replaced(running: Running) -> None:
    running.process.submit(running.train("die", 4))
    running.process.submit(running.train(None, 5))
    for round_number in (4, 5):
        failed = running.answer()
        assert isinstance(failed, Failed)
        assert (failed.request, failed.kind, failed.round_number) == ("Train", "process", round_number)
        assert "signal 11" in failed.message
        assert "last words" in failed.message
    assert running.process.pid is None
    running.process.submit(running.train())
    assert isinstance(running.answer(), Trained)


def test_killing_an_idle_child_is_reported_too(running: Running) -> None:
    running.train()
    pid = running.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    failed = running.answer()
    assert isinstance(failed, Failed)
    assert (failed.request, failed.kind) == ("", "process")
    assert "out of memory" in failed.message


def test_stop_ends_a_child_that_does_not_listen(running: Running) -> None:
    running.process.submit(running.train("stubborn"))
    assert isinstance(running.next(), TrainingProgress)
    pid = running.process.pid
    assert pid is not None
    running.process.stop(0.1)
    assert running.process.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert running.replies.empty()


def test_a_child_without_a_sign_of_life_is_ended(running: Running) -> None:
    """A trainer that hangs gives its round back; what comes next finds a new process, as after any death of one."""
    request = running.train("stubborn")
    running.process.stop()
    running.process = TaskProcess(
        plugin="echo_plugin", threads=1, deliver=running.replies.put, patience_s=2.0
    )
    running.process.submit(request)
    failed = running.answer()
    assert isinstance(failed, Failed)
    assert (failed.request, failed.kind, failed.round_number) == ("Train", "process", 1)
    assert "no sign of life" in failed.message


def test_a_full_owner_that_stops_us_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader offers its reply again and again until the owner, who has no room, ends it."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    asked = threading.Event()

    def full(_reply: Reply) -> None:
        asked.set()
        raise queue.Full

    process = TaskProcess(plugin="echo_plugin", deliver=full)
    process.submit(Prepare(DataOptions("echo", None, 8, str(tmp_path))))
    assert asked.wait(60)
    process.stop(2.0)
    assert not process.running


def test_stop_cancels_what_is_at_work(running: Running) -> None:
    running.process.submit(running.train("slow"))
    assert isinstance(running.next(), TrainingProgress)
    running.process.stop(30.0)
    assert running.answer() == Failed("Train", "cancelled", "cancelled", 1)


def test_ctrl_c_is_the_parents_affair(running: Running) -> None:
    request = running.train()
    assert running.process.pid is not None
    os.kill(running.process.pid, signal.SIGINT)
    running.process.submit(request)
    assert isinstance(running.answer(), Trained)


def test_ctrl_c_before_the_child_can_ignore_it_is_the_parents_affair_too(running: Running) -> None:
    draft = str(running.tmp / "model")
    running.process.submit(Initialise("echo", "m", 8, 3, None, draft))
    assert running.process.pid is not None
    os.kill(running.process.pid, signal.SIGINT)  # the interpreter has hardly begun
    assert isinstance(running.answer(), Initialised)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("data", ["slow", "stubborn"])
def test_the_child_dies_with_its_parent(running: Running, data: str) -> None:
    request = running.train(data)
    script = textwrap.dedent(f"""
        import queue, sys, time
        from fl_protocol.messages import Plan
        from fl_tasks.jobs import DataOptions, Train
        from fl_tasks.process import TaskProcess
        replies = queue.SimpleQueue()
        process = TaskProcess(plugin="echo_plugin", deliver=replies.put)
        process.submit({request!r})
        replies.get()
        print(process.pid, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    for _ in range(3000):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.01)
    pytest.fail("the child outlived its parent")


def test_the_parents_side_loads_no_torch() -> None:
    code = "import sys, fl_tasks.process, fl_tasks.jobs, fl_tasks.defaults; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_params_are_read_one_at_a_time(running: Running) -> None:
    request = running.train()
    params = file_params(read_header(Path(request.model_file)))
    assert np.array_equal(params["b"], np.full((2, 2), 3, np.float32))
