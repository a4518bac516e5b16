"""SCAFFOLD: control variates correct the drift of clients whose data differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from aggregator.strategies.options import option
from aggregator.strategy import Gathered, Piece, Stepped, Strategy, Sums, Weights, alike
from fl_protocol.messages import Plan
from fl_protocol.tensors import CONTROL


@dataclass(frozen=True)
class Scaffold(Strategy):
    """Karimireddy et al. 2020, Algorithm 1, the server's lines 16 and 17. S are the clients of the round:

        x <- x + eta_g / |S| sum_{i in S} (y_i - x)
        c <- c +  1 / N     sum_{i in S} (c_i+ - c_i)

    Clients weigh alike, as in the paper, since c is a plain mean: of the control variates c_i of all N clients, zero
    for those that have not trained yet. N is how many clients were ever invited; when it grows from M to N, c is
    scaled by M / N first, and so remains that mean. c travels with the model as the group ``control``, and c_i+ - c_i
    with the update; the client's lines are in fl_tasks/drift.py.
    """

    name: ClassVar[str] = "scaffold"
    summary: ClassVar[str] = "control variates against the drift of clients whose data differ"
    source: ClassVar[str] = "Karimireddy et al. 2020, https://arxiv.org/abs/1910.06378"
    census: ClassVar[bool] = True
    server_lr: float = option(1.0, "eta_g, the server's step size.", within="(0, inf)")

    def plan(self, plan: Plan) -> Plan:
        return replace(plan, control_variates=True)

    def weigh(self, gathered: Gathered) -> Weights:
        return alike(gathered.updates)

    def step(self, piece: Piece, change: Sums) -> Stepped:
        if piece.group != CONTROL:
            return piece.base + self.server_lr * change, {}
        clients, taking_part = piece.gathered.clients, len(piece.gathered.updates)
        kept = clients.known_before / clients.known
        return kept * piece.base.astype(float) + taking_part / clients.known * change, {}
