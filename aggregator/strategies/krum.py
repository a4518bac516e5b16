"""Krum and Multi-Krum: the updates that have the closest neighbours are taken, the others left out.

num_examples plays no part: a weight is a claim, which a faulty client can make as well as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aggregator.strategies.options import option
from aggregator.strategy import Gathered, Strategy, Sums, Survey, Weights
from fl_protocol.errors import ConfigError

BLANCHARD = "Blanchard et al. 2017, https://arxiv.org/abs/1703.02757"


def scores(squared_distances: Sums, byzantine: int) -> Sums:
    """(K,): the sum of the squared distances of each update to its K - f - 2 closest others."""
    others = np.sort(squared_distances + np.diag(np.full(len(squared_distances), np.inf)), axis=1)
    found: Sums = others[:, : len(squared_distances) - byzantine - 2].sum(axis=1)
    return found


@dataclass(frozen=True)
class Krum(Strategy):
    """Blanchard et al. 2017, section 4: w_{t+1} = w_t + delta_i, where i has the smallest score

        s(i) = sum_{j -> i} |delta_i - delta_j|_2^2,    j -> i: the K - f - 2 closest others

    f of the K updates may be faulty, and K must be 2 f + 3 at least. Of equal scores the first client's counts.
    """

    name: ClassVar[str] = "krum"
    summary: ClassVar[str] = "the one update that has the closest neighbours; robust"
    source: ClassVar[str] = BLANCHARD
    byzantine: int = option(1, "f, how many updates may be faulty.", within="[0, 1000]")

    @property
    def min_updates(self) -> int:
        return 2 * self.byzantine + 3

    @property
    def survey(self) -> Survey:
        return Survey.PRODUCTS

    def taken(self, num_updates: int) -> int:
        """How many of the best are averaged."""
        return 1

    def weigh(self, gathered: Gathered) -> Weights:
        num = len(gathered.updates)
        if num < self.min_updates:
            raise ConfigError(
                f"strategy {self.name} with byzantine={self.byzantine} needs {self.min_updates} updates, and this "
                f"round closed with {num}: give a lower byzantine, or a higher --quorum"
            )
        best = np.argsort(scores(gathered.squared_distances, self.byzantine), kind="stable")
        chosen = set(best[: self.taken(num)].tolist())
        return Weights([float(index in chosen) for index in range(num)], float(len(chosen)))


@dataclass(frozen=True)
class MultiKrum(Krum):
    """Blanchard et al. 2017, section 4: the plain mean of the m updates with the smallest scores of Krum.

    With m = K - f - 2, the default, it is as resilient as Krum and loses less of what the others learned.
    """

    name: ClassVar[str] = "multi-krum"
    summary: ClassVar[str] = "the mean of the updates that have the closest neighbours; robust"
    source: ClassVar[str] = BLANCHARD
    keep: int | None = option(
        None, "m, how many updates are averaged.", within="[1, 1000000]", unset="all-but-f-plus-2"
    )

    def taken(self, num_updates: int) -> int:
        return min(num_updates, self.keep) if self.keep is not None else num_updates - self.byzantine - 2
