"""The rule of a run from the options of a command: what fl-agg start, fl-sim run and fl-sim compare have in common.

A command's options come as a mapping by name, as typer has them; what is not said is None. Raises ConfigError, always
naming the option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aggregator.best import AT_SITES, EarlyStop
from aggregator.cohort import POWER_OF_CHOICE, Sampling, Share
from aggregator.events import FederationConfig
from aggregator.schedule import Schedules, parse_schedule
from aggregator.strategies.options import split_options
from aggregator.strategies.registry import get_strategy, shown_options
from aggregator.strategy import Strategy
from fl_protocol.bounds import at_least
from fl_protocol.errors import ConfigError
from fl_protocol.messages import FIGURE, Plan
from fl_tasks.defaults import defaults_for

Given = Mapping[str, Any]
LONGEST_NAME = 64
USUAL_CLOSING = {"quorum": "0.66", "grace": 60.0}
FIRST_UPDATE = {"quorum": "1", "grace": 0.0}
"""When a round closes where the operator says nothing: as usual, and with an asynchronous strategy."""


def rule_of(given: Given, *, evaluate: bool) -> tuple[FederationConfig, Strategy]:
    """The rule of a run and its strategy. ``evaluate``: rounds are scored on central data."""
    strategy = get_strategy(given["strategy"], split_options(given["strategy_option"] or ()))
    defaults = defaults_for(given["task"])
    said = plan_of(given)
    plan = strategy.plan(said)
    # A person's word goes before the strategy's: 0 is what FedProx is held against.
    if given["proximal_mu"] is not None:
        plan = replace(plan, proximal_mu=said.proximal_mu)
    usual = closing_of(strategy)
    config = FederationConfig(
        rounds=at_least(given["rounds"], 1, "--rounds"),
        min_clients=at_least(given["min_clients"], 1, "--min-clients"),
        cohort=Share.parse(given["cohort"], "--cohort"),
        eval_cohort=_maybe(Share.parse, given, "eval_cohort"),
        quorum=Share.parse(_said(given, "quorum", usual), "--quorum"),
        grace_s=at_least(_said(given, "grace", usual), 0.0, "--grace"),
        deadline_s=at_least(given["deadline"], 0.1, "--deadline"),
        retries=at_least(given["retries"], 0, "--retries"),
        seed=plan.seed,
        task=given["task"],
        model=given["model"] or defaults.model,
        image_size=_chosen(given, "image_size", 8, 4096),
        plan=plan,
        evaluate=evaluate,
        max_staleness=strategy.max_staleness,
        schedules=schedules_of(given, plan),
        sampling=Sampling.parse(given["sampling"], "--sampling"),
        best_by=given["best_by"],
        early_stop=_maybe(EarlyStop.parse, given, "early_stop"),
    )
    for check in (check_quorum, check_sampling, check_warmup, check_measure):
        check(config)
    check_updates(config, strategy)
    return config, strategy


def closing_of(strategy: Strategy) -> dict[str, Any]:
    """When its rounds close where the operator says nothing."""
    return FIRST_UPDATE if strategy.asynchronous else USUAL_CLOSING


def _said(given: Given, name: str, usual: Mapping[str, Any]) -> Any:
    return given[name] if given[name] is not None else usual[name]


def plan_of(given: Given) -> Plan:
    """How clients train, before strategy and schedules have their say."""
    defaults, steps = defaults_for(given["task"]), given["local_steps"]
    if steps is not None and given["local_epochs"] is not None:
        raise ConfigError("--local-steps and --local-epochs are two measures of one thing: give one of them")
    return Plan(
        local_epochs=_chosen(given, "local_epochs", 1, 10_000),
        batch_size=_chosen(given, "batch_size", 1, 65_536),
        learning_rate=_chosen(given, "learning_rate", 0.0, 1e6),
        seed=at_least(given["seed"], 0, "--seed", 2**63 - 1),
        local_steps=None if steps is None else at_least(steps, 1, "--local-steps", 10**9),
        proximal_mu=at_least(given["proximal_mu"] or 0.0, 0.0, "--proximal-mu", 1e6),
        momentum=defaults.momentum,
        weight_decay=defaults.weight_decay,
    )


def schedules_of(given: Given, plan: Plan) -> Schedules:
    """Raises ConfigError also for a schedule of a proximal term that there is none of."""
    rate = given["learning_rate_schedule"] or defaults_for(given["task"]).learning_rate_schedule
    spoken = {"learning_rate_schedule": rate} | {
        name: given[name] for name in ("local_epochs_schedule", "proximal_mu_schedule")
    }
    found = Schedules(*(parse_schedule(text, _spelled(name)) for name, text in spoken.items()))
    if found.proximal_mu != Schedules().proximal_mu and plan.proximal_mu == 0.0:
        raise ConfigError(
            "--proximal-mu-schedule has nothing to change: give --proximal-mu, or --strategy fedprox"
        )
    return found


def _chosen(given: Given, name: str, lowest: Any, highest: Any) -> Any:
    """What the operator says, else the task's default."""
    value = given[name] if given[name] is not None else getattr(defaults_for(given["task"]), name)
    return at_least(value, lowest, _spelled(name), highest)


def _maybe(parse: Any, given: Given, name: str) -> Any:
    return parse(given[name], _spelled(name)) if given[name] is not None else None


def _spelled(name: str) -> str:
    return "--" + name.replace("_", "-")


# --- what does not go together ------------------------------------------------------------------------------------


def check_quorum(config: FederationConfig) -> None:
    """Raises ConfigError for a quorum that no round could ever reach."""
    quorum, cohort = config.quorum.count, config.cohort.count
    if quorum is not None and cohort is not None and quorum > cohort:
        raise ConfigError(f"--quorum {quorum} is above --cohort {cohort}: no round could ever close")


def check_updates(config: FederationConfig, strategy: Strategy) -> None:
    """Raises ConfigError if a round could close with fewer updates than the strategy can work with."""
    fewest = config.quorum.of(config.cohort.of(config.min_clients))
    if fewest < strategy.min_updates:
        raise ConfigError(
            f"--strategy {strategy.name} with these options needs {strategy.min_updates} updates a round, and a "
            f"round could close with {fewest}: give --quorum {strategy.min_updates}"
        )


def check_sampling(config: FederationConfig) -> None:
    """Raises ConfigError for fewer candidates than a cohort has clients: then there is no choice."""
    cohort, sampling = config.cohort.count, config.sampling
    if sampling.kind == POWER_OF_CHOICE and cohort is not None and sampling.candidates < cohort:
        raise ConfigError(
            f"--sampling {sampling} has fewer candidates than --cohort {cohort}: give more of them"
        )


def check_warmup(config: FederationConfig) -> None:
    """Raises ConfigError for a warm-up that never ends."""
    schedules = config.schedules
    for schedule in (schedules.learning_rate, schedules.local_work, schedules.proximal_mu):
        if schedule.warmup >= config.rounds:
            raise ConfigError(
                f"a warm-up of {schedule.warmup} rounds never ends in --rounds {config.rounds}: give a shorter one"
            )


def check_measure(config: FederationConfig) -> None:
    """Raises ConfigError for a metric of which no round could ever tell anything."""
    name = config.best_by
    if name is None:
        return
    if not name or len(name) > LONGEST_NAME:
        raise ConfigError(f"--best-by {name[:LONGEST_NAME]!r} is no metric: write auroc or {AT_SITES}auroc")
    if name.startswith(FIGURE):
        raise ConfigError(f"--best-by {name}: what the sites measure is called client_{name}")
    if name.startswith("client_") and not name.startswith(AT_SITES):
        raise ConfigError(
            f"--best-by {name} is of the clients' training, not of a model: use {AT_SITES}auroc or {AT_SITES}loss"
        )
    if not name.startswith(AT_SITES) and not config.evaluate:
        raise ConfigError(f"--best-by {name} needs --eval-data; what the sites measure is {AT_SITES}{name}")


# --- what is written down of it -----------------------------------------------------------------------------------


def effective(
    settings: dict[str, dict[str, Any]], config: FederationConfig, strategy: Strategy
) -> dict[str, dict[str, Any]]:
    """The settings with the task's own defaults, and the strategy's, filled in."""
    settings.setdefault("strategy_option", {"source": "default"})["value"] = shown_options(strategy)
    plan = config.plan
    filled: dict[str, Any] = {
        "batch_size": plan.batch_size, "learning_rate": plan.learning_rate, "model": config.model,
        "learning_rate_schedule": str(config.schedules.learning_rate), "image_size": config.image_size, "momentum": plan.momentum, "weight_decay": plan.weight_decay,
    }  # fmt: skip
    if plan.local_steps is None:
        filled["local_epochs"] = plan.local_epochs
    sources = dict.fromkeys(filled, "task default") | {
        "proximal_mu": "strategy" if plan.proximal_mu else "default"
    }
    filled["proximal_mu"] = plan.proximal_mu
    sources |= dict.fromkeys(FIRST_UPDATE, "strategy" if strategy.asynchronous else "default")
    filled |= {"quorum": str(config.quorum), "grace": config.grace_s}
    for name, value in filled.items():
        if settings.get(name, {}).get("value") is None:
            settings[name] = {"value": value, "source": sources[name]}
    return settings
