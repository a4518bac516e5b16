"""Every command in docs/simulation.md runs, on a small folder where the page has real X-rays."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.e2e.conftest import phantoms
from tests.e2e.processes import Programs

PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"
COMMANDS = re.findall(r"^```sh\n(.+?)\n```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.split()[:2]))
def test_a_command_of_the_page_runs(command: str, programs: Programs) -> None:
    phantoms(programs.folder / "data" / "train", 30)
    phantoms(programs.folder / "data" / "test", 4)
    program_name, *words = shlex.split(command.replace("../shared/data/chest_xray", "data"))
    program = programs.start(program_name, *words)
    assert program.wait(90) == 0, program.told()
    out = programs.folder / words[words.index("--out") + 1]
    assert (out / "report.html").is_file()
    if words[0] == "run":
        lines = (out / "rounds.jsonl").read_text().splitlines()
        assert [json.loads(line)["round"] for line in lines] == [1, 2, 3]


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) == 3
