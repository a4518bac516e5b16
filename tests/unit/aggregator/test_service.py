"""Around a run: what a mistake leaves on a disk where a broker was started for it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from aggregator import local_broker, service
from aggregator.console import PlainView
from aggregator.start import RunSettings
from aggregator.strategies.registry import get_strategy
from fl_protocol.errors import ConfigError
from tests.federations import rule


@pytest.fixture(autouse=True)
def own_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker of our own on a free port, whoever else listens on this machine."""
    monkeypatch.setattr(
        local_broker, "find_or_start", lambda folder, listen: local_broker.start(folder, 0, listen)
    )


def settings(out: Path) -> RunSettings:
    return RunSettings(job="lung", out=out, config=rule(task="weather"), strategy=get_strategy("fedavg", {}))


def test_a_mistake_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown task 'weather'"):
        service.serve(settings(tmp_path / "runs" / "lung"), None, "127.0.0.1", PlainView(io.StringIO()))
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "lung").mkdir()
    (tmp_path / "runs" / "lung" / "notes.txt").touch()
    with pytest.raises(ConfigError):
        service.serve(settings(tmp_path / "runs" / "lung"), None, "127.0.0.1", PlainView(io.StringIO()))
    assert [path.name for path in (tmp_path / "runs" / "lung").iterdir()] == ["notes.txt"]
