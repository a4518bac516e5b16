"""``fl-sim chaos`` as far as it starts nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fl_protocol.commandline import exit_code
from fl_sim import chaos as chaos_module
from fl_sim.cli import app
from fl_sim.faults import USUAL, schedule
from tests.unit.fl_sim.test_scoreboard import score


def run(*words: object) -> int:
    return exit_code(app, "fl-sim", ["chaos", *map(str, words)])


def test_a_dry_run_prints_the_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dry-run", "--rounds", 5, "--seed", 3) == 0
    plain = capsys.readouterr().out.splitlines()
    assert run("--dry-run", "--rounds", 5, "--seed", 3, "--json") == 0
    faults = json.loads(capsys.readouterr().out)
    assert len(plain) == len(faults) >= 5
    assert [fault["kind"] for fault in faults] == [fault.kind for fault in schedule(USUAL, 5, 3, 3, 1.0)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--profile", "moon"), "clinic"),
        (("--faults", "fire"), "kill-agg"),
        (("--rounds", 0), "--rounds 0"),
        (("--clients", -1), "--clients -1"),
        (("--kilobytes", 10**6), "--kilobytes"),
    ],
)
def test_a_slip_is_told_with_what_to_do(
    words: tuple[object, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("digest", "code"), [("m2", 0), ("other", 1)])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_says_whether_anything_was_lost(
    digest: str, code: int, as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(chaos_module, "chaos", lambda *_: [score(digest=digest)])
    assert run("--out", tmp_path, *(["--json"] if as_json else [])) == code
    told = capsys.readouterr().out
    if as_json:
        found = json.loads(told)
        assert bool(found["total"]["lost"]) == bool(code)
        assert found["runs"][0]["schedule"]
    else:
        assert told.rstrip().endswith("nothing was lost") == (code == 0)
