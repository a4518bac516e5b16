"""SCAFFOLD's server against lines 16 and 17 of its Algorithm 1 in plain numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aggregator.strategies.scaffold import Scaffold
from aggregator.strategy import Clients
from fl_protocol.messages import Plan
from fl_protocol.tensors import CONTROL
from tests.payloads import floats
from tests.pieces import examples, folded


def test_it_asks_for_control_variates() -> None:
    plan = Plan(1, 16, 0.05, 0)
    assert Scaffold().plan(plan) == replace(plan, control_variates=True)


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_model_moves_by_the_plain_mean(rate: float) -> None:
    base, deltas = floats(40, 0), [floats(40, k) for k in (1, 2, 3)]
    found = folded(Scaffold(server_lr=rate), base, deltas, examples(1, 100, 7)).model
    assert np.allclose(found, base + rate * np.mean(deltas, axis=0), atol=1e-6)


def test_c_stays_the_mean_of_all_control_variates_while_clients_come_and_take_turns() -> None:
    """Six rounds of a federation of up to five, some not seen before the fourth: c is what one would add up."""
    chance = np.random.default_rng(0)
    own = {client: np.zeros(20, np.float32) for client in range(5)}
    control, known = np.zeros(20, np.float32), 0
    for round_number, cohort in enumerate([(0, 1), (0, 1), (1, 2), (3, 4), (0, 4), (2, 3)]):
        grown = {client: chance.standard_normal(20).astype(np.float32) for client in cohort}
        before, known = known, max(known, *(client + 1 for client in cohort))
        deltas = [grown[client] - own[client] for client in cohort]
        found = folded(
            Scaffold(server_lr=0.1), control, deltas, group=CONTROL, clients=Clients(known, before)
        )
        control = found.model
        own |= grown
        mean = np.mean([own[client] for client in range(known)], axis=0)
        assert np.allclose(control, mean, atol=1e-6), f"round {round_number}"
