"""How fast virtual clients are, and how often one drops out. Pure; all chance comes from the seed.

A client's speed is a factor on the time its work takes: 1 is the pace of the run, 20 is a Raspberry Pi among servers.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from fl_protocol.errors import ConfigError

EQUAL = "equal"
SPEEDS = "equal, lognormal:SIGMA or uniform:LOW:HIGH"
Draw = Callable[[random.Random], float]


@dataclass(frozen=True)
class Slow:
    """``part`` of every ``whole`` clients take ``factor`` times as long as they would."""

    part: int
    whole: int
    factor: float

    @classmethod
    def parse(cls, text: str) -> Slow:
        """``1/8:20``. Raises ConfigError for anything else."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9}):(\d{1,9}(?:\.\d{1,9})?)", text)
        if match is not None:
            part, whole, factor = int(match[1]), int(match[2]), float(match[3])
            if 0 <= part <= whole and whole > 0 and factor > 0:
                return cls(part, whole, factor)
        raise ConfigError(
            f"--slow {text!r} is not K/N:FACTOR, such as 1/8:20 (one client in eight, 20 times slower)"
        )


@dataclass(frozen=True)
class Dropout:
    """A client that begins to work vanishes with ``chance`` before it is done, for ``away_s`` (None: as long as
    its work would have taken).
    """

    chance: float = 0.0
    away_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> Dropout:
        """``0.1`` or ``0.1:600``. Raises ConfigError for anything else."""
        chance, colon, away = text.partition(":")
        try:
            found = cls(float(chance), float(away) if colon else None)
        except ValueError:
            found = cls(math.nan)
        if 0.0 <= found.chance < 1.0 and (found.away_s is None or 0.0 < found.away_s < 1e9):
            return found
        raise ConfigError(f"--dropout {text!r} is not CHANCE or CHANCE:SECONDS, the chance from 0 to below 1")


def parse_speeds(text: str) -> Draw:
    """What draws a client's factor. Raises ConfigError for an unknown distribution or one without sense."""
    kind, *words = text.split(":")
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]
    if kind == EQUAL and not numbers:
        return lambda _rng: 1.0
    if kind == "lognormal" and len(numbers) == 1 and 0.0 <= numbers[0] <= 5.0:
        return lambda rng: rng.lognormvariate(0.0, numbers[0])
    if kind == "uniform" and len(numbers) == 2 and 0.0 < numbers[0] <= numbers[1] < 1e9:
        return lambda rng: rng.uniform(*numbers)
    raise ConfigError(f"--speeds {text!r} is not known: use {SPEEDS} (SIGMA up to 5)")


@dataclass(frozen=True)
class Profile:
    """How virtual clients behave in virtual time.

    ``pace_s``: seconds that a client of speed 1 trains on one image, once. ``link_bytes_s``: bytes a second on each
    client's link, either way (None: models and updates take no time).
    """

    factors: tuple[float, ...]
    pace_s: float = 0.01
    link_bytes_s: float | None = None
    dropout: Dropout = Dropout()
    seed: int = 0

    def duration(self, shard: int, images: int, payload_bytes: int) -> float:
        """Seconds from the announcement until the update of client ``shard`` (from 1) has arrived."""
        on_the_link = 2 * payload_bytes / self.link_bytes_s if self.link_bytes_s else 0.0
        return self.factors[shard - 1] * images * self.pace_s + on_the_link

    def vanishes_at(self, shard: int, round_number: int, attempt: int, try_number: int) -> float | None:
        """The share of its work after which the client vanishes, or None if it does not."""
        rng = random.Random(f"{self.seed}/drop/{shard}/{round_number}/{attempt}/{try_number}")
        return rng.random() if rng.random() < self.dropout.chance else None


def factors(count: int, speeds: Draw, slow: Slow | None, seed: int) -> tuple[float, ...]:
    """A factor for each of ``count`` clients; who is among the slow ones is drawn as well."""
    rng = random.Random(f"{seed}/speeds")
    drawn = [speeds(rng) for _ in range(count)]
    if slow is not None:
        for index in rng.sample(range(count), round(count * slow.part / slow.whole)):
            drawn[index] *= slow.factor
    return tuple(drawn)
