"""The run directory: one owner, whole files, and no run taken for another."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.events import KeepRound
from aggregator.rundir import OURS, RunDirectory
from fl_protocol.errors import AccessRefused, ConfigError, DataError
from fl_protocol.modelfile import read_header
from tests.federations import BASE
from tests.payloads import digest_of, floats, model_file

D1, D2, D3 = (digest_of(f"model {number}") for number in (1, 2, 3))
IDENTITY = {"job": "default", "task": "chest-xray", "model": "hilum-cnn", "image_size": 64}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    run = RunDirectory(tmp_path / "runs" / "default")
    yield run
    run.close()


def begun(path: Path, *, fresh: bool = False) -> RunDirectory:
    """A run directory with a first model: from then on it is a run's."""
    run = RunDirectory(path, fresh=fresh)
    run.journal.put("base", D1)
    return run


def keep(run: RunDirectory, digest: str, seed: int = 0) -> None:
    model_file(run.model_path(digest), {"w": floats(5, seed)}, {"sha256": digest})


def test_a_second_aggregator_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    first = RunDirectory(tmp_path)
    with pytest.raises(AccessRefused, match=r"another --job or --out"):
        RunDirectory(tmp_path)
    with pytest.raises(AccessRefused):
        RunDirectory(tmp_path, fresh=True)
    first.close()
    RunDirectory(tmp_path).close()


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("fresh", [False, True])
def test_a_slip_leaves_things_as_they_were_found(tmp_path: Path, fresh: bool) -> None:
    """--out named a folder of somebody else's, with models and a config.json of its own, and then --task was wrong."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "precious.pt").write_text("years of work")
    (tmp_path / "config.json").write_text("{}")
    before = everything(tmp_path)
    run = RunDirectory(tmp_path, fresh=fresh)
    run.check_identity(IDENTITY)
    run.close()
    assert everything(tmp_path) == before


def test_a_slip_in_a_new_place_leaves_no_folder(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "runs" / "default").close()
    assert list(tmp_path.iterdir()) == []


def test_refused_ones_leave_no_file_open(run: RunDirectory) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(AccessRefused):
        RunDirectory(run.path)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="give another --out"):
        RunDirectory(tmp_path / "file" / "run")


def test_drafts_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    begun(tmp_path).close()
    drafts = [tmp_path / ".rounds.1.tmp", tmp_path / "models" / ".fold.1.tmp"]
    for draft in drafts:
        draft.write_text("half")
    RunDirectory(tmp_path).close()
    assert not any(draft.exists() for draft in drafts)


def test_fresh_removes_what_is_ours_and_nothing_else(tmp_path: Path) -> None:
    run = begun(tmp_path)
    keep(run, D1)
    run.publish_global(D1)
    run.journal.keep_round(KeepRound(1, 1, ("a",), BASE, 1), "")
    run.append_round({"round": 1})
    run.write_json("config.json", {})
    run.close()
    (tmp_path / "notes.txt").write_text("mine")
    run = RunDirectory(tmp_path, fresh=True)
    assert run.journal.unfinished() is None
    assert list(run.models.iterdir()) == []
    left = {path.name for path in tmp_path.iterdir()}
    assert "notes.txt" in left
    assert left.isdisjoint(
        set(OURS) - {"journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm", "models", "spool"}
    )
    run.close()


def test_models_are_kept_by_digest(run: RunDirectory) -> None:
    for digest in (D1, D2, D3):
        keep(run, digest)
    run.keep_models([D2, D3])
    assert {path.stem for path in run.models.iterdir()} == {D2, D3}
    assert run.model(D2).metadata == {"sha256": D2}
    with pytest.raises(DataError, match="does not exist"):
        run.model(D1)


def test_the_global_model_is_replaced_in_one_step(run: RunDirectory) -> None:
    public = run.path / "global.safetensors"
    for seed, digest in enumerate((D1, D2)):
        keep(run, digest, seed)
        run.publish_global(digest)
        run.publish_global(digest)  # as after a restart: a rename onto another name of the same file is none
        assert not list(run.path.glob("*.tmp"))
        assert public.read_bytes() == run.model_path(digest).read_bytes()
    run.keep_models([])
    assert public.exists(), "the public name outlives the kept models"


def test_the_best_model_is_replaced_in_one_step_and_outlives_the_kept_ones(run: RunDirectory) -> None:
    public = run.path / "best.safetensors"
    assert not run.publish_best(D1), "it is not there"
    assert not public.exists()
    keep(run, D1, 1)
    assert run.publish_best(D1)
    assert public.read_bytes() == run.model_path(D1).read_bytes()
    keep(run, D2, 2)
    assert run.publish_best(D2) and public.read_bytes() == run.model_path(D2).read_bytes()
    run.keep_models([])
    assert run.publish_best(D2), "a restart finds it in its place"
    assert not run.publish_best(D1)
    assert read_header(public).metadata["sha256"] == D2
    assert not list(run.path.glob("*.tmp"))


def test_a_best_model_cut_in_half_is_written_again(run: RunDirectory) -> None:
    keep(run, D1)
    run.publish_best(D1)
    whole, public = run.model_path(D1).read_bytes(), run.path / "best.safetensors"
    public.unlink()
    public.write_bytes(whole[: len(whole) // 2])
    assert run.publish_best(D1)
    assert public.read_bytes() == whole


def test_without_hard_links_it_is_copied(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    keep(run, D1)
    run.publish_global(D1)
    assert (run.path / "global.safetensors").read_bytes() == run.model_path(D1).read_bytes()


def test_a_global_model_cut_in_half_is_told(run: RunDirectory) -> None:
    run.check_global()
    keep(run, D1)
    run.publish_global(D1)
    run.check_global()
    public = run.path / "global.safetensors"
    os.truncate(public, public.stat().st_size // 2)
    with pytest.raises(DataError, match="start over with --fresh"):
        run.check_global()


def test_rounds_are_written_again_from_the_journal(run: RunDirectory) -> None:
    lines = run.path / "rounds.jsonl"
    run.append_round({"round": 1})
    with lines.open("a") as file:
        file.write('{"round": 2, "outc')
    run.write_rounds([{"round": 1}, {"round": 2, "outcome": "closed"}])
    run.append_round({"round": 3})
    assert [json.loads(line)["round"] for line in lines.read_text().splitlines()] == [1, 2, 3]


def test_config_is_replaced_whole(run: RunDirectory) -> None:
    run.write_json("config.json", {"rounds": {"value": 10, "source": "option"}, "out": Path("x")})
    run.write_json("config.json", {"rounds": {"value": 20, "source": "option"}})
    assert json.loads((run.path / "config.json").read_text()) == {"rounds": {"value": 20, "source": "option"}}


def test_a_directory_belongs_to_its_run(run: RunDirectory) -> None:
    run.check_identity(IDENTITY)
    run.journal.put("base", D1)
    run.check_identity(IDENTITY)
    for key, value in (("job", "other"), ("model", "resnet18"), ("image_size", 128), ("task", "echo")):
        with pytest.raises(ConfigError, match=f"{key}.*--fresh"):
            run.check_identity(IDENTITY | {key: value})


def test_a_run_that_never_had_a_model_claims_nothing(run: RunDirectory) -> None:
    """A misspelt --model fails before there is a model; the corrected command must not be refused."""
    run.check_identity(IDENTITY | {"model": "hilum-cnnn"})
    run.check_identity(IDENTITY)
    run.journal.put("base", D1)
    run.check_identity(IDENTITY)


def test_fresh_lets_the_old_run_go_only_when_the_new_one_has_begun(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = RunDirectory(path)
    first.begin({"task": "a"}, "1" * 64)
    (path / "rounds.jsonl").write_text("old\n")
    first.close()
    slip = RunDirectory(path, fresh=True)
    assert slip.journal.get("base") is None
    slip.close()
    back = RunDirectory(path)
    assert (back.journal.get("base"), (path / "rounds.jsonl").read_text()) == ("1" * 64, "old\n")
    back.close()
    fresh = RunDirectory(path, fresh=True)
    fresh.begin({"task": "b"}, "2" * 64)
    fresh.close()
    assert not (path / "rounds.jsonl").exists()
    assert [file.name for file in path.iterdir() if file.name.startswith(".")] == []


def test_a_kill_while_a_fresh_run_begins_brings_the_old_one_back(tmp_path: Path) -> None:
    path = tmp_path / "run"
    first = RunDirectory(path)
    first.begin({"task": "a"}, "1" * 64)
    first.close()
    killed = RunDirectory(path, fresh=True)
    os.close(killed._lock)  # what a kill does
    back = RunDirectory(path)
    assert back.journal.get("base") == "1" * 64
    back.close()


def test_a_kill_just_after_a_fresh_run_began_lets_the_old_one_go(tmp_path: Path) -> None:
    path = tmp_path / "run"
    for number, fresh in ((1, False), (2, True)):
        run = RunDirectory(path, fresh=fresh)
        run.begin({"task": "a"}, str(number) * 64)
        run.close()
    (path / ".before-fresh").mkdir()
    (path / ".before-fresh" / "journal.sqlite").write_bytes(b"old")
    again = RunDirectory(path)
    assert again.journal.get("base") == "2" * 64
    assert not (path / ".before-fresh").exists()
    again.close()
