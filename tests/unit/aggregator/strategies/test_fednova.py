"""FedNova against its formula, and against clients that really step."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator.strategies.fednova import FedNova
from aggregator.strategy import Facts
from tests.payloads import floats
from tests.pieces import folded


def stepped(*steps: float, counts: tuple[int, ...] = (30, 10, 60)) -> list[Facts]:
    return [
        Facts(f"c{k}", count, metrics={"local_steps": each}) for k, (each, count) in enumerate(zip(steps, counts, strict=False))
    ]  # fmt: skip


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_the_norm_is_how_far_momentum_carries_a_unit_gradient(momentum: float, steps: int) -> None:
    """SGD with momentum from rest, lr 1, gradient 1, step by step."""
    velocity = travelled = 0.0
    for _ in range(steps):
        velocity = momentum * velocity + 1.0
        travelled += velocity
    assert FedNova(momentum=momentum).carried(steps) == pytest.approx(travelled, rel=1e-12)


def test_against_equation_6() -> None:
    base, deltas, steps = floats(40, 0), [floats(40, k) for k in (1, 2, 3)], (4.0, 9.0, 2.0)
    shares = np.array([0.3, 0.1, 0.6])
    effective = (shares * steps).sum()
    wanted = base + effective * sum(
        p * d.astype(float) / t for p, d, t in zip(shares, deltas, steps, strict=True)
    )
    assert np.allclose(folded(FedNova(), base, deltas, stepped(*steps)).model, wanted, atol=1e-6)


def test_equal_steps_make_it_fedavg() -> None:
    base, deltas = floats(40, 0), [floats(40, k) for k in (1, 2, 3)]
    wanted = base + np.average(np.stack(deltas).astype(float), axis=0, weights=(30, 10, 60))
    found = folded(FedNova(momentum=0.9), base, deltas, stepped(5, 5, 5)).model
    assert np.allclose(found, wanted, atol=1e-6)


def test_of_one_gradient_it_makes_one_direction_whoever_stepped_most() -> None:
    """Two clients with opposite gradients and one example each: FedAvg drifts to the busy one, FedNova stays."""
    gradient = np.array([1.0, -2.0], np.float32)
    deltas = [-0.1 * 10 * gradient, 0.1 * 2 * gradient]
    found = folded(FedNova(), np.zeros(2, np.float32), deltas, stepped(10, 2, counts=(1, 1))).model
    assert np.allclose(found, 0.0, atol=1e-7)


@pytest.mark.parametrize("told", [{}, {"local_steps": 0.0}, {"local_steps": -3.0}, {"local_steps": 1e10}])
def test_an_update_without_its_steps_is_refused(told: dict[str, float]) -> None:
    assert FedNova().refusal(told) == "no_local_steps"
    assert FedNova().refusal({"local_steps": 1.0}) is None
