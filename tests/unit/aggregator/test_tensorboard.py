"""Event files of a run, read back with tensorboardX's own protocol buffers."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aggregator.tensorboard import MOST_SITES, SUFFIX, EventFiles, check_installed, scalars_of, wall_time
from fl_protocol.errors import ConfigError
from tests.federations import record


def events_in(folder: Path) -> Iterator[Any]:
    """Every event of every file: a TFRecord is a length and its checksum, the data, and theirs."""
    from tensorboardX.proto.event_pb2 import Event

    for file in sorted(folder.glob("events.out.tfevents.*")):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def curves(folder: Path) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events_in(folder):
        for value in event.summary.value:
            steps = found.setdefault(value.tag, {})
            assert event.step not in steps, "no step is there twice"
            steps[event.step] = round(value.simple_value, 6)
    return found


def of(number: int, **changes: Any) -> dict[str, Any]:
    plain = {
        "metrics": {"auroc": 0.5 + number / 10, "loss": 0.25}, "client_metrics": {"train_loss": 0.75},
        "sites": {"a": {"auroc": 0.625, "examples": 20.0}, "b": {"examples": 3.0}}, "bytes_up": 10, "bytes_down": 20,
        "phases": {"train": 1.5, "wait": 0.5}, "duration_s": 2.0, "started_at": "2026-01-01T00:00:10.500+00:00",
    }  # fmt: skip
    return record(number, **plain | changes)


def test_the_curves_of_a_run(tmp_path: Path) -> None:
    files = EventFiles(tmp_path / "curves")
    for number in (1, 2):
        files.add(of(number))
    files.close()
    found = curves(tmp_path / "curves")
    assert found["central/auroc"] == {1: 0.6, 2: 0.7}
    assert found["clients/train_loss"] == {1: 0.75, 2: 0.75}
    assert found["phases/train"] == {1: 1.5, 2: 1.5}
    assert found["sites_auroc/a"] == {1: 0.625, 2: 0.625} and "sites_auroc/b" not in found
    assert (found["bytes/up"], found["bytes/down"]) == ({1: 10, 2: 10}, {1: 20, 2: 20})
    assert found["round/duration_s"] == {1: 2.0, 2: 2.0} and found["round/accepted"] == {1: 2, 2: 2}
    (first, *_) = [event for event in events_in(tmp_path / "curves") if event.step == 1]
    assert first.wall_time == wall_time(of(1)) == 1767225612.5


def test_a_run_that_goes_on_has_no_step_twice(tmp_path: Path) -> None:
    EventFiles(tmp_path, [of(1), of(2), of(3)]).close()
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"")
    again = EventFiles(tmp_path, [of(1), of(2)])
    again.add(of(3, metrics={"auroc": 0.9}))
    again.close()
    assert curves(tmp_path)["central/auroc"] == {1: 0.6, 2: 0.7, 3: 0.9}
    names = [file.name for file in tmp_path.iterdir()]
    assert len(names) == 2 and "events.out.tfevents.1.host" in names, (
        "somebody else's file is not ours to replace"
    )
    assert sum(name.endswith(SUFFIX) for name in names) == 1


def test_odd_values_and_thousands_of_sites_do_no_harm() -> None:
    sites = {f"site-{number:05d}": {"auroc": 0.5} for number in range(5000)}
    odd = of(
        1,
        sites=sites,
        metrics={"loss": float("nan"), "auroc": float("inf"), "name": "x"},
        client_metrics=None,
    )
    found = scalars_of(odd)
    assert not {"central/loss", "central/auroc", "central/name"} & set(found)
    assert sum(tag.startswith("sites_auroc/") for tag in found) == MOST_SITES
    assert wall_time({"started_at": ""}) == wall_time({}) == 0.0


def test_torch_is_not_loaded_for_it() -> None:
    before = sys.modules.get("torch")
    check_installed()
    assert sys.modules.get("torch") is before


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(
        ConfigError, match=r"--tensorboard needs tensorboardX: pip install 'hilum\[tensorboard\]'"
    ):
        check_installed()


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--tensorboard .*file/curves cannot be written"):
        EventFiles(tmp_path / "file" / "curves")
