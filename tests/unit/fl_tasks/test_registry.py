from __future__ import annotations

import subprocess
import sys

import pytest

from fl_protocol.errors import ConfigError
from fl_tasks import registry
from fl_tasks.base import Place, Task
from fl_tasks.registry import get_task, load_plugin, register, task_names


def test_an_unknown_task_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown task 'xray': use one of chest-xray, cifar10, .*medmnist:NAME, mnist$"
    ):
        get_task("xray")
    with pytest.raises(ConfigError, match=r"use one of .*medmnist:bloodmnist, medmnist:breastmnist"):
        get_task("medmnist:blood")


def test_naming_tasks_loads_no_torch() -> None:
    code = "import sys; from fl_tasks.registry import task_names; print(*task_names(), *{'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert {"chest-xray", "mnist", "cifar10", "medmnist:pneumoniamnist", "medmnist:pathmnist"} <= {*names}
    assert "torch" not in names


def test_a_set_with_several_labels_an_image_is_no_task_and_says_why() -> None:
    with pytest.raises(ConfigError, match=r"'medmnist:chestmnist' \(its images have several labels each"):
        get_task("medmnist:chestmnist")


@pytest.mark.parametrize("name", ["medmnist:chestmnist", "medmnist:", "medmnist", "MNIST", "medmnist:../x"])
def test_a_family_is_no_door_to_other_names(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown task"):
        get_task(name)


def test_a_plugin_registers_and_does_not_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    places: list[Place] = []

    def factory(place: Place) -> Task:
        places.append(place)
        raise ConfigError("built")

    register("mine", factory)
    register("mine", factory)  # imported twice is no harm
    assert "mine" in task_names()
    with pytest.raises(ConfigError, match="built"):
        get_task("mine", Place("cpu", 2))
    assert places == [Place("cpu", 2)]
    with pytest.raises(ConfigError, match="registered already"):
        register("chest-xray", factory)


def test_a_plugin_must_be_importable() -> None:
    with pytest.raises(ConfigError, match=r"no module 'no_such\.plugin'"):
        load_plugin("no_such.plugin")
    load_plugin("json")
