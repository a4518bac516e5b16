"""The package of docs/strategies.md, as it stands there: its strategy, its task and its model are used by their names."""

from __future__ import annotations

import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.e2e.processes import Program, Programs
from tests.packages import make_package

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"


def written_files() -> dict[str, str]:
    """The files that the page spells out: a name in backquotes and a colon, then a block."""
    found = re.findall(r"`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    return dict(found)


@pytest.fixture
def acme(programs: Programs, tmp_path: Path) -> Programs:
    """Programs of an environment in which the page's package is installed."""
    files = written_files()
    toml: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    project = toml.loads(files.pop("pyproject.toml"))["project"]
    folder = make_package(tmp_path / "site", project["name"], project["entry-points"], files)
    programs.env["PYTHONPATH"] = os.pathsep.join((str(folder), programs.env["PYTHONPATH"]))
    return programs


def site(programs: Programs, name: str, *numbers: float) -> Program:
    data = programs.folder / f"{name}-data"
    data.mkdir()
    (data / "numbers.txt").write_text("\n".join(map(str, numbers)))
    return programs.start(
        "fl-edge", "join", "--broker", programs.broker, "--job", programs.job, "--client-id", name, "--workdir",
        programs.folder / name, "--data", data, name=name,
    )  # fmt: skip


def test_the_strategy_is_listed(acme: Programs) -> None:
    listed = acme.start("fl-agg", "strategies")
    assert listed.wait() == 0, listed.told()
    assert "acme-nesterov: FedAvg with Nesterov momentum at the server" in listed.out
    assert "Nesterov 1983 (package acme-federated)" in listed.out


def test_task_and_strategy_run_and_resume(acme: Programs) -> None:
    """Two sites, means 2 and 8: the momentum carries the model beyond their mean, and a kill changes nothing."""
    words = (
        "start", "--broker", acme.broker, "--job", acme.job, "--out", acme.run_dir, "--task", "acme-mean", "--model",
        "mean", "--strategy", "acme-nesterov", "--strategy-option", "momentum=0.5", "--rounds", 3, "--grace", 20,
        "--quorum", "1.0",
    )  # fmt: skip
    agg = acme.start("fl-agg", *words)
    first, second = site(acme, "north", 1, 2, 3), site(acme, "south", 8)
    agg.says(r"round=1 outcome=closed")
    agg.kill()
    agg = acme.start("fl-agg", *words)
    assert agg.wait() == 0, agg.told()
    assert [first.wait(), second.wait()] == [0, 0], first.told()
    mean, model, momentum = (6 + 8) / 4, 0.0, 0.0
    for _ in range(3):
        momentum = 0.5 * momentum + (mean - model)
        model += 0.5 * momentum + (mean - model)
    assert load_file(acme.run_dir / "global.safetensors")["mean"][0] == pytest.approx(model, rel=1e-6)


def test_a_strategy_that_fails_in_use_ends_the_run_with_one_line(programs: Programs, tmp_path: Path) -> None:
    """And once it is mended the same command goes on with what it held."""
    source = (
        "from dataclasses import dataclass\nfrom aggregator.strategies.fedavg import FedAvg\n"
        "@dataclass(frozen=True)\nclass Own(FedAvg):\n"
    )
    broken = "    def combine(self, piece, weights):\n        raise ValueError('not today')\n"
    points = {"hilum.strategies": {"own": "acme:Own"}}
    folder = make_package(tmp_path / "site", "acme", points, {"acme.py": source + broken})
    programs.env["PYTHONPATH"] = os.pathsep.join((str(folder), programs.env["PYTHONPATH"]))
    words = ("--strategy", "own", "--rounds", 1, "--grace", 20)
    edges = [programs.edge(f"edge{k}", "--shard", f"{k}/2") for k in (1, 2)]
    agg = programs.agg(*words)
    assert agg.wait() == 2, agg.told()
    last = agg.err.strip().splitlines()[-1]
    wanted = "fl-agg: strategy 'own' of package acme (acme:Own) failed: ValueError: not today; mend or uninstall it"
    assert last == wanted
    assert "Traceback" not in agg.err
    (folder / "acme.py").write_text(source + "    pass\n")
    again = programs.agg(*words)
    assert again.wait() == 0, again.told()
    assert [edge.wait() for edge in edges] == [0, 0]


def test_the_model_is_built(acme: Programs) -> None:
    agg = acme.start("fl-agg", "start", "--broker", acme.broker, "--job", acme.job, "--out", acme.run_dir, "--model",
                     "acme-linear")  # fmt: skip
    agg.says("waiting for clients")
    agg.interrupt()
    agg.wait()
    assert load_file(acme.run_dir / "global.safetensors")["2.weight"].shape == (2, 64)
