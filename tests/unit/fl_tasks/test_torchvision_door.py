from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fl_tasks


def test_the_door_opens_and_keeps_the_models_usable() -> None:
    from fl_tasks.torchvision_door import models

    assert callable(models.resnet18)
    assert "torchvision" in sys.modules


def test_a_whole_build_is_left_alone(tmp_path: Path) -> None:
    """A torchvision that imports at once must not have operators declared over its own."""
    package = tmp_path / "torchvision" / "models"
    package.mkdir(parents=True)
    (tmp_path / "torchvision" / "__init__.py").touch()
    (package / "__init__.py").touch()
    code = "from fl_tasks import torchvision_door as d; print(d._declared, d.models.__file__)"
    env = {"PYTHONPATH": f"{tmp_path}:{Path(fl_tasks.__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == f"[] {package / '__init__.py'}"


def test_another_failure_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('something else')")
    code = "import fl_tasks.torchvision_door"
    env = {"PYTHONPATH": f"{tmp_path}:{Path(fl_tasks.__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert "something else" in done.stderr


def test_nobody_else_imports_torchvision() -> None:
    root = Path(fl_tasks.__file__).parent
    importers = [
        path.name
        for path in root.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.strip().startswith(("import torchvision", "from torchvision"))
    ]
    assert importers == []  # the door asks importlib
