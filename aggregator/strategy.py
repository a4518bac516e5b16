"""How updates become the next global model. Pure; a strategy sees one piece of all updates at a time.

A piece is the same slice of the flat model in every update, so memory does not grow with clients or model, and a
robust rule that needs all updates of a coordinate at once has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fl_protocol.errors import ConfigError

Piece = npt.NDArray[np.float32]


class Strategy(Protocol):
    """``combine(base, deltas)``: one piece of the next global model.

    ``base`` has shape (n,), float32; ``deltas`` yields (num_examples, delta) in the order of client ids, each
    delta of shape (n,), float32, trained minus global; a delta is only valid until the next one is drawn.
    """

    name: str

    def combine(self, base: Piece, deltas: Iterable[tuple[int, Piece]]) -> Piece: ...


class FedAvg:
    """Federated averaging (McMahan et al. 2017, Algorithm 1), written for deltas:

    w_{t+1} = w_t + sum_k n_k delta_k / sum_k n_k

    The sum runs in float64 in the order of client ids and is rounded to float32 once, so the result has the same
    bytes whatever the order in which updates arrived.
    """

    name = "fedavg"

    def combine(self, base: Piece, deltas: Iterable[tuple[int, Piece]]) -> Piece:
        total = np.zeros(base.shape, np.float64)
        scaled = np.empty(base.shape, np.float64)
        num_examples = 0
        for weight, delta in deltas:
            np.multiply(delta, np.float64(weight), out=scaled)
            total += scaled
            num_examples += weight
        total /= num_examples
        total += base
        return total.astype(np.float32)


STRATEGIES: dict[str, Callable[[], Strategy]] = {"fedavg": FedAvg}


def get_strategy(name: str) -> Strategy:
    """Raises ConfigError with the known names for an unknown one."""
    if name not in STRATEGIES:
        raise ConfigError(f"unknown strategy {name!r}: choose one of {', '.join(sorted(STRATEGIES))}")
    return STRATEGIES[name]()


MAX_METRICS = 64
"""As many as a message may carry (messages.metrics_table)."""


def weighted_metrics(updates: Iterable[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Each metric's mean over the clients that report it, weighted by num_examples.

    Clients choose the names and the values: of too many names those that most clients report are kept, and a mean
    that is no finite number is left out.
    """
    reported: dict[str, list[tuple[int, float]]] = {}
    for weight, metrics in updates:
        for key, value in metrics.items():
            reported.setdefault(key, []).append((weight, value))
    kept = sorted(reported, key=lambda key: (-len(reported[key]), key))[:MAX_METRICS]
    means = {key: _mean(reported[key]) for key in sorted(kept)}
    return {key: mean for key, mean in means.items() if math.isfinite(mean)}


def _mean(values: list[tuple[int, float]]) -> float:
    weights = sum(weight for weight, _ in values)
    return sum(weight * value for weight, value in values) / weights if weights else math.nan
