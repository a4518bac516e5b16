"""The rule of a run from options: what is filled in, and what is refused with the option's name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.best import EarlyStop
from aggregator.cohort import Sampling, Share
from aggregator.rule import effective, rule_of
from aggregator.schedule import Schedule, Schedules
from fl_protocol.errors import ConfigError
from fl_tasks.defaults import DEFAULT_TASK, DEFAULTS, defaults_for

PLAIN: dict[str, Any] = {
    "rounds": 10, "min_clients": 2, "cohort": "1.0", "sampling": "uniform", "eval_cohort": None, "quorum": "0.66",
    "grace": 60.0, "deadline": 3600.0, "retries": 2, "best_by": None, "early_stop": None, "task": "mnist", "model": None,
    "strategy": "fedavg", "strategy_option": None, "local_epochs": None, "local_steps": None,
    "local_epochs_schedule": "constant", "batch_size": None, "learning_rate": None, "learning_rate_schedule": "constant",
    "proximal_mu": None, "proximal_mu_schedule": "constant", "image_size": None, "seed": 3,
}  # fmt: skip


def rule(evaluate: bool = False, **changes: Any) -> Any:
    return rule_of(PLAIN | changes, evaluate=evaluate)[0]


def test_what_is_not_said_is_the_tasks() -> None:
    config, strategy = rule_of(PLAIN, evaluate=True)
    usual = defaults_for("mnist")
    assert (config.model, config.image_size, config.plan.batch_size) == (usual.model, 28, usual.batch_size)
    assert (config.plan.seed, config.seed, config.plan.weight_decay) == (3, 3, usual.weight_decay)
    assert (config.evaluate, config.eval_cohort, config.early_stop, strategy.name) == (
        True,
        None,
        None,
        "fedavg",
    )
    assert config.plan_of(7) == config.plan


def test_every_default_schedule_can_be_read_and_chest_x_rays_have_their_own() -> None:
    for task, usual in DEFAULTS.items():
        assert (
            str(rule(task=task, learning_rate_schedule=None).schedules.learning_rate)
            == usual.learning_rate_schedule
        )
    config = rule(task=DEFAULT_TASK, learning_rate_schedule=None)
    assert (
        config.plan_of(10).learning_rate
        < 0.1 * config.plan_of(1).learning_rate
        == 0.1 * config.plan.learning_rate
    )
    level = rule(task=DEFAULT_TASK, learning_rate_schedule="constant")
    assert level.plan_of(10).learning_rate == level.plan.learning_rate


def test_what_is_said_counts() -> None:
    config = rule(
        cohort="4", sampling="power-of-choice:6", eval_cohort="0.5", early_stop="3:0.01", best_by="client_eval_loss",
        local_steps=20, learning_rate=0.1, learning_rate_schedule="warmup:1,cosine", strategy="fedprox",
        proximal_mu_schedule="step:5:0.5",
    )  # fmt: skip
    assert config.sampling == Sampling("power-of-choice", 6)
    assert (config.eval_cohort, config.early_stop) == (Share(fraction=0.5), EarlyStop(3, 0.01))
    assert config.schedules == Schedules(
        Schedule("cosine", 1), Schedule(), Schedule("step", every=5, ratio=0.5)
    )
    first, later = config.plan_of(1), config.plan_of(6)
    assert (first.learning_rate, first.local_steps, first.proximal_mu) == (0.05, 20, 0.01)
    assert later.proximal_mu == 0.005
    assert rule(strategy="fedprox", proximal_mu=0.3).plan.proximal_mu == 0.3, (
        "the option wins over the strategy's"
    )


@given(number=st.integers(-5, 10**9))
def test_a_plan_is_there_for_every_number(number: int) -> None:
    """Also while a run waits for its first round, and after its last."""
    config = rule(learning_rate=0.1, learning_rate_schedule="cosine")
    assert 0.0 < config.plan_of(number).learning_rate <= 0.1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rounds": 0}, "--rounds 0 is too small"),
        ({"quorum": "3", "cohort": "2"}, "--quorum 3 is above --cohort 2"),
        ({"strategy": "krum", "strategy_option": ["byzantine=1"]}, "--strategy krum .* give --quorum 5"),
        ({"local_steps": 10, "local_epochs": 2}, "--local-steps and --local-epochs .* give one"),
        ({"local_steps": 0}, "--local-steps 0 is too small"),
        ({"proximal_mu": -1.0}, "--proximal-mu -1.0 is too small"),
        ({"proximal_mu": float("nan")}, "--proximal-mu nan is too small"),
        ({"proximal_mu_schedule": "cosine"}, "--proximal-mu-schedule has nothing to change: give --proximal-mu"),
        ({"learning_rate_schedule": "cosin"}, "--learning-rate-schedule 'cosin' is no schedule"),
        ({"local_epochs_schedule": "warmup:10"}, "warm-up of 10 rounds never ends in --rounds 10"),
        ({"sampling": "power-of-choice"}, "--sampling 'power-of-choice' is unknown"),
        ({"sampling": "power-of-choice:3", "cohort": "4"}, "fewer candidates than --cohort 4"),
        ({"early_stop": "0"}, "--early-stop '0'"),
        ({"eval_cohort": "0"}, "--eval-cohort '0'"),
        ({"best_by": "auroc"}, "--best-by auroc needs --eval-data"),
        ({"best_by": "eval_auroc"}, "is called client_eval_auroc"),
        ({"best_by": "client_val_auroc"}, "not of a model"),
        ({"best_by": ""}, "--best-by '' is no metric"),
        ({"best_by": "x" * 65}, "is no metric"),
    ],
)  # fmt: skip
def test_a_slip_is_told_by_the_options_name(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        rule(**changes)


def test_what_is_written_down_has_what_was_filled_in() -> None:
    config, strategy = rule_of(PLAIN | {"strategy": "fedprox"}, evaluate=False)
    told = effective({"batch_size": {"value": None, "source": "default"}}, config, strategy)
    assert told["batch_size"] == {"value": config.plan.batch_size, "source": "task default"}
    assert told["local_epochs"]["value"] == config.plan.local_epochs
    assert told["proximal_mu"] == {"value": 0.01, "source": "strategy"}
    plain = effective({}, *rule_of(PLAIN, evaluate=False))
    assert plain["proximal_mu"] == {"value": 0.0, "source": "default"}, "nobody chose that there is none"
    assert told["strategy_option"]["value"] == {"clip_norm": None, "mu": 0.01}
    steps, strategy = rule_of(PLAIN | {"local_steps": 5}, evaluate=False)
    assert "local_epochs" not in effective({}, steps, strategy)


@pytest.mark.parametrize(("said", "mu"), [(None, 0.01), (0.0, 0.0), (0.5, 0.5)])
def test_a_proximal_term_that_is_said_counts_whatever_the_strategy_would_have(
    said: float | None, mu: float
) -> None:
    """0 among them: without it FedProx could not be held against FedAvg in one word."""
    assert rule(strategy="fedprox", proximal_mu=said).plan.proximal_mu == mu


def test_an_asynchronous_round_closes_with_the_first_update_unless_the_operator_wants_more() -> None:
    unsaid = {"quorum": None, "grace": None}
    for name in ("fedasync", "fedbuff"):
        config, strategy = rule_of(PLAIN | unsaid | {"strategy": name}, evaluate=False)
        assert (config.quorum, config.grace_s) == (Share(count=1), 0.0)
        found = effective({}, config, strategy)
        assert found["quorum"] == {"value": "1", "source": "strategy"}
        assert found["grace"] == {"value": 0.0, "source": "strategy"}
    config, strategy = rule_of(PLAIN | unsaid | {"strategy": "fedbuff", "quorum": "4"}, evaluate=False)
    assert (config.quorum, config.grace_s) == (Share(count=4), 0.0)
    config, strategy = rule_of(PLAIN | unsaid, evaluate=False)
    assert (str(config.quorum), config.grace_s) == ("0.66", 60.0)
    assert effective({}, config, strategy)["quorum"] == {"value": "0.66", "source": "default"}
