"""Coordinate-wise rules: every value of the model for itself, all updates side by side.

num_examples plays no part: a weight is a claim, which a faulty client can make as well as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aggregator.strategies.options import option
from aggregator.strategy import Gathered, Piece, Strategy, Sums, Values, Weights, alike

YIN = "Yin et al. 2018, https://arxiv.org/abs/1803.01498"


def middle(stack: Values, cut: int) -> Sums:
    """(n,) mean of each column of (K, n) without its ``cut`` smallest and ``cut`` largest values."""
    stack.sort(axis=0)
    found: Sums = stack[cut : len(stack) - cut].mean(axis=0, dtype=np.float64)
    return found


@dataclass(frozen=True)
class Median(Strategy):
    """Yin et al. 2018, Definition 1, option I: w_{t+1} = w_t + med_k delta_k in each coordinate.

    The mean of the two in the middle if K is even. Fewer than K / 2 faulty clients cannot bring any coordinate
    beyond those of the others.
    """

    name: ClassVar[str] = "median"
    summary: ClassVar[str] = "the median of every coordinate; robust"
    source: ClassVar[str] = YIN
    side_by_side: ClassVar[bool] = True

    def weigh(self, gathered: Gathered) -> Weights:
        return alike(gathered.updates)

    def combine(self, piece: Piece, weights: Weights) -> Sums:
        stack = piece.deltas.stacked()
        return middle(stack, (len(stack) - 1) // 2)


@dataclass(frozen=True)
class TrimmedMean(Strategy):
    """Yin et al. 2018, Definition 2: in each coordinate the floor(beta K) smallest and as many of the largest are
    left out, and the rest averaged.

    It withstands as many faulty clients as it leaves out at one end: for one of five, beta = 0.2.
    """

    name: ClassVar[str] = "trimmed-mean"
    summary: ClassVar[str] = "the mean of every coordinate without its extremes; robust"
    source: ClassVar[str] = YIN
    side_by_side: ClassVar[bool] = True
    trim: float = option(0.2, "beta, the share of updates left out at each end.", within="[0, 0.5)")

    def weigh(self, gathered: Gathered) -> Weights:
        return alike(gathered.updates)

    def combine(self, piece: Piece, weights: Weights) -> Sums:
        stack = piece.deltas.stacked()
        return middle(stack, int(self.trim * len(stack) + 1e-9))
