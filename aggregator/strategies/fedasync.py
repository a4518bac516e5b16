"""FedAsync: asynchronous training, every update mixed into the model as it comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aggregator.strategies.options import option
from aggregator.strategies.staleness import DISCOUNTS, POLYNOMIAL, discount
from aggregator.strategy import Gathered, Strategy, Weights


@dataclass(frozen=True)
class FedAsync(Strategy):
    """Xie et al. 2019, Algorithm 1. An update of staleness t is mixed in with alpha_t = alpha s(t) < 1:

        w <- (1 - alpha_t) w + alpha_t (w + delta) = w + alpha_t delta

    so even a fresh update moves the model by alpha of its delta and never takes its place. The trained model that is
    mixed in is the present model with the client's change on it, not the old base with it: an update says what was
    learned, and a stale base would take back what others taught since. For a fresh update the two are one.

    A round with several updates (a quorum above 1) mixes them one after another, each a trained model w + delta_k of
    the model w that the round began with, the most stale first and of equal ones in the order of client ids:

        w <- w + sum_k alpha_k prod_{j after k} (1 - alpha_j) delta_k

    The weights sum to less than 1, so the result never leaves the hull of w and the trained models.
    """

    name: ClassVar[str] = "fedasync"
    summary: ClassVar[str] = "asynchronous: every update is mixed in as it comes, stale ones less"
    source: ClassVar[str] = "Xie et al. 2019, https://arxiv.org/abs/1903.03934"
    asynchronous: ClassVar[bool] = True
    mixing: float = option(0.6, "alpha, what a fresh update counts.", within="(0, 1)")
    discount: str = option(POLYNOMIAL, "s, how a stale update loses weight.", choices=DISCOUNTS)
    exponent: float = option(0.5, "a of polynomial and hinge.", within="[0, inf)")
    hinge_after: int = option(4, "b of hinge: the staleness up to which nothing is lost.", within="[0, inf)")
    max_staleness: int = option(
        10, "How many models an update may be behind; older ones are late.", within="[0, 1000000]"
    )

    def mixed(self, staleness: int) -> float:
        """alpha_t."""
        return self.mixing * discount(self.discount, staleness, self.exponent, self.hinge_after)

    def weigh(self, gathered: Gathered) -> Weights:
        updates = gathered.updates
        order = sorted(range(len(updates)), key=lambda index: -updates[index].staleness)
        values, left = [0.0] * len(updates), 1.0
        for index in reversed(order):
            share = self.mixed(updates[index].staleness)
            values[index] = left * share
            left *= 1.0 - share
        return Weights(values, 1.0)
