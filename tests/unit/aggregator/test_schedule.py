"""Schedules: what the texts mean, and that a factor is a function of the round's number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.schedule import COSINE, STEP, Schedule, Schedules, parse_schedule
from fl_protocol.errors import ConfigError
from fl_protocol.messages import Plan

NAME = "--learning-rate-schedule"
PLAN = Plan(4, 16, 0.1, 7, proximal_mu=0.2)
shares = st.floats(0.0, 1.0)
schedules = st.one_of(
    st.builds(Schedule, warmup=st.integers(0, 20)),
    st.builds(Schedule, st.just(COSINE), st.integers(0, 20), floor=shares),
    st.builds(
        Schedule, st.just(STEP), st.integers(0, 20), every=st.integers(1, 20), ratio=st.floats(0.001, 1.0)
    ),
)


def factors(text: str, rounds: int) -> list[float]:
    schedule = parse_schedule(text, NAME)
    return [schedule.factor(number, rounds) for number in range(1, rounds + 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("cosine", [1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
        ("cosine:0.5", [1.0, 0.5 + (1 + math.sqrt(0.5)) / 4, 0.75, 0.5 + (1 - math.sqrt(0.5)) / 4]),
        ("step:2:0.1", [1.0, 1.0, 0.1, 0.1]),
        ("warmup:3", [0.25, 0.5, 0.75, 1.0]),
        ("warmup:2,cosine", [1 / 3, 2 / 3, 1.0, 0.5]),
        ("warmup:1, step:1:0.5", [0.5, 1.0, 0.5, 0.25]),
    ],
)
def test_factors(text: str, expected: list[float]) -> None:
    assert factors(text, 4) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    ["", "linear", "cosine:", "cosine:2", "cosine:-0.1", "cosine:nan", "cosine:0.1:3", "step", "step:3", "step:0:0.5",
     "step:1:0", "step:1:2", "step:x:0.5", "step:1.5:0.5", "warmup", "warmup:0", "warmup:-1", "warmup:3,", "warmup:3,linear",
     "warmup:3,warmup:3", "cosine,warmup:3", "constant:1", "warmup:2:3,cosine", f"warmup:{10**9}"],
)  # fmt: skip
def test_a_text_that_is_no_schedule_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--learning-rate-schedule .* is no schedule: use constant, cosine"
    ):
        parse_schedule(text, NAME)


@given(schedule=schedules, rounds=st.integers(1, 60))
def test_a_factor_lies_between_0_and_1_and_falls_only_after_the_warmup(
    schedule: Schedule, rounds: int
) -> None:
    found = [schedule.factor(number, rounds) for number in range(1, rounds + 1)]
    assert all(0.0 <= factor <= 1.0 for factor in found)
    warm, after = found[: schedule.warmup], found[schedule.warmup :]
    assert warm == sorted(warm) and after == sorted(after, reverse=True)
    assert not after or after[0] == 1.0, "the first round after it has the plan's own value"
    assert all(factor >= schedule.floor for factor in after)


@given(schedule=schedules)
def test_a_schedule_is_read_as_it_is_written(schedule: Schedule) -> None:
    assert parse_schedule(str(schedule), NAME) == schedule


@given(
    rate=schedules,
    work=schedules,
    mu=schedules,
    number=st.integers(1, 30),
    steps=st.none() | st.integers(1, 99),
)
def test_the_plan_of_a_round_is_one_that_can_be_sent(
    rate: Schedule, work: Schedule, mu: Schedule, number: int, steps: int | None
) -> None:  # fmt: skip
    plain = Plan(4, 16, 0.1, 7, local_steps=steps, proximal_mu=0.2)
    plan = Schedules(rate, work, mu).plan(plain, number, 30)
    assert 0.0 <= plan.learning_rate <= 0.1 and 0.0 <= plan.proximal_mu <= 0.2
    assert 1 <= plan.local_epochs <= 4
    assert (plan.local_steps is None) == (steps is None) and (steps is None or 1 <= plan.local_steps <= steps)  # type: ignore[operator]
    assert (plan.batch_size, plan.seed) == (16, 7)


def test_each_thing_has_its_own_schedule() -> None:
    half = Schedule(STEP, every=1, ratio=0.5)
    assert Schedules(learning_rate=half).plan(PLAN, 2, 9) == Plan(4, 16, 0.05, 7, proximal_mu=0.2)
    assert Schedules(local_work=half).plan(PLAN, 2, 9) == Plan(2, 16, 0.1, 7, proximal_mu=0.2)
    assert Schedules(local_work=half).plan(PLAN, 9, 9).local_epochs == 1
    assert Schedules(proximal_mu=half).plan(PLAN, 2, 9) == Plan(4, 16, 0.1, 7, proximal_mu=0.1)
    assert Schedules().plan(PLAN, 5, 9) == PLAN


def test_local_steps_go_with_the_schedule_of_local_work_where_the_plan_counts_them() -> None:
    work = Schedules(local_work=Schedule(STEP, every=1, ratio=0.5))
    steps = [work.plan(replace(PLAN, local_steps=30), number, 9).local_steps for number in range(1, 8)]
    assert steps == [30, 15, 8, 4, 2, 1, 1], "rounded to the nearest, a half up, and never to none"
    assert work.plan(replace(PLAN, local_epochs=3), 2, 9).local_epochs == 2
