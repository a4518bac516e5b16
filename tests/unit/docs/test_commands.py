"""Every command that a page of ours shows is one: program, command and options are there, and the values fit."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from aggregator.dashboard_child import spelled_out

ROOT = Path(__file__).parents[3]
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "cli.md"),
]
PROGRAMS = {"fl-agg": "aggregator.cli", "fl-edge": "edge_client.cli", "fl-sim": "fl_sim.cli"}
_LINE = re.compile(r"^ *(?:ExecStart=\S*/|\.venv/bin/)?(fl-(?:agg|edge|sim) [a-z].*)$", re.MULTILINE)


def shown() -> list[tuple[str, str]]:
    """(page, command) for every line of a code block that runs one of our programs."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = re.findall(
            r"^```\w*\n(.*?)^```$|((?:^    \S.*\n(?:      .*\n)*)+)", text, re.MULTILINE | re.DOTALL
        )
        for block in blocks:
            lines = "".join(block).replace("\\\n", " ")
            found += [(page.name, line.partition("  #")[0]) for line in _LINE.findall(lines)]
    return found


def test_there_are_commands_to_check() -> None:
    assert len(shown()) > 25
    assert {"README.md", "quickstart.md", "lab.md", "hospital.md", "faces.md", "simulation.md"} <= {
        page for page, _ in shown()
    }


@pytest.mark.parametrize(("page", "command"), shown())
def test_a_shown_command_can_be_given(page: str, command: str) -> None:
    program, name, *words = spelled_out([word for word in shlex.split(command) if word != "..."])
    app = typer.main.get_command(importlib.import_module(PROGRAMS[program]).app)
    commands = app.commands  # type: ignore[attr-defined]
    assert name in commands, f"{page}: {program} has no command {name}"
    commands[name].make_context(name, words)  # raises for an option that is none; runs nothing
