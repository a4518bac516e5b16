"""Simulated federations as text. After a change that is meant: HILUM_REWRITE=1 pytest tests/scenarios, and read the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scenarios.runner import EVENTS, SENTENCES, transcript

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_scenario(path: Path) -> None:
    held = path.read_text("utf-8")
    found = transcript(held)
    if os.environ.get("HILUM_REWRITE"):
        path.write_text(found, "utf-8")
    else:
        assert found == held


def test_every_event_and_every_effect_is_in_some_scenario() -> None:
    text = "".join(path.read_text("utf-8") for path in SCRIPTS)
    lines = text.splitlines()
    assert set(EVENTS) <= {line.split()[0] for line in lines if line and line[0] not in ">#"}
    said = {"journal: round", "journal: update", "tell", "announce", "is closed; fold", "then publish", "> score", "record", "> best: ",
            "attempt 1 fails", "is finished", "cannot go on", "is to have 3 rounds", "can be gone on with"}  # fmt: skip
    assert len(said) == len(SENTENCES)
    assert all(each in text for each in said)


def test_expected_lines_are_left_out_of_the_script() -> None:
    script = "config min_clients=1\n> something else\njoin a 10\n"
    assert transcript(script) == transcript(transcript(script))
    assert "something else" not in transcript(script)
