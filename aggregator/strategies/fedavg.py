"""FedAvg, and the options of all that average as it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aggregator.strategies.norm_clipping import clipped
from aggregator.strategies.options import option
from aggregator.strategy import Gathered, Strategy, Survey, Weights, by_examples


@dataclass(frozen=True)
class FedAvg(Strategy):
    """Federated averaging (McMahan et al. 2017, Algorithm 1), written for deltas:

        w_{t+1} = w_t + sum_k n_k delta_k / sum_k n_k

    The sum runs in float64 in the order of client ids and is rounded to float32 once, so the result has the same
    bytes whatever the order in which updates arrived.
    """

    name: ClassVar[str] = "fedavg"
    summary: ClassVar[str] = "the mean of updates, weighted by examples"
    source: ClassVar[str] = "McMahan et al. 2017, https://arxiv.org/abs/1602.05629"
    clip_norm: float | None = option(
        None, "Updates with a larger L2 norm are scaled down to it first.", within="(0, inf)"
    )

    @property
    def survey(self) -> Survey:
        return Survey.NOTHING if self.clip_norm is None else Survey.NORMS

    def shares(self, gathered: Gathered) -> Weights:
        """What each update weighs before clipping."""
        return by_examples(gathered.updates)

    def weigh(self, gathered: Gathered) -> Weights:
        shares = self.shares(gathered)
        return shares if self.clip_norm is None else clipped(shares, gathered.norms, self.clip_norm)
