"""Who takes part in a round: a seeded draw, and how many that is. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from dataclasses import dataclass

from fl_protocol.errors import ConfigError


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


def draw_evaluators(
    present: Collection[str], cohort: Collection[str], size: int, *, seed: int, round_number: int
) -> frozenset[str]:
    """``size`` clients of ``present`` that score the round's model: those who do not train first, then of the cohort."""
    chance = random.Random(f"{seed}/{round_number}/evaluators")
    idle, busy = sorted(set(present) - set(cohort)), sorted(set(present) & set(cohort))
    chosen = chance.sample(idle, min(size, len(idle)))
    return frozenset(chosen + chance.sample(busy, min(size - len(chosen), len(busy))))


def draw(
    present: Collection[str], size: int, *, seed: int, round_number: int, attempt: int, keep: Collection[str] = ()
) -> frozenset[str]:  # fmt: skip
    """``size`` clients of ``present``, uniformly without replacement, the same for the same arguments.

    Those in ``keep`` (they have answered in an earlier attempt) are in it whether present or not.
    """
    others = sorted(set(present) - set(keep))
    wanted = min(max(0, size - len(keep)), len(others))
    chosen = random.Random(f"{seed}/{round_number}/{attempt}").sample(others, wanted)
    return frozenset(chosen) | frozenset(keep)
