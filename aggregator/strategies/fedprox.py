"""FedProx: FedAvg whose clients are held near the model they were given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from aggregator.strategies.fedavg import FedAvg
from aggregator.strategies.options import option
from fl_protocol.messages import Plan


@dataclass(frozen=True)
class FedProx(FedAvg):
    """Li et al. 2020, Algorithm 2. Client k minimises, over its own parameters w,

        h_k(w) = F_k(w) + mu/2 |w - w_t|_2^2

    and the server averages as FedAvg does. mu = 0 is FedAvg. ``--proximal-mu`` goes before the option.
    """

    name: ClassVar[str] = "fedprox"
    summary: ClassVar[str] = "FedAvg whose clients are held near the global model"
    source: ClassVar[str] = "Li et al. 2020, https://arxiv.org/abs/1812.06127"
    mu: float = option(0.01, "Weight of the proximal term in the clients' loss.", within="[0, 1e6]")

    def plan(self, plan: Plan) -> Plan:
        return replace(plan, proximal_mu=self.mu)
