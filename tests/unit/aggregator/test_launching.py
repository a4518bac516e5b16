"""What a launch may set from afar, and with which words it is refused."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator.launching import LAUNCHABLE, checked_launch, launch_form
from aggregator.rule import rule_of
from fl_protocol.errors import ConfigError

HERE: dict[str, Any] = {"eval_data": None, "plugin": None}
"""What an aggregator without central data and plug-in was given."""


def test_the_form_has_a_field_for_every_option_of_the_rule() -> None:
    form = {field["name"]: field for field in launch_form()}
    assert tuple(form) == LAUNCHABLE
    assert form["rounds"] == {
        "name": "rounds", "help": "How many rounds to run.", "kind": "number", "choices": [], "default": 10,
        "panel": "ROUNDS",
    }  # fmt: skip
    assert form["learning_rate"]["kind"] == "number" and form["learning_rate"]["default"] is None
    assert form["cohort"]["kind"] == "text"
    for name, one in (("task", "mnist"), ("model", "tiny-cnn"), ("strategy", "fedbuff")):
        assert form[name]["kind"] == "choice" and one in form[name]["choices"]
    assert not {"out", "broker", "init", "plugin", "eval_data", "device", "listen"} & set(form)


def test_the_form_has_just_what_a_rule_is_made_of() -> None:
    class Noted(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            read.add(key)
            return super().__getitem__(key)

    read: set[str] = set()
    rule_of(Noted(checked_launch({}, HERE)), evaluate=False)
    assert read == set(LAUNCHABLE)


def test_a_launch_is_what_is_said_and_for_the_rest_what_the_aggregator_was_given() -> None:
    given = HERE | {"rounds": 7, "quorum": "0.5", "seed": 3}
    found = checked_launch(
        {
            "rounds": " 3 ",
            "learning_rate": "1e-3",
            "strategy": "fedadam",
            "strategy_option": "server_lr=0.1  beta1=0.8",
        },
        given,
    )
    config, strategy = rule_of(found, evaluate=False)
    assert (config.rounds, config.plan.learning_rate, config.seed, str(config.quorum)) == (3, 1e-3, 3, "0.5")
    assert (strategy.name, found["strategy_option"]) == ("fedadam", ["server_lr=0.1", "beta1=0.8"])
    assert checked_launch({}, given)["rounds"] == 7


def test_an_empty_text_takes_back_what_the_aggregator_was_given() -> None:
    found = checked_launch({"quorum": "", "rounds": " "}, HERE | {"quorum": "2", "rounds": 3})
    assert (found["quorum"], found["rounds"]) == (None, 10)


def test_what_was_given_for_another_task_strategy_or_measure_of_work_is_not_kept() -> None:
    given = HERE | {
        "strategy": "fedprox",
        "strategy_option": ["mu=0.1"],
        "model": "resnet18",
        "local_epochs": 2,
    }
    assert checked_launch({"strategy": "fedadam"}, given)["strategy_option"] is None
    assert checked_launch({"strategy": "fedprox"}, given)["strategy_option"] == ["mu=0.1"]
    assert checked_launch({"task": "mnist"}, given)["model"] is None
    found = checked_launch({"local_steps": "20"}, given)
    assert (found["local_steps"], found["local_epochs"]) == (20, None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rounds": "many"}, "--rounds"),
        ({"rounds": "0"}, "--rounds 0 is too small"),
        ({"seed": "-1"}, "--seed -1 is too small"),
        ({"learning_rate": "nan"}, "--learning-rate nan"),
        ({"quorum": "3", "cohort": "2"}, "--quorum 3 is above --cohort 2"),
        ({"strategy": "fedx"}, "unknown strategy 'fedx'"),
        ({"strategy_option": "lr"}, "--strategy-option 'lr' is not key=value"),
        ({"task": "x-files"}, "--task x-files: use one of chest-xray"),
        ({"model": "../model"}, "--model ../model: use one of"),
        ({"best_by": "auroc"}, "needs --eval-data"),
        ({"local_steps": "5", "local_epochs": "1"}, "two measures of one thing"),
        ({"out": "/tmp"}, "'out' cannot be set by a launch"),
        ({"init": "a.safetensors"}, "'init' cannot be set by a launch"),
        ({"plugin": "os"}, "'plugin' cannot be set by a launch"),
        ({"--rounds": "3"}, "'--rounds' cannot be set by a launch"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_words_of_the_command_line(
    settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        checked_launch(settings, HERE)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_who_checks_from_elsewhere_does_not_know_what_the_aggregator_has() -> None:
    assert checked_launch({"best_by": "auroc", "task": "of-a-plugin"}, {})["best_by"] == "auroc"
