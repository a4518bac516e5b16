from __future__ import annotations

import math

import pytest

from aggregator.round import Update
from aggregator.temperature import temperature_metadata
from fl_tasks.calibration import COLDEST, HOTTEST, METADATA_KEY, temperature_of


def update(
    name: str, log_t: float | None, examples: float = 10.0, num_examples: int = 100, staleness: int = 0
) -> Update:
    told = {} if log_t is None else {"eval_log_temperature": log_t, "eval_examples": examples}
    return Update(name, "t", "d", num_examples, told, staleness)


def test_the_mean_is_weighted_by_what_it_was_measured_on() -> None:
    found = temperature_metadata([update("a", math.log(2), 30), update("b", 0.0, 10), update("c", None)])
    assert temperature_of(found) == pytest.approx(2**0.75, abs=1e-4)


def test_nobody_told_and_the_base_keeps_its_own() -> None:
    assert (
        temperature_metadata([update("a", None), update("b", 0.3, 0.0), update("c", 0.3, staleness=1)]) == {}
    )
    assert temperature_metadata([]) == {}


def test_a_liar_has_no_more_weight_than_it_declared_and_stays_in_bounds() -> None:
    fair = [update(name, 0.0, 10) for name in "abc"]
    assert temperature_of(temperature_metadata([*fair, update("z", 1e300, 1e15, 10)])) < 2
    for extreme in (1e300, -1e300):
        found = temperature_of(temperature_metadata([update("z", extreme)]))
        assert COLDEST <= found <= HOTTEST
    assert METADATA_KEY in temperature_metadata(fair)
