"""The history: what is below the folder and nothing else, in bounded pieces."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fl_web.dashboard import runs as rn
from fl_web.dashboard.runs import Runs
from tests.federations import record


def make(folder: Path, rounds: int = 2, **settings: Any) -> Path:
    folder.mkdir(parents=True)
    said = {name: {"value": value, "source": "option"} for name, value in settings.items()}
    (folder / "config.json").write_text(json.dumps(said))
    lines = [record(number, metrics={"auroc": 0.5 + number / 100}) for number in range(1, rounds + 1)]
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_runs_are_found_newest_first_with_what_they_are(tmp_path: Path) -> None:
    make(tmp_path / "old", task="chest-xray", model="hilum-cnn", strategy="fedavg", synthetic=True)
    (make(tmp_path / "deep" / "new", 3) / "best.safetensors").write_bytes(b"x")
    os.utime(tmp_path / "old" / "rounds.jsonl", (1, 1))
    (tmp_path / "no run").mkdir()
    new, old = Runs(tmp_path).listed()
    assert (new.name, new.rounds, new.best, new.files) == (
        "deep/new",
        3,
        0.53,
        ("best.safetensors", "rounds.jsonl", "config.json"),
    )
    assert (old.name, old.task, old.strategy, old.synthetic, old.ended_at) == (
        "old",
        "chest-xray",
        "fedavg",
        True,
        1.0,
    )


def test_a_summary_follows_its_file(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    folder = make(tmp_path / "one")
    assert [run.rounds for run in runs.listed()] == [2]
    with (folder / "rounds.jsonl").open("a") as file:
        file.write(json.dumps(record(3)) + "\n")
    assert [run.rounds for run in runs.listed()] == [3]


@pytest.mark.parametrize("name", [
    "..", ".", "", "/", "../secret", "one/../../secret", "one/..", "/etc", "one//", ".hidden", "one\0", "a/b/c/d/e", "one/models",
    "link", "one\n",
])  # fmt: skip
def test_no_name_reaches_beyond_the_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "runs"
    make(root / "one")
    (root / "one" / "models").mkdir()
    make(tmp_path / "secret")
    make(root / ".hidden")
    (root / "link").symlink_to(tmp_path / "secret")
    assert Runs(root).folder(name) is None and Runs(root).compared([name]) is None
    assert [run.name for run in Runs(root).listed()] == ["one"]


@pytest.mark.parametrize(
    "file", ["journal.sqlite", "lock", "../one/rounds.jsonl", "", "rounds.jsonl/", "linked.safetensors"]
)
def test_only_named_files_are_given(tmp_path: Path, file: str) -> None:
    folder = make(tmp_path / "one")
    for name in ("journal.sqlite", "lock"):
        (folder / name).write_text("secret")
    assert Runs(tmp_path).file("one", file) is None
    assert Runs(tmp_path).file("one", "rounds.jsonl") == folder / "rounds.jsonl"


def test_a_file_that_is_a_link_is_not_given(tmp_path: Path) -> None:
    folder = make(tmp_path / "one")
    (tmp_path / "key").write_text("secret")
    (folder / "best.safetensors").symlink_to(tmp_path / "key")
    assert Runs(tmp_path).file("one", "best.safetensors") is None


def test_runs_stand_side_by_side_with_what_differs(tmp_path: Path) -> None:
    make(tmp_path / "a", rounds=2, batch_size=8, task="x")
    make(tmp_path / "b", rounds=3, batch_size=16, task="x", synthetic=True)
    found = Runs(tmp_path).compared(["a", "b"])
    assert found is not None
    assert found["differing"] == [("batch_size", ["8", "16"]), ("synthetic", ["", "yes"])]
    assert [len(run["rounds"]) for run in found["runs"]] == [2, 3]
    assert [run["synthetic"] for run in found["runs"]] == [False, True]
    assert Runs(tmp_path).compared(["a", "none"]) is None and Runs(tmp_path).compared([]) is None


def test_odd_and_endless_files_are_read_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rn, "MAX_LINE", 5000)
    monkeypatch.setattr(rn, "MAX_LINES", 10)
    folder = make(tmp_path / "one", rounds=50)
    assert len(list(rn.rounds_in(folder / "rounds.jsonl"))) == 10
    (folder / "rounds.jsonl").write_text(
        json.dumps(record(1)) + "\nno json\n[]\n" + "[" * 9000 + "\n" + json.dumps(record(2))
    )
    assert [line["round"] for line in rn.rounds_in(folder / "rounds.jsonl")] == [1]
    (folder / "config.json").write_bytes(b" " * (rn.MAX_CONFIG + 2))
    assert Runs(tmp_path).listed()[0].task == ""


def test_a_folder_that_is_not_there_has_no_runs(tmp_path: Path) -> None:
    assert Runs(tmp_path / "none").listed() == [] and Runs(tmp_path / "none").folder("x") is None
