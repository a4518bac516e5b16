from __future__ import annotations

from fl_tasks.defaults import DEFAULT_MODEL, DEFAULT_TASK, DEFAULTS, defaults_for
from fl_tasks.models import check_name
from fl_tasks.registry import task_names


def test_the_defaults_exist() -> None:
    assert DEFAULT_TASK in task_names()
    assert check_name(DEFAULT_MODEL) == DEFAULT_MODEL
    assert defaults_for(DEFAULT_TASK) is defaults_for("a plug-in's task") is DEFAULTS[DEFAULT_TASK]
    assert defaults_for(DEFAULT_TASK).local_epochs == 3
    assert defaults_for(DEFAULT_TASK).model == DEFAULT_MODEL


def test_a_family_shares_its_defaults() -> None:
    assert (
        defaults_for("medmnist:pathmnist") is defaults_for("medmnist:pneumoniamnist") is DEFAULTS["medmnist"]
    )
    for found in DEFAULTS.values():
        assert check_name(found.model)
