"""Every command in README.md runs: each fenced block in its order, in a copy of the project beside a small data folder.

What is run differs from what is printed only by the table below.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fl_tasks.phantoms import write_phantoms
from tests.brokers import Broker
from tests.e2e.processes import Program, clean_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
XRAYS = ROOT.parent / "shared" / "data" / "chest_xray"

SUBSTITUTIONS = (
    # Fewer rounds; and this environment is ready, so that make need not install again.
    ("make demo", "make -o .venv/.installed demo ROUNDS=1"),
    ("--rounds 10", "--rounds 2"),
    # A broker of the tests' own.
    ("--broker localhost", "--broker {broker}"),
    # Installing is what `make test` began with; here pip resolves the same request without a network.
    ("python3 -m venv .venv", "test -x .venv/bin/python"),
    (
        ".venv/bin/pip install -c constraints.txt",
        ".venv/bin/python -m pip install -q --dry-run --no-index --no-build-isolation -c constraints.txt",
    ),
    (" --index-url https://download.pytorch.org/whl/cpu", ""),
    # Pages on any free port.
    ("  # until Ctrl-C", "--listen 127.0.0.1:0  # until Ctrl-C"),
    # No container engine here: the file is held to its schema.
    ("docker compose up --build", "docker-compose config -q"),
)
IMAGES = {"train": 24, "test": 6, "val": 3}
"""Images of each class in each part of the small folder."""

Block = tuple[str, tuple[str, ...]]


def blocks() -> list[Block]:
    """(heading, commands) of every fenced block."""
    found: list[Block] = []
    heading = ""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for title, body in re.findall(r"^#+ ([^\n]+)$|^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if title:
            heading = title
        else:
            found.append((heading, tuple(line for line in body.splitlines() if line.strip())))
    return found


def small_folder(target: Path) -> None:
    """A few X-rays, each of another patient; phantoms where there are none."""
    if not XRAYS.is_dir():
        write_phantoms(target, train=48, test=16)
        shutil.copytree(target / "test", target / "val")
        return
    for part, count in IMAGES.items():
        for label in ("NORMAL", "PNEUMONIA"):
            found = sorted((XRAYS / part / label).glob("*.jpeg"))
            patients = {re.split(r"-\d{4}-|_\w+_", path.name, maxsplit=1)[0]: path for path in found}
            folder = target / part / label
            folder.mkdir(parents=True)
            for path in list(patients.values())[:count]:
                shutil.copy(path, folder)


class Terminals:
    """A copy of the project with a person in front of it: commands as printed, each in a session of its own."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder, self.broker = folder, broker
        self.env = clean_environment() | {"FL_BROKER": broker}  # for commands without --broker
        for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
            self.env.pop(name, None)
        self.started: list[Program] = []

    def start(self, printed: str) -> Program:
        command = printed
        for shown, run in SUBSTITUTIONS:
            command = command.replace(shown, run.format(broker=self.broker))
        log = self.folder.parent / f"{len(self.started)}.log"
        self.started.append(Program(["bash", "-c", command], self.folder, self.env, log))
        return self.started[-1]

    def run(self, printed: str) -> None:
        program = self.start(printed)
        assert program.wait(150) == 0, program.told()

    def run_until_interrupted(self, printed: str) -> None:
        """Its page answers, and Ctrl-C ends it."""
        program = self.start(printed)
        url = program.says(r"(http://127\.0\.0\.1:\d+)", 60)[1]
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b"Hilum" in answer.read()
        program.interrupt()
        assert program.wait() == 130, program.told()

    def healthy(self) -> bool:
        """What docker-compose.yml asks of its aggregator."""
        compose = (self.folder / "docker-compose.yml").read_text()
        asked = re.search(r'"CMD-SHELL", "(fl-agg status \| grep -q [^"]+)"', compose)
        assert asked
        command = ["bash", "-c", f".venv/bin/{asked[1]}"]
        return subprocess.run(command, cwd=self.folder, env=self.env, check=False).returncode == 0

    def run_together(self, printed: Sequence[str]) -> None:
        """One terminal each. All end by themselves when the job is finished."""
        programs = [self.start(command) for command in printed]
        seen_healthy = False
        while programs[0].running and not seen_healthy:
            seen_healthy = self.healthy()
        codes = [program.wait(200) for program in programs]
        told = "".join(program.told() for program in programs)
        assert codes == [0] * len(programs), told
        assert seen_healthy, told
        assert not self.healthy(), "the aggregator has ended"


@pytest.fixture(scope="module")
def terminals(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Terminals]:
    """The project as it is, with this environment as its .venv, and the data where README looks for it."""
    base = tmp_path_factory.mktemp("readme")
    skip = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "runs", "build", "tests"
    )
    shutil.copytree(ROOT, base / "hilum", ignore=skip)
    (base / "hilum" / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    small_folder(base / "shared" / "data" / "chest_xray")
    found = Terminals(base / "hilum", broker.options.where)
    yield found
    for program in found.started:
        program.end()


@pytest.mark.parametrize(("heading", "commands"), [pytest.param(*block, id=block[0]) for block in blocks()])
def test_block_runs(heading: str, commands: tuple[str, ...], terminals: Terminals) -> None:
    if "Containers" in heading and shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed")
    if all("# until Ctrl-C" in command for command in commands):
        for command in commands:
            terminals.run_until_interrupted(command)
        return
    if not all("# terminal" in command for command in commands):
        for command in commands:
            terminals.run(command)
        return
    terminals.run_together(commands)
    out = terminals.folder / "runs/default"
    assert (out / "global.safetensors").is_file()
    assert (out / "report.html").is_file()
    assert len((out / "rounds.jsonl").read_text().splitlines()) == 2


def test_every_substitution_is_used() -> None:
    commands = "\n".join(command for _, block in blocks() for command in block)
    assert [printed for printed, _ in SUBSTITUTIONS if printed not in commands] == []
    assert len(blocks()) >= 5


def test_a_wrong_command_is_found(terminals: Terminals) -> None:
    with pytest.raises(AssertionError, match="no-such-command"):
        terminals.run(".venv/bin/fl-agg no-such-command")
