"""Text that is safe to print, and small drawings in characters."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_protocol.console import (
    Quarters,
    bar,
    clean,
    metric_words,
    names,
    numbers,
    pairs,
    part,
    seconds,
    share,
    size,
    sparkline,
)


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    assert clean(text).isprintable() and len(clean(text)) <= 200


@given(st.text(), st.text())
def test_pairs_cannot_be_split_by_their_values(first: str, second: str) -> None:
    line = pairs(a=first, b=second)
    assert line.startswith("a=") and line.isprintable()
    assert line.count('"') % 2 == 0


def test_pairs_leave_out_none_and_quote_blanks() -> None:
    assert pairs(a=1, b=None, c="x y", d="", e=0.123456, f='q"u') == 'a=1 c="x y" d="" e=0.1235 f="q\'u"'


@pytest.mark.parametrize("text", ["mqtt://bob:hunter2@host:1883", "at wss://hunter2@h/x"])
def test_a_login_in_an_address_is_not_shown(text: str) -> None:
    assert "hunter2" not in clean(text) and "://***@h" in clean(text)


def test_metrics_are_numbers_in_a_known_order() -> None:
    odd = {"loss": 0.31234, "x": "y", "auroc": 0.9, "zeta": True, "auroc_low": 0.8, "b": 2}
    assert metric_words(odd) == "auroc=0.9 loss=0.3123 b=2"
    assert numbers(None) == numbers([1]) == {} and metric_words("x") == ""


@given(st.one_of(st.floats(), st.integers(), st.none(), st.text()))
def test_anything_is_a_share(value: object) -> None:
    assert 0.0 <= share(value) <= 1.0


@given(st.lists(st.one_of(st.none(), st.floats()), max_size=60))
def test_a_sparkline_is_as_long_as_its_values_or_empty(values: list[float | None]) -> None:
    assert len(sparkline(values)) in (0, len(values))


def test_drawings() -> None:
    assert bar(0.5, 4) == "━━╌╌" and bar(math.nan, 2) == "╌╌" and bar(9, 2) == "━━"
    assert sparkline([0.0, None, 1.0]) == "▁ █" and sparkline([]) == ""
    assert part(1, 4) == 0.25 and part(0, 0) == 1.0 and part(9, 3) == 1.0
    assert names(["a", "b", "c"], 2) == "a,b,+1"


def test_durations_and_sizes_for_people() -> None:
    told = [seconds(s) for s in (0.04, 4.21, 41.2, 125, 11400, math.nan, None, 1e12)]
    assert told == ["0.04 s", "4.2 s", "41 s", "2 min 05 s", "3 h 10 min", "?", "?", "?"]
    assert [size(n) for n in (12, 999_950, 45e6)] == ["12 B", "1.0 MB", "45.0 MB"]


def test_the_module_itself_imports_no_rich() -> None:
    source = sys.modules["fl_protocol.console"].__dict__
    assert not any(getattr(value, "__module__", "").startswith("rich") for value in source.values())


def test_quarters_are_remembered_of_the_newest_keys_alone() -> None:
    """A key a round and client: a long run, or a stranger who makes up rounds, must not fill memory."""
    quarters = Quarters(most=3)
    assert all(quarters.passed(f"train/{number}/a", 0.5) for number in range(100))
    assert not quarters.passed("train/99/a", 0.6)
    assert len(quarters._seen) == 3
