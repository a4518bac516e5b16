"""The geometric median of updates: robust federated aggregation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aggregator.strategies.options import option
from aggregator.strategy import Gathered, Strategy, Sums, Survey, Weights, alike, by_examples


def smoothed_weiszfeld(products: Sums, shares: Sums, smoothing: float, iterations: int) -> Sums:
    """(K,) weights of sum 1 whose mean is near the geometric median of K vectors with the inner products (K, K).

    Pillutla et al. 2022, Algorithm 2, from the weighted mean. Every iterate is a mean of the vectors themselves, so
    their distances to it follow from the inner products alone: |d_k - sum b_j d_j|^2 = G_kk - 2 (G b)_k + b' G b.
    """
    mix: Sums = shares / shares.sum()
    for _ in range(iterations):
        towards = products @ mix
        squares = np.diagonal(products) - 2.0 * towards + mix @ towards
        pull = shares / np.maximum(smoothing, np.sqrt(np.maximum(squares, 0.0)))
        mix = pull / pull.sum()
    return mix


@dataclass(frozen=True)
class GeometricMedian(Strategy):
    """RFA (Pillutla et al. 2022): w_{t+1} = w_t + v, where v minimises

        sum_k alpha_k |v - delta_k|_2,    alpha_k = n_k / sum n

    found by the smoothed Weiszfeld algorithm. Its steps are cheap here, since none needs another pass over the
    updates; from a mean that liars carried far away each comes back by a factor of f / (K - f) only, hence so many.
    Clients with less than half of all examples cannot carry v away; with weighting=uniform, less than half of them.
    """

    name: ClassVar[str] = "geometric-median"
    summary: ClassVar[str] = "the point with the least distance to all updates (RFA); robust"
    source: ClassVar[str] = "Pillutla et al. 2022, https://arxiv.org/abs/1912.13445"
    smoothing: float = option(1e-6, "nu, the least distance that is divided by.", within="(0, inf)")
    iterations: int = option(256, "Steps of the algorithm.", within="[1, 10000]")
    weighting: str = option("examples", "alpha_k: by n_k, or alike.", choices=("examples", "uniform"))

    @property
    def survey(self) -> Survey:
        return Survey.PRODUCTS

    def weigh(self, gathered: Gathered) -> Weights:
        assert gathered.products is not None
        begun = by_examples(gathered.updates) if self.weighting == "examples" else alike(gathered.updates)
        shares = np.asarray(begun.values, np.float64) / begun.total
        mix = smoothed_weiszfeld(gathered.products, shares, self.smoothing, self.iterations)
        return Weights(mix.tolist(), 1.0)
