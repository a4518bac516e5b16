"""FedBuff and FedAsync: staleness, mixing, and that a fresh update does not replace the model."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator.strategies.fedasync import FedAsync
from aggregator.strategies.fedbuff import FedBuff
from aggregator.strategies.registry import get_strategy
from aggregator.strategies.staleness import discount, hinge, polynomial
from aggregator.strategy import Facts
from fl_protocol.errors import ConfigError
from tests.payloads import floats
from tests.pieces import folded


def stale(*by: int) -> list[Facts]:
    return [Facts(f"c{k}", 1 + k, staleness=each) for k, each in enumerate(by)]


def test_discounts_by_hand() -> None:
    assert [polynomial(t, 0.5) for t in (0, 3, 8)] == [1.0, 0.5, pytest.approx(1 / 3)]
    assert [hinge(t, 10, 4) for t in (0, 4, 5, 6)] == [1.0, 1.0, 1 / 11, 1 / 21]
    assert discount("constant", 7, 0.5, 0) == 1.0
    assert discount("polynomial", 3, 0.5, 0) == 0.5
    assert discount("hinge", 5, 10, 4) == 1 / 11


def test_fedbuff_divides_by_the_buffer_not_by_the_discounts() -> None:
    base, deltas = floats(30, 0), [floats(30, k) for k in (1, 2, 3)]
    wanted = base + 0.7 / 3 * (deltas[0] / 1.0 + deltas[1] / 2.0 + deltas[2] / 3.0)
    assert np.allclose(folded(FedBuff(server_lr=0.7), base, deltas, stale(0, 3, 8)).model, wanted, atol=1e-6)


def test_fedasync_mixes_a_fresh_update_and_does_not_become_it() -> None:
    base, delta = floats(30, 0), floats(30, 1)
    trained = base + delta
    found = folded(FedAsync(mixing=0.6), base, [delta], stale(0)).model
    assert np.allclose(found, 0.4 * base + 0.6 * trained, atol=1e-6)
    assert not np.allclose(found, trained, atol=1e-3)


def test_no_option_lets_a_fresh_update_take_the_models_place() -> None:
    with pytest.raises(ConfigError, match=r"mixing of fedasync is a number in \(0, 1\)"):
        get_strategy("fedasync", {"mixing": "1"})


def test_fedasync_mixes_several_one_after_another_the_freshest_last() -> None:
    strategy, facts = FedAsync(mixing=0.5, exponent=1.0), stale(0, 2, 2, 1)
    base, deltas = floats(30, 0), [floats(30, k) for k in (1, 2, 3, 4)]
    wanted = base.astype(float)
    for client in (1, 2, 3, 0):
        share = 0.5 / (1 + facts[client].staleness)
        wanted = (1 - share) * wanted + share * (base.astype(float) + deltas[client])
    assert np.allclose(folded(strategy, base, deltas, facts).model, wanted, atol=1e-6)


def test_they_say_how_stale_an_update_may_be() -> None:
    assert FedBuff().max_staleness == FedAsync().max_staleness == 10
    assert FedBuff(max_staleness=3).max_staleness == 3
