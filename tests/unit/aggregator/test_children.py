"""Child processes: asked to end, killed if they do not, and named if even that has no effect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from aggregator import children, local_broker
from aggregator.children import end_child, kill_child, start_child
from aggregator.local_broker import LocalBroker
from fl_protocol.errors import HilumError
from fl_protocol.transport import BrokerOptions

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def deaf(folder: Path) -> subprocess.Popen[bytes]:
    """A process that ignores SIGTERM by now."""
    log = folder / "log"
    with log.open("wb") as file:
        process = start_child([sys.executable, "-c", DEAF], file)
    while not log.read_bytes():
        assert process.poll() is None
    return process


def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PATIENCE_S", 0.1)
    process = deaf(tmp_path)
    end_child(process)
    assert process.returncode == -9


def test_one_that_a_kill_does_not_end_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in a call to a dead disk cannot be made: the kill of this one does nothing."""
    monkeypatch.setattr(children, "PATIENCE_S", 0.1)
    monkeypatch.setattr(children, "KILLED_S", 0.1)
    process = deaf(tmp_path)
    with monkeypatch.context() as held:
        held.setattr(process, "kill", lambda: None)
        with pytest.raises(HilumError, match=f"process {process.pid} was killed and has not ended"):
            end_child(process)
    kill_child(process)


def test_a_broker_that_a_kill_does_not_end_keeps_its_pid_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_broker, "STOP_TIMEOUT_S", 0.05)
    monkeypatch.setattr(local_broker, "KILLED_S", 0.05)
    process = deaf(tmp_path)
    (tmp_path / "broker.pid").write_text("{}")
    running = local_broker._Running(process.pid, local_broker._born(process.pid), "mosquitto", 1)
    broker = LocalBroker(BrokerOptions("127.0.0.1", 1), True, "mosquitto", tmp_path, running, process)
    with monkeypatch.context() as held:
        held.setattr("os.kill", lambda pid, sign: None)
        with pytest.raises(HilumError, match=f"process {process.pid} was killed"):
            broker.stop()
    assert (tmp_path / "broker.pid").exists()
    kill_child(process)
