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

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PRODUCT = ("aggregator", "edge_client", "fl_protocol", "fl_sim", "fl_tasks", "fl_web")
EVERYTHING = (*PRODUCT, "benchmarks", "docs", "tests")

# Module -> the only files of the product that may import it.
DOORS = {
    "paho": ("fl_protocol/transport.py",),
    "torch": ("fl_tasks/*",),
    "torchvision": ("fl_tasks/torchvision_door.py",),
    "ray": ("fl_sim/ray_engine.py",),
    "msgpack": ("fl_protocol/codec.py", "fl_protocol/tensors.py", "fl_tasks/jobs.py"),
    "sqlite3": ("aggregator/journal.py", "aggregator/start.py"),
    "prometheus_client": ("aggregator/metrics_page.py",),
    "tensorboardX": ("aggregator/tensorboard.py",),
    "starlette": ("fl_web/*",),
    "uvicorn": ("fl_web/serving.py",),
    "typer": ("*/cli.py", "fl_protocol/commandline.py"),
    "click": ("*/cli.py", "fl_protocol/commandline.py"),
}
# Only inside functions of these: who serves no page does not pay for one.
LATE = {"fl_web": ("aggregator", "edge_client")}
# Nowhere at all, tests included: these read or run code from bytes.
NEVER = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
NEVER_CALLED = ("torch.load", "torch.save")

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
PURE = {
    str(path.relative_to(ROOT))
    for module in next(each for each in CONTRACTS if each["id"] == "pure")["source_modules"]
    for path in ROOT.glob(f"{module.replace('.', '/')}.py")
}
"""The files of the modules that import-linter holds pure, whatever else they would import."""
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
    return found + early(path, tree) + calls(path, tree)


def early(path: str, tree: ast.Module) -> list[str]:
    """What is imported with the module, and is to be imported where it is used."""
    tops = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    return [
        f"{path}:{line} {name}: import it where it is used"
        for line, name in imports(tops)
        if path.split("/", maxsplit=1)[0] in LATE.get(name.split(".")[0], ())
    ]


def calls(path: str, tree: ast.Module) -> list[str]:
    found = []
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for node in attributes:
        name = ast.unparse(node)
        if name in NEVER_CALLED and not path.startswith("tests/"):
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
        ("edge_client/serve.py", "from fl_web.room.app import room_app"),
        ("aggregator/dashboard.py", "import starlette"),
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
        ("edge_client/serve.py", "def serve() -> None:\n    from fl_web.room.app import room_app"),
        ("edge_client/session.py", "from fl_protocol.messages import Birth"),
    ],
)
def test_a_door_is_open_where_it_should_be(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_what_says_that_it_is_pure_is_held_to_it() -> None:
    said = {
        str(path.relative_to(ROOT))
        for package in PRODUCT
        for path in (ROOT / package).rglob("*.py")
        if re.search(
            r"\bPure(?:[.:;]| and total)", ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        )
    }
    strategies = {path for path in PURE if path.startswith("aggregator/strategies/")}
    assert said - PURE == set()
    assert PURE - strategies - said == set(), "a pure module says so in its docstring"


def test_every_pure_module_exists() -> None:
    """A renamed module must not slip out of the rules."""
    modules = next(each for each in CONTRACTS if each["id"] == "pure")["source_modules"]
    assert [name for name in modules if not [*ROOT.glob(f"{name.replace('.', '/')}.py")]] == []


@pytest.mark.parametrize(
    "module", ["fl_protocol", "fl_protocol.transfer", "fl_tasks", "fl_tasks.jobs", "fl_tasks.process"]
)
def test_light_modules_load_without_torch(module: str) -> None:
    heavy = f"import sys, {module}; sys.exit([m for m in ('torch', 'torchvision') if m in sys.modules] != [])"
    assert subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, check=False, timeout=60).returncode == 0
