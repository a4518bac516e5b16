"""What an operator may set when a run is launched from afar: a form to fill in, and the check of what was filled in.

The options are those of ``fl-agg start`` that make the rule of a run; what names a file, a host or a module is none of
them. Types, bounds and errors are the command line's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aggregator import options as opt
from aggregator.rule import rule_of
from fl_protocol import commandline as cl
from fl_protocol.errors import ConfigError


@cl.spread
def launch(
    *,
    rounds: opt.RoundsOption = opt.ROUNDS,
    learning: opt.LearningOptions,
    min_clients: opt.MinClientsOption = opt.MIN_CLIENTS,
    inviting: opt.InvitingOptions,
    closing: opt.ClosingOptions,
    judging: opt.JudgingOptions,
    training: opt.TrainingOptions,
) -> None:
    """What of ``fl-agg start`` makes the rule of a run. It is read, never run."""


LAUNCHABLE = (
    "task", "model", "strategy", "strategy_option", "rounds", "min_clients", "cohort", "quorum", "grace", "deadline",
    "retries", "sampling", "eval_cohort", "best_by", "early_stop", "local_epochs", "local_steps",
    "local_epochs_schedule", "batch_size", "learning_rate", "learning_rate_schedule", "proximal_mu",
    "proximal_mu_schedule", "image_size", "seed",
)  # fmt: skip
"""In the order in which one decides on them. Named one by one: nothing becomes settable from afar by itself."""
SEVERAL = ("strategy_option",)
"""Those that may be given several times: here in one text, with spaces between."""
GOES_WITH = {
    "task": ("model", "image_size", "batch_size", "learning_rate", "learning_rate_schedule"),
    "strategy": ("strategy_option",),
    "local_steps": ("local_epochs",),
    "local_epochs": ("local_steps",),
}
"""Another value of the first makes what was meant for its old one void."""


def launch_form() -> list[dict[str, Any]]:
    """The form, a field an option: ``name``, ``help``, ``kind`` (number, text, choice), ``choices``, ``default``
    (None: the task's or the strategy's) and ``panel``, the heading it stands under.
    """
    choices, options = _choices(), _options()
    return [
        {
            "name": name,
            "help": options[name].help,
            "kind": "choice" if name in choices else "number" if options[name].is_number else "text",
            "choices": choices.get(name, []),
            "default": options[name].default,
            "panel": options[name].panel,
        }
        for name in LAUNCHABLE
    ]


def checked_launch(settings: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a launch by name, as :func:`aggregator.rule.rule_of` takes them.

    ``settings`` are texts as one would type them; an empty one means what a run without it would have. ``given`` are
    options of the aggregator's own command line, as typer has them: what a launch does not say. Raises ConfigError,
    naming the option, for what cannot be, and for what is not to be set from afar.
    """
    usual = {name: option.default for name, option in _options().items()}
    found = {name: given.get(name, usual[name]) for name in LAUNCHABLE}
    said = _values(settings) | {name: usual[name] for name, text in settings.items() if not text.strip()}
    for name, others in GOES_WITH.items():
        if name in said and said[name] != found[name]:
            found |= {other: usual[other] for other in others}
    found |= said
    # Who checks a launch elsewhere does not know whether there is central data, or a plug-in: nothing rests on it then.
    rule_of(found, evaluate=given.get("eval_data", "unknown") is not None)
    _check_names(found, given)
    return found


def _values(settings: Mapping[str, str]) -> dict[str, Any]:
    """What is said, as the command line understands it."""
    for name in settings:
        if name not in LAUNCHABLE:
            raise ConfigError(f"{name[:40]!r} cannot be set by a launch: it can set {', '.join(LAUNCHABLE)}")
    options = _options()
    said = [(name, text.strip()) for name, text in settings.items() if text.strip()]
    several = [(name, word) for name, text in said for word in (text.split() if name in SEVERAL else [text])]
    found = cl.values_of(launch, "fl-agg start", [(options[name].spelled, word) for name, word in several])
    return {name: found[name] for name, _ in said}


def _check_names(found: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """A plug-in may bring tasks that only the task process knows: it says so, later."""
    if given.get("plugin", "unknown") is None:
        choices = _choices()
        if found["task"] not in choices["task"]:
            raise ConfigError(f"--task {found['task']}: use one of {', '.join(choices['task'])}")
        if found["model"] is not None and found["model"] not in choices["model"]:
            raise ConfigError(f"--model {found['model']}: use one of {', '.join(choices['model'])}")


def _choices() -> dict[str, list[str]]:
    from aggregator.strategies.registry import STRATEGIES
    from fl_protocol import entrypoints
    from fl_tasks.models import MODEL_NAMES
    from fl_tasks.registry import task_names

    return {
        "task": task_names(),
        "model": [*MODEL_NAMES, *entrypoints.offered(entrypoints.MODELS)],
        "strategy": [*STRATEGIES, *entrypoints.offered(entrypoints.STRATEGIES)],
    }


def _options() -> dict[str, cl.Option]:
    return cl.options_of(launch)
