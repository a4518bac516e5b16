"""FedProx and FedBN: what they ask of the clients, and that the server's part is FedAvg's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aggregator.strategies.fedavg import FedAvg
from aggregator.strategies.fedbn import FedBN
from aggregator.strategies.fedprox import FedProx
from fl_protocol.messages import Plan
from tests.payloads import floats
from tests.pieces import examples, folded

PLAN = Plan(1, 16, 0.05, 0)


def test_fedprox_asks_for_its_proximal_term() -> None:
    """What the person said of it goes before: rule.py."""
    assert FedProx(mu=0.3).plan(PLAN) == replace(PLAN, proximal_mu=0.3)
    assert FedProx(mu=0.0).plan(PLAN) == PLAN


def test_fedbn_asks_for_local_norms() -> None:
    assert FedBN().plan(PLAN) == replace(PLAN, local_norms=True)
    assert FedAvg().plan(PLAN) == PLAN


@pytest.mark.parametrize("strategy", [FedProx(), FedBN()])
def test_the_server_averages(strategy: FedAvg) -> None:
    base, deltas, facts = floats(50, 0), [floats(50, 1), floats(50, 2)], examples(3, 8)
    assert (
        folded(strategy, base, deltas, facts).model.tobytes()
        == folded(FedAvg(), base, deltas, facts).model.tobytes()
    )
