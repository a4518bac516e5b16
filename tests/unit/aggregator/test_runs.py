"""The folders of runs that operators launched, and the note of what each was launched with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.rundir import RunDirectory
from aggregator.runs import NOTE, Launched, Runs
from fl_protocol.errors import AccessRefused, ConfigError, DataError

OPTIONS = {"rounds": 3, "learning_rate": 0.1, "strategy_option": ["clip_norm=1"], "model": None}


def test_every_run_has_a_folder_of_its_own_and_is_gone_on_with_as_it_was_launched(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "out")
    with runs.opened():
        assert not list(runs.out.glob("0*"))
        assert [runs.begin(OPTIONS).name, runs.begin({}).name] == ["001", "002"]
        assert runs.newest == tmp_path / "out" / "002"
        assert runs.launched(tmp_path / "out" / "001") == Launched(OPTIONS)
    unused = Runs(tmp_path / "unused")
    with unused.opened():
        assert unused.out.is_dir()
    assert not unused.out.exists(), "nobody launched anything"
    again = Runs(tmp_path / "out")
    with again.opened():
        path = again.begin(OPTIONS)
        assert path.name == "003" and again.newest == path
        ended = replace(again.launched(path), under_way=False, rounds_left=False)
        again.note(path, ended)
        assert again.launched(path) == ended


def test_other_folders_are_no_runs_and_their_numbers_are_not_taken(tmp_path: Path) -> None:
    for name in ("broker", "7", "0012x"):
        (tmp_path / name).mkdir()
    (tmp_path / "008").mkdir()
    runs = Runs(tmp_path)
    assert runs.newest is None
    assert runs.begin(OPTIONS).name == "009"


def test_a_thousand_runs_are_in_order(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    (tmp_path / "999").mkdir()
    assert runs.begin(OPTIONS).name == "1000"
    assert runs.begin(OPTIONS).name == "1001" and runs.newest == tmp_path / "1001"


def test_the_folder_is_for_one_process_and_not_for_a_run_of_its_own(tmp_path: Path) -> None:
    def enter() -> None:
        with Runs(tmp_path).opened():
            """In."""

    with Runs(tmp_path).opened(), pytest.raises(AccessRefused, match="another aggregator is working in"):
        enter()
    enter()
    run = RunDirectory(tmp_path)
    with pytest.raises(ConfigError, match="started without --wait: give another --out, or leave --wait out"):
        enter()
    run.close()


def test_a_run_that_never_had_a_model_leaves_nothing(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    path = runs.begin(OPTIONS)
    runs.forget_unused(path)
    assert not path.exists() and runs.newest is None
    path = runs.begin(OPTIONS)
    (path / "journal.sqlite").touch()
    runs.forget_unused(path)
    assert runs.newest == path


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"options": 3}', "\0"])
def test_a_broken_note_is_told(tmp_path: Path, text: str) -> None:
    runs = Runs(tmp_path)
    path = runs.begin(OPTIONS)
    (path / NOTE).write_text(text)
    with pytest.raises(DataError, match=r"cannot be used .*: restore it, or move that folder away"):
        runs.launched(path)
