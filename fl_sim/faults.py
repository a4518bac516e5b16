"""Which faults befall a federation, and when: a function of a seed. Pure.

A fault's instant is a round and seconds after it opened, not a time of day: so the same seed hits the same states on
a fast and on a slow machine, more or less.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fl_protocol.errors import ConfigError
from fl_sim.line import Line

AGGREGATOR, BROKER = "aggregator", "broker"
MEANING = {
    "kill-agg": "SIGKILL of the aggregator, started again by the same command",
    "kill-edge": "SIGKILL of an edge, started again by the same command",
    "kill-broker": "SIGKILL of the broker, started again with its memory lost",
    "cut": "the connection of one party is reset and refused for a while",
    "slow": "the line of one party becomes slow and loses packets",
    "dup": "frames to one party come twice, out of order, and again after the round has ended",
    "stall": "the cable of one party is out for a while: nothing moves, no connection ends",
    "half-open": "the connection of one party goes dead and nobody is told; a keepalive must notice",
}
KINDS = tuple(MEANING)
USUAL = ("kill-agg", "kill-edge", "kill-broker", "cut", "slow", "dup")
LASTS_S = {
    "kill-agg": (0.0, 1.5), "kill-edge": (0.0, 1.5), "kill-broker": (0.0, 1.5), "cut": (0.0, 3.0),
    "slow": (1.0, 4.0), "dup": (2.0, 5.0), "stall": (1.0, 4.0), "half-open": (0.0, 0.0),
}  # fmt: skip
"""From and to: how long the party is away, or its line is so."""
SLOW = Line(up_kbit_s=500, down_kbit_s=500, delay_ms=150, jitter_ms=50, loss=0.01)
TWO_IN_A_ROUND = 0.25


@dataclass(frozen=True)
class Fault:
    """``target`` has ``kind`` done to it ``after_s`` seconds into the round, for ``lasts_s`` seconds."""

    round_number: int
    after_s: float
    kind: str
    target: str
    lasts_s: float

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        whom = "" if self.kind.removeprefix("kill-") in ("agg", "broker") else f" {self.target}"
        return f"round {self.round_number} +{self.after_s:.2f} s  {self.kind}{whom}{lasts}"


def site(number: int) -> str:
    """The client id of an edge, counted from 1."""
    return f"site-{number}"


def parse_kinds(text: str) -> tuple[str, ...]:
    """The kinds in a list with commas. Raises ConfigError for one that there is none of."""
    kinds = tuple(dict.fromkeys(word for word in text.split(",") if word))
    for kind in kinds:
        if kind not in MEANING:
            raise ConfigError(f"--faults {kind!r} is unknown: use some of {', '.join(KINDS)}")
    return kinds


def schedule(kinds: Sequence[str], rounds: int, clients: int, seed: int, pace_s: float) -> tuple[Fault, ...]:
    """Faults in the order of their instants: one or two a round, each kind as often as any other.

    ``pace_s`` is how long a round takes undisturbed: instants are spread over it. The broker is not killed in the
    last round: one that forgets the end of a run after the aggregator has left cannot be told of it again.
    """
    rng = random.Random(f"chaos/{seed}")
    faults: list[Fault] = []
    deck: list[str] = []
    for number in range(1, rounds + 1 if kinds else 0):
        for _ in range(2 if rng.random() < TWO_IN_A_ROUND else 1):
            if not deck:
                deck = rng.sample(list(kinds), len(kinds))
            kind = deck.pop()
            fault = _fault(kind, number, clients, pace_s, rng)
            if kind != "kill-broker" or number < rounds:
                faults.append(fault)
    return tuple(sorted(faults, key=lambda fault: (fault.round_number, fault.after_s)))


def _fault(kind: str, number: int, clients: int, pace_s: float, rng: random.Random) -> Fault:
    edges = [site(k) for k in range(1, clients + 1)]
    targets = {"kill-agg": [AGGREGATOR], "kill-broker": [BROKER], "kill-edge": edges}
    target = rng.choice(targets.get(kind, [AGGREGATOR, *edges]))
    after_s, lasts_s = round(rng.uniform(0, pace_s), 2), round(rng.uniform(*LASTS_S[kind]), 1)
    return Fault(number, after_s, kind, target, lasts_s)
