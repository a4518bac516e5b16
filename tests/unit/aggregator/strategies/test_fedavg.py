"""FedAvg against its formula in plain numpy, and to the bit against the loop it has always been."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from aggregator.strategies.fedavg import FedAvg
from tests.payloads import Floats, floats
from tests.pieces import examples, folded


def plainly(base: Floats, deltas: list[tuple[int, Floats]]) -> npt.NDArray[np.float64]:
    """McMahan et al. 2017, Algorithm 1, in float64."""
    weights = np.array([weight for weight, _ in deltas], np.float64)
    stacked = np.stack([delta for _, delta in deltas]).astype(np.float64)
    mean: npt.NDArray[np.float64] = base + (weights[:, None] * stacked).sum(axis=0) / weights.sum()
    return mean


def as_ever(base: Floats, deltas: list[tuple[int, Floats]]) -> Floats:
    """The first release's loop: runs begun with it must end in the same bytes."""
    total = np.zeros(base.shape, np.float64)
    for weight, delta in deltas:
        total += np.multiply(delta, np.float64(weight), dtype=np.float64)
    total /= sum(weight for weight, _ in deltas)
    total += base
    return total.astype(np.float32)


def mean(base: Floats, deltas: list[tuple[int, Floats]], clip_norm: float | None = None) -> Floats:
    facts = examples(*[weight for weight, _ in deltas])
    return folded(FedAvg(clip_norm=clip_norm), base, [delta for _, delta in deltas], facts).model


def test_by_hand() -> None:
    base = np.array([1.0, 2.0, -4.0], np.float32)
    deltas = [(1, np.array([4.0, 0.0, 0.0], np.float32)), (3, np.array([0.0, 8.0, 4.0], np.float32))]
    assert mean(base, deltas).tolist() == [2.0, 8.0, -1.0]


@pytest.mark.parametrize("num_clients", [1, 2, 3, 10, 33])
def test_against_the_formula(num_clients: int) -> None:
    base = floats(1001, 0)
    deltas = [(1 + 37 * k, floats(1001, 1 + k, scale=0.01)) for k in range(num_clients)]
    found = mean(base, deltas)
    wanted = plainly(base, deltas)
    assert np.all(np.abs(found - wanted) <= np.spacing(np.abs(wanted).astype(np.float32)))
    assert found.tobytes() == as_ever(base, deltas).tobytes()


def test_huge_weights_and_values_stay_finite() -> None:
    deltas = [(10**10, np.full(3, 1e18, np.float32)), (10**10, np.full(3, -1e18, np.float32))]
    assert mean(np.zeros(3, np.float32), deltas).tolist() == [0.0, 0.0, 0.0]


def test_clipping_shortens_what_is_long_and_leaves_the_rest() -> None:
    """[3, 4] has norm 5 and is cut to 1; [0.6, 0.8] has norm 1 and stays."""
    deltas = [(1, np.array([3.0, 4.0], np.float32)), (1, np.array([-0.6, -0.8], np.float32))]
    assert np.allclose(mean(np.zeros(2, np.float32), deltas, clip_norm=1.0), 0.0, atol=1e-7)
    assert (
        mean(np.zeros(2, np.float32), deltas, clip_norm=9.0).tobytes()
        == as_ever(np.zeros(2, np.float32), deltas).tobytes()
    )
