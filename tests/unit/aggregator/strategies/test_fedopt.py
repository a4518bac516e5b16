"""Server optimisers against torch.optim where the rule is the same, and against plain numpy where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from aggregator.strategies.fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi
from aggregator.strategy import Strategy
from tests.payloads import Floats, floats
from tests.pieces import examples, folded

SIZE, ROUNDS, COUNTS = 101, 7, (3, 10, 7)
Wide = npt.NDArray[np.float64]


def deltas_of(round_number: int) -> list[Floats]:
    return [floats(SIZE, 100 * round_number + k, scale=0.1) for k in range(len(COUNTS))]


def mean_of(round_number: int) -> Wide:
    mean: Wide = np.average(np.stack(deltas_of(round_number)).astype(np.float64), axis=0, weights=COUNTS)
    return mean


def run(strategy: Callable[[int], Strategy], state: dict[str, Floats] | None = None) -> Floats:
    """The model after ROUNDS rounds, the state carried from round to round in float32."""
    model = floats(SIZE, 0)
    for number in range(1, ROUNDS + 1):
        made = folded(strategy(number), model, deltas_of(number), examples(*COUNTS), state=state)
        model, state = made.model, made.state
    return model


def run_torch(optimizer: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> Wide:
    weights = torch.tensor(floats(SIZE, 0), dtype=torch.float64, requires_grad=True)
    stepping = optimizer([weights])
    for number in range(1, ROUNDS + 1):
        weights.grad = torch.from_numpy(-mean_of(number))  # the delta is minus the gradient
        stepping.step()
    found: Wide = weights.detach().numpy()
    return found


def near(found: Floats, wanted: Wide) -> bool:
    return bool(np.allclose(found, wanted, rtol=3e-6, atol=3e-6))


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.0), (1.0, 0.9), (0.3, 0.5)])
def test_fedavgm_is_sgd_with_momentum(rate: float, momentum: float) -> None:
    found = run(lambda _: FedAvgM(server_lr=rate, server_momentum=momentum))
    assert near(found, run_torch(lambda weights: torch.optim.SGD(weights, lr=rate, momentum=momentum)))


def test_fedadagrad_is_adagrad_begun_at_tau_squared() -> None:
    found = run(lambda _: FedAdagrad(server_lr=0.1, tau=0.01))
    wanted = run_torch(
        lambda weights: torch.optim.Adagrad(weights, lr=0.1, initial_accumulator_value=1e-4, eps=0.01)
    )
    assert near(found, wanted)


def test_fedadam_is_adam_but_for_the_bias_correction() -> None:
    """Adam's correction is a rate and an epsilon of their own in every round: given those, the rules are one."""
    rate, beta1, beta2, eps = 0.05, 0.9, 0.99, 1e-3

    def corrected(number: int) -> FedAdam:
        root = math.sqrt(1 - beta2**number)
        return FedAdam(server_lr=rate * root / (1 - beta1**number), beta1=beta1, beta2=beta2, tau=eps * root)

    nothing = {name: np.zeros(SIZE, np.float32) for name in FedAdam().server_state}
    wanted = run_torch(lambda weights: torch.optim.Adam(weights, lr=rate, betas=(beta1, beta2), eps=eps))
    assert near(run(corrected, nothing), wanted)


@pytest.mark.parametrize("kind", [FedAdam, FedYogi, FedAdagrad])
def test_against_algorithm_2_in_plain_numpy(kind: type[FedAdam | FedYogi | FedAdagrad]) -> None:
    beta1, beta2, rate, tau = 0.8, 0.95, 0.03, 0.02
    model, momentum, second = floats(SIZE, 0).astype(np.float64), np.zeros(SIZE), np.full(SIZE, tau**2)
    for number in range(1, ROUNDS + 1):
        delta = mean_of(number)
        momentum = beta1 * momentum + (1 - beta1) * delta
        if kind is FedAdam:
            second = beta2 * second + (1 - beta2) * delta**2
        elif kind is FedYogi:
            second = second - (1 - beta2) * delta**2 * np.sign(second - delta**2)
        else:
            second = second + delta**2
        model = model + rate * momentum / (np.sqrt(second) + tau)
    more = {} if kind is FedAdagrad else {"beta2": beta2}
    assert near(run(lambda _: kind(server_lr=rate, beta1=beta1, tau=tau, **more)), model)


def test_without_momentum_and_at_full_rate_it_is_fedavg() -> None:
    found = folded(FedAvgM(server_momentum=0.0), floats(SIZE, 0), deltas_of(1), examples(*COUNTS)).model
    assert near(found, floats(SIZE, 0) + mean_of(1))


def test_the_server_moves_the_way_the_clients_went() -> None:
    up = [np.full(4, 0.1, np.float32)] * 2
    for strategy in (FedAvgM(), FedAdagrad(), FedAdam(), FedYogi()):
        assert np.all(folded(strategy, np.zeros(4, np.float32), up).model > 0), strategy.name
