"""How the clients' training changes from round to round: a factor of a round's number, on what the plan says. Pure.

    constant                 1
    cosine[:FLOOR]           FLOOR + (1 - FLOOR) (1 + cos(pi t / T)) / 2     (Loshchilov & Hutter 2017, eq. 5)
    step:EVERY:RATIO         RATIO ^ floor(t / EVERY)                        (He et al. 2016, section 3.4)
    warmup:N[,one of these]  r / (N + 1) in round r of the first N           (Goyal et al. 2017, section 2.2)

t counts rounds from 0 after the warm-up, T is how many of them the run has. So the first round after the warm-up has
the plan's own value, and cosine without a floor never quite reaches 0. A factor follows from options and round number
alone: whoever opens a round again announces the same plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from fl_protocol.errors import ConfigError
from fl_protocol.messages import Plan

CONSTANT, COSINE, STEP, WARMUP = "constant", "cosine", "step", "warmup"
FORMS = "constant, cosine[:FLOOR], step:EVERY:RATIO, or one of them after warmup:N, as in warmup:5,cosine"
MOST_ROUNDS = 10**8


@dataclass(frozen=True)
class Schedule:
    """``floor`` is cosine's, 0 to 1; ``every`` (rounds) and ``ratio`` (above 0, up to 1) are of a step."""

    shape: str = CONSTANT
    warmup: int = 0
    floor: float = 0.0
    every: int = 1
    ratio: float = 1.0

    def factor(self, round_number: int, rounds: int) -> float:
        """What the plan's value is multiplied by in that round (from 1) of a run of ``rounds``: 0 to 1."""
        if round_number <= self.warmup:
            return round_number / (self.warmup + 1)
        since, left = round_number - self.warmup - 1, max(1, rounds - self.warmup)
        if self.shape == COSINE:
            return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * min(1.0, since / left))) / 2.0
        if self.shape == STEP:
            return float(self.ratio ** (since // self.every))
        return 1.0

    def __str__(self) -> str:
        """The text that :func:`parse_schedule` reads."""
        shape = {
            COSINE: f"cosine:{self.floor!r}" if self.floor else COSINE,
            STEP: f"step:{self.every}:{self.ratio!r}",
        }.get(self.shape, CONSTANT)
        return f"warmup:{self.warmup},{shape}" if self.warmup else shape


def parse_schedule(text: str, name: str) -> Schedule:
    """The schedule that ``text`` means. Raises ConfigError, with the forms there are, for any other text."""
    first, comma, rest = text.replace(" ", "").partition(",")
    try:
        if not first.startswith(WARMUP):
            return _shape(text.replace(" ", ""))
        (rounds,) = first.split(":")[1:]
        return replace(_shape(rest if comma else CONSTANT), warmup=_whole(rounds))
    except ValueError:
        raise ConfigError(f"{name} {text!r} is no schedule: use {FORMS}") from None


def _shape(text: str) -> Schedule:
    """Raises ValueError."""
    kind, *words = text.split(":")
    if kind == CONSTANT and not words:
        return Schedule()
    if kind == COSINE and len(words) <= 1:
        return Schedule(COSINE, floor=_share(words[0]) if words else 0.0)
    if kind == STEP and len(words) == 2 and float(words[1]) > 0.0:
        return Schedule(STEP, every=_whole(words[0]), ratio=_share(words[1]))
    raise ValueError(text)


def _whole(text: str) -> int:
    if not 1 <= int(text) <= MOST_ROUNDS:
        raise ValueError(text)
    return int(text)


def _share(text: str) -> float:
    if not 0.0 <= float(text) <= 1.0:  # also not a number
        raise ValueError(text)
    return float(text)


@dataclass(frozen=True)
class Schedules:
    """The schedules of a run, one for each thing of the plan that may change."""

    learning_rate: Schedule = field(default_factory=Schedule)
    local_work: Schedule = field(default_factory=Schedule)
    """Of local epochs, or of local steps where the plan counts those."""
    proximal_mu: Schedule = field(default_factory=Schedule)

    def plan(self, plan: Plan, round_number: int, rounds: int) -> Plan:
        """``plan`` as it is in that round; epochs and steps are rounded, and at least 1 if they were."""
        work = self.local_work.factor(round_number, rounds)
        return replace(
            plan,
            learning_rate=plan.learning_rate * self.learning_rate.factor(round_number, rounds),
            local_epochs=_scaled(plan.local_epochs, work),
            local_steps=None if plan.local_steps is None else _scaled(plan.local_steps, work),
            proximal_mu=plan.proximal_mu * self.proximal_mu.factor(round_number, rounds),
        )


def _scaled(count: int, factor: float) -> int:
    return max(min(1, count), math.floor(count * factor + 0.5))
