"""Who takes part in a round: a seeded draw, and how many that is. Pure.

    uniform             every client present is as likely as any other
    by-size             in proportion to the examples a client says it has
    power-of-choice:D   D candidates by size, of whom those with the highest loss are taken (Cho, Wang & Joshi 2020,
                        https://arxiv.org/abs/2010.01243, section 3); a client whose loss is not known counts as highest

All without replacement.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fl_protocol.errors import ConfigError
from fl_protocol.messages import MAX_COHORT


@dataclass(frozen=True)
class Share:
    """A count, or a fraction of a whole: ``Share.parse("5")`` is five, ``Share.parse("0.5")`` is half."""

    count: int | None = None
    fraction: float | None = None

    @classmethod
    def parse(cls, text: str, what: str) -> Share:
        """Raises ConfigError unless ``text`` is a whole number from 1, or a fraction above 0 and up to 1.0."""
        try:
            if "." in text:
                fraction = float(text)
                if 0.0 < fraction <= 1.0:
                    return cls(fraction=fraction)
            elif int(text) >= 1:
                return cls(count=int(text))
        except ValueError:
            pass
        raise ConfigError(
            f"{what} {text!r} must be a number of clients (1 or more) or a fraction (0.1 to 1.0)"
        )

    def of(self, whole: int) -> int:
        """At least 1 and at most ``whole``; fractions are rounded up."""
        if self.count is not None:
            return max(1, min(self.count, whole))
        assert self.fraction is not None
        return max(1, min(whole, math.ceil(self.fraction * whole - 1e-9)))

    def whole_for(self, part: int) -> int:
        """The smallest whole of which this is at least ``part`` (a count gives what it can)."""
        if self.fraction is None:
            return part
        return math.floor((part - 1 + 1e-9) / self.fraction) + 1

    def __str__(self) -> str:
        return str(self.count if self.count is not None else self.fraction)


UNIFORM, BY_SIZE, POWER_OF_CHOICE = "uniform", "by-size", "power-of-choice"


@dataclass(frozen=True)
class Sampling:
    """How a cohort is drawn. ``candidates`` is the D of power-of-choice."""

    kind: str = UNIFORM
    candidates: int = 0

    @classmethod
    def parse(cls, text: str, what: str) -> Sampling:
        """Raises ConfigError for any text but ``uniform``, ``by-size`` and ``power-of-choice:D`` with D from 1."""
        kind, colon, count = text.partition(":")
        if kind in (UNIFORM, BY_SIZE) and not colon:
            return cls(kind)
        if kind == POWER_OF_CHOICE and count.isascii() and count.isdigit() and 1 <= int(count) <= MAX_COHORT:
            return cls(kind, int(count))
        raise ConfigError(
            f"{what} {text!r} is unknown: use {UNIFORM}, {BY_SIZE} or {POWER_OF_CHOICE}:D with a number of candidates D"
        )

    def __str__(self) -> str:
        return f"{self.kind}:{self.candidates}" if self.kind == POWER_OF_CHOICE else self.kind


UNIFORMLY = Sampling()
NOTHING_KNOWN: Mapping[str, float] = MappingProxyType({})


def draw_evaluators(
    present: Collection[str], cohort: Collection[str], size: int, *, seed: int, round_number: int
) -> frozenset[str]:
    """``size`` clients of ``present`` that score the round's model: those who do not train first, then of the cohort."""
    chance = random.Random(f"{seed}/{round_number}/evaluators")
    idle, busy = sorted(set(present) - set(cohort)), sorted(set(present) & set(cohort))
    chosen = chance.sample(idle, min(size, len(idle)))
    return frozenset(chosen + chance.sample(busy, min(size - len(chosen), len(busy))))


def draw(
    present: Mapping[str, int], size: int, *, seed: int, round_number: int, attempt: int, keep: Collection[str] = (),
    sampling: Sampling = UNIFORMLY, losses: Mapping[str, float] = NOTHING_KNOWN,
) -> frozenset[str]:  # fmt: skip
    """``size`` clients of ``present`` (client id to examples), the same for the same arguments.

    Those in ``keep`` (they have answered in an earlier attempt) are in it whether present or not. ``losses`` are the
    last ones known, by client; only power-of-choice asks for them.
    """
    others = sorted(set(present) - set(keep))
    wanted = min(max(0, size - len(keep)), len(others))
    chance = random.Random(f"{seed}/{round_number}/{attempt}")
    if sampling.kind == UNIFORM:
        chosen = chance.sample(others, wanted)
    elif sampling.kind == BY_SIZE:
        chosen = _by_size(present, others, wanted, chance)
    else:
        candidates = _by_size(present, others, max(wanted, sampling.candidates), chance)
        chosen = sorted(candidates, key=lambda each: -losses.get(each, math.inf))[:wanted]
    return frozenset(chosen) | frozenset(keep)


def _by_size(present: Mapping[str, int], names: list[str], size: int, chance: random.Random) -> list[str]:
    """``size`` of ``names``, one after the other, each in proportion to its examples among those left, in the order
    drawn: the smallest -log(u) / n (Efraimidis & Spirakis 2006).
    """
    keys = {name: -math.log(1.0 - chance.random()) / max(1, present[name]) for name in names}
    return sorted(names, key=keys.__getitem__)[:size]
