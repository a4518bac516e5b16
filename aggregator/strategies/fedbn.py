"""FedBN: normalisation layers stay at home."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from aggregator.strategies.fedavg import FedAvg
from fl_protocol.messages import Plan


@dataclass(frozen=True)
class FedBN(FedAvg):
    """Li et al. 2021, Algorithm 1: every client trains on with its own normalisation layers, where scanners differ.

    The plan asks for it (``local_norms``). The server averages all tensors as FedAvg does: the averaged norms are
    for those who have none of their own yet, and for central evaluation.
    """

    name: ClassVar[str] = "fedbn"
    summary: ClassVar[str] = "FedAvg whose clients keep their own normalisation layers"
    source: ClassVar[str] = "Li et al. 2021, https://arxiv.org/abs/2102.07623"

    def plan(self, plan: Plan) -> Plan:
        return replace(plan, local_norms=True)
