"""FedNova: clients that took more steps do not pull the model further for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from aggregator.strategies.fedavg import FedAvg
from aggregator.strategies.options import option
from aggregator.strategy import Gathered, Weights

MOST_STEPS = 1e9
"""As many as a plan can ask for (messages.Plan.local_steps)."""


@dataclass(frozen=True)
class FedNova(FedAvg):
    """Wang et al. 2020, equation 6, with p_k = n_k / sum n and tau_k the steps that client k took:

        w_{t+1} = w_t + tau_eff sum_k p_k delta_k / |a_k|_1,    tau_eff = sum_k p_k |a_k|_1

    |a_k|_1 is how far tau_k steps of the client's optimiser carry a constant unit gradient. The form used is that of
    SGD with momentum rho that begins anew every round (section 4.1):

        |a_k|_1 = (tau_k - rho (1 - rho^tau_k) / (1 - rho)) / (1 - rho)

    which for rho = 0, plain SGD, is tau_k itself. For Adam and its kin, whose steps are of one size, rho = 0 is right
    as well. tau_k is the metric ``local_steps``; an update without it is refused (``no_local_steps``).
    """

    name: ClassVar[str] = "fednova"
    summary: ClassVar[str] = "FedAvg that makes up for clients taking different numbers of steps"
    source: ClassVar[str] = "Wang et al. 2020, https://arxiv.org/abs/2007.07481"
    momentum: float = option(0.0, "rho, the momentum of the clients' optimiser.", within="[0, 1)")

    def refusal(self, metrics: Mapping[str, float]) -> str | None:
        is_told = 1 <= metrics.get("local_steps", 0.0) <= MOST_STEPS
        return None if is_told else "no_local_steps"

    def shares(self, gathered: Gathered) -> Weights:
        total = sum(update.num_examples for update in gathered.updates)
        shares = [update.num_examples / total for update in gathered.updates]
        carried = [self.carried(update.metrics["local_steps"]) for update in gathered.updates]
        effective = sum(share * norm for share, norm in zip(shares, carried, strict=True))
        return Weights([share * effective / norm for share, norm in zip(shares, carried, strict=True)], 1.0)

    def carried(self, steps: float) -> float:
        """|a|_1 of so many steps."""
        rest = 1.0 - self.momentum
        return (steps - self.momentum * (1.0 - math.pow(self.momentum, steps)) / rest) / rest
