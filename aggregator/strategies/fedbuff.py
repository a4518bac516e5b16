"""FedBuff: asynchronous training with a buffer of K updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aggregator.strategies.options import option
from aggregator.strategies.staleness import polynomial
from aggregator.strategy import Gathered, Piece, Stepped, Strategy, Sums, Weights


@dataclass(frozen=True)
class FedBuff(Strategy):
    """Nguyen et al. 2022, Algorithm 1. When K updates have come, from whichever models they were trained:

        w <- w + eta_g / K sum_k s(t_k) delta_k,    s(t) = (1 + t)^-a

    t_k is how many models the server has made since the one that client k began with. The sum is divided by K, not
    by the sum of the s(t_k): where all are stale, the step is short. K is the quorum of a round (--quorum K
    --grace 0). Clients weigh alike, as in the paper; those that are quick take part more often.
    """

    name: ClassVar[str] = "fedbuff"
    summary: ClassVar[str] = "asynchronous: the mean of a buffer of updates, stale ones discounted"
    source: ClassVar[str] = "Nguyen et al. 2022, https://arxiv.org/abs/2106.06639"
    asynchronous: ClassVar[bool] = True
    server_lr: float = option(1.0, "eta_g, the server's step size.", within="(0, inf)")
    exponent: float = option(0.5, "a, how quickly a stale update loses weight.", within="[0, inf)")
    max_staleness: int = option(
        10, "How many models an update may be behind; older ones are late.", within="[0, 1000000]"
    )

    def weigh(self, gathered: Gathered) -> Weights:
        values = [polynomial(update.staleness, self.exponent) for update in gathered.updates]
        return Weights(values, float(len(values)))

    def step(self, piece: Piece, change: Sums) -> Stepped:
        return piece.base + self.server_lr * change, {}
