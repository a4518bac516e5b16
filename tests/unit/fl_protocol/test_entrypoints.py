"""What other packages bring: found by name, loaded when asked for, and named when it fails."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aggregator import cli
from aggregator.strategies.registry import get_strategy
from fl_protocol import commandline as cl
from fl_protocol.entrypoints import MODELS, STRATEGIES, TASKS, blamed, culprit, offered
from fl_protocol.errors import ConfigError, DataError
from fl_protocol.messages import Plan
from fl_tasks import models
from fl_tasks.registry import get_task, task_names
from tests.packages import make_package
from tests.pieces import folded

numbers = itertools.count()
Install = Callable[[str, str, str], str]

STRATEGY = """
from dataclasses import dataclass
from aggregator.strategies.fedavg import FedAvg
from aggregator.strategies.options import option

@dataclass(frozen=True)
class Own(FedAvg):
    rate: float = option(1.0, "A rate.", within="(0, 1]")
    {method}
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Offer ``name`` in a group, from a module of this source; returns the module's name. A new one for each test."""

    def offer(group: str, name: str, source: str) -> str:
        number = next(numbers)
        module, folder = f"acme_{number}", tmp_path / str(number)
        target = f"{module}:Own"
        make_package(folder, f"acme-{number}", {group: {name: target}}, {f"{module}.py": source})
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return module

    return offer


def run(*words: str) -> int:
    return cl.exit_code(cli.app, "fl-agg", words)


def test_a_strategy_is_found_and_takes_its_options(install: Install) -> None:
    install(
        STRATEGIES,
        "own",
        STRATEGY.format(
            method="def step(self, piece, change):\n        return piece.base + self.rate * change, {}"
        ),
    )
    strategy = get_strategy("own", {"rate": "0.5"})
    found = folded(strategy, np.zeros(2, np.float32), [np.ones(2, np.float32)])
    assert strategy.name == "own" and found.model.tolist() == [0.5, 0.5]
    with pytest.raises(ConfigError, match=r"rate of own is a number in \(0, 1\]"):
        get_strategy("own", {"rate": "2"})


BROKEN = {
    "raises on load": ("raise RuntimeError('no licence\\nfor you')", "cannot be loaded: RuntimeError: no licence for you"),
    "leaves on load": ("import sys; sys.exit(3)", "cannot be loaded: SystemExit: 3"),
    "lacks what it offers": ("x = 1", "cannot be loaded: AttributeError"),
    "needs what is not there": ("import no_such_thing", "cannot be loaded: ModuleNotFoundError"),
    "is not Python": ("def (", "cannot be loaded: SyntaxError"),
    "is no strategy": ("Own = 3", "is no subclass of aggregator.strategy.Strategy"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_strategy_is_one_line_that_names_it(
    install: Install, capsys: pytest.CaptureFixture[str], source: str, said: str
) -> None:
    module = install(STRATEGIES, "own", source)
    assert run("start", "--strategy", "own", "--broker", "127.0.0.1:1") == 2
    line = capsys.readouterr().err
    assert line.startswith(f"fl-agg: strategy 'own' of package {module.replace('_', '-')} ({module}:Own) ")
    assert said in line and line.count("\n") == 1
    assert run("strategies") == 2, "the others are listed, and it is named"
    heard = capsys.readouterr()
    assert "fedavg: " in heard.out and "own: cannot be used" in heard.out
    assert module in heard.err and heard.err.count("\n") == 1


IN_USE = {
    "plan": ("def plan(self, plan):\n        raise ValueError('no plan')", "failed: ValueError: no plan"),
    "weigh": ("def weigh(self, gathered):\n        return 1 / 0", "failed: ZeroDivisionError"),
    "too few weights": (
        "def weigh(self, gathered):\n        from aggregator.strategy import Weights\n        return Weights([], 1.0)",
        "failed: it must weigh every update",
    ),
    "combine": ("def combine(self, piece, weights):\n        return piece.base[:1].astype(float)", "combine returned shape"),
    "step": ("def step(self, piece, change):\n        return change, {'x': change}", "must return the state it declared"),
}  # fmt: skip


@pytest.mark.parametrize(("method", "said"), IN_USE.values(), ids=IN_USE)
def test_a_strategy_that_fails_in_use_is_one_line_that_names_it(
    install: Install, method: str, said: str
) -> None:
    module = install(STRATEGIES, "own", STRATEGY.format(method=method))
    strategy = get_strategy("own")

    def use() -> None:
        strategy.plan(Plan(1, 16, 0.05, 0))
        folded(strategy, np.zeros(2, np.float32), [np.ones(2, np.float32)])

    with pytest.raises(ConfigError) as caught:
        use()
    assert f"strategy 'own' of package {module.replace('_', '-')}" in str(caught.value)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_no_package_takes_the_name_of_ours(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(STRATEGIES, "fedavg", "raise RuntimeError")
    assert get_strategy("fedavg").source.startswith("McMahan")
    assert run("strategies") == 2
    assert "has the name of one of ours: rename it" in capsys.readouterr().err


def test_a_task_is_found_by_its_name(install: Install) -> None:
    install(TASKS, "own-task", "class Own:\n    def __init__(self, place):\n        self.place = place")
    assert "own-task" in task_names()
    assert type(get_task("own-task")).__name__ == "Own"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('no licence')", "cannot be loaded: RuntimeError: no licence"),
        ("def Own(place):\n    raise RuntimeError('no device')", "cannot be built: RuntimeError: no device"),
        ("class Own:\n    def __init__(self, place): ...\n    def initialise(self, *given):\n        return {}['x']",
         "failed: KeyError: 'x'"),
    ],
    ids=["on load", "when built", "in use"],
)  # fmt: skip
def test_a_broken_task_ends_the_run_with_one_line_that_names_it(
    install: Install, capsys: pytest.CaptureFixture[str], tmp_path: Path, source: str, said: str
) -> None:
    module = install(TASKS, "own-task", source)
    out = str(tmp_path / "run")
    assert run("start", "--task", "own-task", "--broker", "127.0.0.1:1", "--out", out) == 2
    line = capsys.readouterr().err
    assert re.search(
        rf"task 'own-task' of package {module.replace('_', '-')} \({module}:Own\) {said}", line
    ), line
    assert "Traceback" not in line


def test_a_model_is_built_by_its_name(install: Install) -> None:
    install(
        MODELS,
        "own-model",
        "from torch import nn\ndef Own(classes, channels):\n    return nn.Linear(channels, classes)",
    )
    assert models.build("own-model", 4, 3).weight.shape == (4, 3)
    with pytest.raises(ConfigError, match=r"unknown model 'hers': use one of hilum-cnn.*own-model"):
        models.build("hers", 2)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('no licence')", "cannot be loaded: RuntimeError: no licence"),
        ("def Own(classes, channels):\n    return classes / 0", "cannot be built: ZeroDivisionError"),
        ("def Own(classes, channels):\n    return 'a model'", "made a str, no torch module"),
    ],
)
def test_a_broken_model_is_one_line_that_names_it(install: Install, source: str, said: str) -> None:
    module = install(MODELS, "own-model", source)
    with pytest.raises(ConfigError, match=rf"model 'own-model' of package acme-\d+ \({module}:Own\) {said}"):
        models.build("own-model", 2)


def test_an_error_is_laid_at_the_door_of_the_package_that_was_under_way(install: Install) -> None:
    install(MODELS, "own-model", "def Own(f):\n    return f()")
    own = offered(MODELS)["own-model"].load()
    with pytest.raises(ZeroDivisionError) as caught:
        own(lambda: 1 / 0)
    assert str(culprit(caught.value)).startswith("model 'own-model' of package")
    with pytest.raises(ZeroDivisionError) as ours:
        _ = 1 / 0
    assert culprit(ours.value) is None


def test_errors_that_people_can_mend_pass_as_they_are() -> None:
    with pytest.raises(DataError, match=r"^a line for people$"), blamed("x", "failed"):
        raise DataError("a line for people")
