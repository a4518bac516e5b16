"""Who may import whom, as one table over the syntax trees.

ruff's TID251 lifts every ban at once where a file is excepted, and import-linter looks at whole modules only. Here each
rule stands on its own, and late imports inside functions count as well.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("aggregator", "edge_client", "fl_protocol", "fl_sim", "fl_tasks", "fl_web")
EVERYTHING = (*PRODUCT, "benchmarks", "docs", "tests")

# Module -> the only files of the product that may import it.
DOORS = {
    "paho": ("fl_protocol/transport.py",),
    "torch": ("fl_tasks/*",),
    "torchvision": ("fl_tasks/torchvision_door.py",),
    "ray": ("fl_sim/ray_engine.py",),
    "typer": ("*/cli.py", "fl_protocol/commandline.py"),
    "click": ("*/cli.py", "fl_protocol/commandline.py"),
}
# Nowhere at all, tests included: these read or run code from bytes.
NEVER = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
NEVER_CALLED = ("torch.load", "torch.save")

PURE = (
    "aggregator/admission.py",
    "aggregator/cohort.py",
    "aggregator/federation.py",
    "aggregator/intake.py",
    "aggregator/phase.py",
    "aggregator/round.py",
    "aggregator/round_times.py",
    "aggregator/strategies/fedasync.py",
    "aggregator/strategies/fedavg.py",
    "aggregator/strategies/fedbn.py",
    "aggregator/strategies/fedbuff.py",
    "aggregator/strategies/fednova.py",
    "aggregator/strategies/fedopt.py",
    "aggregator/strategies/fedprox.py",
    "aggregator/strategies/geometric_median.py",
    "aggregator/strategies/krum.py",
    "aggregator/strategies/median.py",
    "aggregator/strategies/norm_clipping.py",
    "aggregator/strategies/options.py",
    "aggregator/strategies/scaffold.py",
    "aggregator/strategies/staleness.py",
    "aggregator/strategy.py",
    "aggregator/temperature.py",
    "edge_client/following.py",
    "aggregator/wishes.py",
    "edge_client/session.py",
    "fl_protocol/transfer.py",
    "fl_sim/frames.py",
    "fl_sim/line.py",
    "fl_sim/profiles.py",
    "fl_sim/world.py",
    "fl_web/dashboard/clients.py",
    "fl_web/dashboard/lines.py",
    "fl_web/dashboard/parts.py",
    "fl_web/dashboard/view.py",
)
IMPURE = (
    *(
        "asyncio",
        "concurrent",
        "datetime",
        "fcntl",
        "http",
        "logging",
        "multiprocessing",
        "os",
        "paho",
        "pathlib",
    ),
    *(
        "queue",
        "rich",
        "secrets",
        "select",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
    ),
    *("tempfile", "threading", "time", "torch", "torchvision", "typer", "urllib", "uuid"),
)
# Left package -> packages it must not import.
SIBLINGS = {
    "fl_protocol": ("aggregator", "edge_client", "fl_sim", "fl_tasks", "fl_web"),
    "fl_tasks": ("aggregator", "edge_client", "fl_sim", "fl_web"),
    "fl_web": ("aggregator", "edge_client", "fl_sim", "fl_tasks"),
    "aggregator": ("edge_client", "fl_sim"),
    "edge_client": ("aggregator", "fl_sim"),
}


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and dotted name of everything imported, at the top or inside a function."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.lineno, f"{node.module or '.'}.{alias.name}") for alias in node.names]
    return found


def violations(path: str, source: str) -> list[str]:
    """One line for each import in the file at ``path`` (relative to the root) that the tables above forbid."""
    tree = ast.parse(source)
    package = path.split("/", maxsplit=1)[0]
    found = []
    for line, name in imports(tree):
        top = name.split(".")[0]
        if top in NEVER:
            found.append(f"{path}:{line} {top}: reads or runs code from bytes")
        if package in PRODUCT and top in DOORS and not any(fnmatch(path, door) for door in DOORS[top]):
            found.append(f"{path}:{line} {top}: only in {', '.join(DOORS[top]) or 'no file'}")
        if path in PURE and top in IMPURE:
            found.append(f"{path}:{line} {top}: this module decides, it does not act")
        if top in SIBLINGS.get(package, ()):
            found.append(f"{path}:{line} {top}: {package} must not know it")
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for node in attributes:
        name = ast.unparse(node)
        if name in NEVER_CALLED and package != "tests":
            found.append(f"{path}:{node.lineno} {name}: models are safetensors")
        if path in PURE and re.match(r"random\.(?!Random\b)", name):
            found.append(f"{path}:{node.lineno} {name}: chance is an argument, a seeded random.Random")
    return found


def test_every_file_keeps_the_rules() -> None:
    files = [path for folder in EVERYTHING for path in sorted((ROOT / folder).rglob("*.py"))]
    assert files
    found = [
        fault
        for path in files
        for fault in violations(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("aggregator/server.py", "import paho.mqtt.client"),
        ("aggregator/server.py", "def f() -> None:\n    import torch\n"),
        ("fl_tasks/training.py", "from torchvision import models"),
        ("edge_client/agent.py", "import typer"),
        ("edge_client/session.py", "from time import monotonic"),
        ("aggregator/round.py", "from fl_tasks import base\nimport logging"),
        ("fl_protocol/transfer.py", "import threading as t"),
        ("aggregator/cohort.py", "import random\nrandom.shuffle([])"),
        ("fl_protocol/codec.py", "import fl_tasks.base"),
        ("edge_client/agent.py", "from aggregator.round import Round"),
        ("tests/unit/test_anything.py", "import pickle"),
        ("fl_tasks/models/resnet.py", "import torch\ntorch.load('model.pt')"),
    ],
)
def test_a_forbidden_import_is_named(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("fl_protocol/transport.py", "import paho.mqtt.client"),
        ("fl_tasks/training.py", "import torch"),
        ("fl_tasks/torchvision_door.py", "import torchvision"),
        ("edge_client/cli.py", "import typer"),
        ("edge_client/session.py", "from fl_protocol.messages import Birth"),
    ],
)
def test_a_door_is_open_where_it_should_be(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_every_pure_module_exists() -> None:
    """A renamed module must not slip out of the rules."""
    assert [path for path in PURE if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(
    "module", ["fl_protocol", "fl_protocol.transfer", "fl_tasks", "fl_tasks.jobs", "fl_tasks.process"]
)
def test_light_modules_load_without_torch(module: str) -> None:
    heavy = f"import sys, {module}; sys.exit([m for m in ('torch', 'torchvision') if m in sys.modules] != [])"
    assert subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, check=False, timeout=60).returncode == 0
