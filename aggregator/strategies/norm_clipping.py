"""Norm clipping: no update moves the model further than a bound, whatever its client did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aggregator.strategies.options import option
from aggregator.strategy import Gathered, Strategy, Sums, Survey, Weights, by_examples


def clipped(weights: Weights, norms: Sums, bound: float) -> Weights:
    """Each weight times min(1, bound / |delta_k|_2); ``total`` stays, so clipping only ever makes a step shorter."""
    values = [
        weight * min(1.0, bound / float(norm)) if norm > 0 else weight
        for weight, norm in zip(weights.values, norms, strict=True)
    ]
    return Weights(values, weights.total)


@dataclass(frozen=True)
class NormClipping(Strategy):
    """FedAvg of clipped updates (Sun et al. 2019, section 4, norm thresholding):

        w_{t+1} = w_t + sum_k n_k min(1, S / |delta_k|_2) delta_k / sum_k n_k

    The norm is that of the whole delta. With no S given it is the median of this round's norms, so that it follows
    training as updates grow smaller, and fewer than half of the clients cannot raise it above all honest norms.
    """

    name: ClassVar[str] = "norm-clipping"
    summary: ClassVar[str] = "FedAvg of updates that are cut to a norm"
    source: ClassVar[str] = "Sun et al. 2019, https://arxiv.org/abs/1911.07963"
    clip_norm: float | None = option(
        None, "S, the largest L2 norm of an update.", within="(0, inf)", unset="median"
    )

    @property
    def survey(self) -> Survey:
        return Survey.NORMS

    def weigh(self, gathered: Gathered) -> Weights:
        bound = float(np.median(gathered.norms)) if self.clip_norm is None else self.clip_norm
        return clipped(by_examples(gathered.updates), gathered.norms, bound)
