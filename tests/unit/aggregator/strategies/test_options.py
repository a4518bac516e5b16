"""Options of a strategy: read, bounded, and one line for what is none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from aggregator.strategies.options import option, options_of, parse_options, split_options
from aggregator.strategies.registry import STRATEGIES, get_strategy, shown_options
from aggregator.strategy import Strategy
from fl_protocol.errors import ConfigError


@dataclass(frozen=True)
class Tried(Strategy):
    rate: float = option(0.5, "A rate.", within="(0, 1]")
    count: int = option(3, "A count.", within="[1, inf)")
    how: str = option("up", "A way.", choices=("up", "down"))
    bound: float | None = option(None, "A bound.", within="(0, inf)", unset="median")


def test_values_are_read_by_their_kind() -> None:
    texts = {"rate": "1", "count": "7", "how": "down", "bound": "2.5"}
    assert parse_options(Tried, texts, "tried") == {"rate": 1.0, "count": 7, "how": "down", "bound": 2.5}
    assert parse_options(Tried, {"bound": "median"}, "tried") == {"bound": None}
    assert parse_options(Tried, {}, "tried") == {}


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("rate", "0", "rate of tried is a number in (0, 1] (default 0.5)"),
        ("rate", "1.01", "a number in (0, 1]"),
        ("rate", "nan", "a number in (0, 1]"),
        ("rate", "fast", "a number in (0, 1]"),
        ("count", "0", "a whole number in [1, inf)"),
        ("count", "2.5", "a whole number in [1, inf)"),
        ("bound", "inf", "a number in (0, inf), or median (default median)"),
        ("how", "left", "one of up, down (default up)"),
    ],
)
def test_a_bad_value_is_told_with_what_is_good(key: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options(Tried, {key: text}, "tried")
    line = str(caught.value)
    assert line.startswith(f"--strategy-option {key}={text}: ") and said in line and "\n" not in line
    assert line.endswith("its options: bound, count, how, rate")


def test_an_unknown_key_is_told_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"no such option: did you mean rate\? it has bound, count, how, rate$"
    ):
        parse_options(Tried, {"rates": "1"}, "tried")
    with pytest.raises(ConfigError, match="strategy plain has no options"):
        parse_options(Strategy, {"rate": "1"}, "plain")


def test_pairs_are_split_at_the_first_sign_and_the_last_of_a_key_counts() -> None:
    assert split_options(["a=1", "b-c = x=y", "a=2"]) == {"a": "2", "b_c": "x=y"}
    for pair in ("a", "=1"):
        with pytest.raises(ConfigError, match=r"is not key=value: write it as server_lr=0\.1"):
            split_options([pair])


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_of_ours_has_told_options_within_their_bounds(name: str) -> None:
    kind = STRATEGIES[name]
    assert kind.name == name and kind.source and kind.__doc__
    for each in options_of(kind):
        assert each.text.endswith(".")
        assert each.default is None or each.parse(str(each.default)) == each.default
    strategy = get_strategy(name, {each.name: each.default_text for each in options_of(kind)})
    assert strategy == get_strategy(name)
    assert set(shown_options(strategy)) == {each.name for each in options_of(kind)}


def test_an_unknown_strategy_is_told_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match="unknown strategy 'fedsum': choose one of fedadagrad, fedadam, fedasync, fedavg"
    ):
        get_strategy("fedsum")
