"""FedAvg against its formula in plain numpy, and means of what clients report."""

from __future__ import annotations

import itertools
import random

import numpy as np
import numpy.typing as npt
import pytest

from aggregator.strategy import MAX_METRICS, STRATEGIES, FedAvg, get_strategy, weighted_metrics
from fl_protocol.errors import ConfigError
from fl_protocol.messages import LastRound
from fl_protocol.schema import build
from tests.payloads import floats


def plainly(
    base: npt.NDArray[np.float32], deltas: list[tuple[int, npt.NDArray[np.float32]]]
) -> npt.NDArray[np.float64]:
    """McMahan et al. 2017, Algorithm 1, in float64."""
    weights = np.array([weight for weight, _ in deltas], np.float64)
    stacked = np.stack([delta for _, delta in deltas]).astype(np.float64)
    mean: npt.NDArray[np.float64] = base + (weights[:, None] * stacked).sum(axis=0) / weights.sum()
    return mean


def test_by_hand() -> None:
    base = np.array([1.0, 2.0, -4.0], np.float32)
    deltas = [(1, np.array([4.0, 0.0, 0.0], np.float32)), (3, np.array([0.0, 8.0, 4.0], np.float32))]
    assert FedAvg().combine(base, deltas).tolist() == [2.0, 8.0, -1.0]


@pytest.mark.parametrize("num_clients", [1, 2, 3, 10, 33])
def test_against_the_formula(num_clients: int) -> None:
    base = floats(1001, 0)
    deltas = [(1 + 37 * k, floats(1001, 1 + k, scale=0.01)) for k in range(num_clients)]
    found = FedAvg().combine(base, deltas)
    assert found.dtype == np.float32
    wanted = plainly(base, deltas)
    assert np.all(np.abs(found - wanted) <= np.spacing(np.abs(wanted).astype(np.float32)))


def test_one_client_is_its_own_model() -> None:
    base, delta = floats(100, 1), floats(100, 2)
    assert np.array_equal(
        FedAvg().combine(base, [(7, delta)]), (base.astype(np.float64) + delta).astype(np.float32)
    )


def test_neither_base_nor_deltas_are_written_to() -> None:
    base, delta = floats(10, 1), floats(10, 2)
    base.flags.writeable = delta.flags.writeable = False
    FedAvg().combine(base, [(1, delta), (2, delta)])


def test_a_delta_may_live_in_a_buffer_that_is_used_again() -> None:
    base, buffer = np.zeros(2, np.float32), np.zeros(2, np.float32)

    def deltas() -> itertools.chain[tuple[int, npt.NDArray[np.float32]]]:
        def one(value: float) -> list[tuple[int, npt.NDArray[np.float32]]]:
            buffer[:] = value
            return [(1, buffer)]

        return itertools.chain.from_iterable(one(value) for value in (1.0, 3.0))

    assert FedAvg().combine(base, deltas()).tolist() == [2.0, 2.0]


def test_huge_weights_and_values_stay_finite() -> None:
    base = np.zeros(3, np.float32)
    deltas = [(10**10, np.full(3, 1e18, np.float32)), (10**10, np.full(3, -1e18, np.float32))]
    assert FedAvg().combine(base, deltas).tolist() == [0.0, 0.0, 0.0]


def test_known_strategies_and_the_remedy_for_an_unknown_one() -> None:
    assert all(get_strategy(name).name == name for name in STRATEGIES)
    with pytest.raises(ConfigError, match="unknown strategy 'fedsum': choose one of fedavg"):
        get_strategy("fedsum")


# --- metrics ------------------------------------------------------------------------------------------------


def test_metrics_are_weighted_over_those_who_report_them() -> None:
    found = weighted_metrics([(10, {"loss": 1.0}), (30, {"loss": 2.0, "auroc": 0.5})])
    assert found == {"auroc": 0.5, "loss": 1.75}
    assert list(found) == ["auroc", "loss"]
    assert weighted_metrics([]) == {}
    assert weighted_metrics([(0, {"loss": 1.0})]) == {}


def test_metrics_that_overflow_are_left_out() -> None:
    """1e308 is a finite number and passes the wire; ten billion times it is not, and JSON has no name for that."""
    assert weighted_metrics([(10**10, {"bad": 1e308, "good": 1.0}), (1, {"good": 1.0})]) == {"good": 1.0}
    assert weighted_metrics([(1, {"bad": 1e308}), (1, {"bad": 1e308})]) == {}


def test_metrics_stay_within_what_an_announcement_may_carry() -> None:
    clients = [(1, {f"{k}-{n}": 0.0 for n in range(64)} | {"loss": 1.0}) for k in range(5)]
    random.Random(0).shuffle(clients)
    found = weighted_metrics(clients)
    assert len(found) == MAX_METRICS
    assert found["loss"] == 1.0, "what most report is kept"
    told = {
        "round_number": 1,
        "outcome": "closed",
        "accepted": 5,
        "rejected": 0,
        "stragglers": 0,
        "duration_s": 1.0,
    }
    assert build(LastRound, told | {"metrics": None, "client_metrics": found}).client_metrics == found
