from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_protocol.errors import ConfigError
from fl_sim.profiles import Dropout, Profile, Slow, factors, parse_speeds


@pytest.mark.parametrize("text", ["", "fast", "lognormal", "lognormal:x", "lognormal:-1", "lognormal:9", "uniform:2",
                                  "uniform:0:1", "uniform:3:2", "equal:1", "lognormal:nan"])  # fmt: skip
def test_speeds_without_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--speeds .* is not known: use equal, lognormal:SIGMA"):
        parse_speeds(text)


@pytest.mark.parametrize("text", ["", "1/8", "2/1:3", "1/0:3", "1/8:0", "-1/8:3", "1/8:x"])
def test_slow_clients_without_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--slow .* is not K/N:FACTOR"):
        Slow.parse(text)


@pytest.mark.parametrize("text", ["", "1", "-0.1", "x", "0.1:", "0.1:0", "0.1:-3", "nan", "0.1:inf"])
def test_a_dropout_without_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--dropout .* is not CHANCE"):
        Dropout.parse(text)


def test_a_lognormal_client_is_of_speed_one_in_the_median() -> None:
    drawn = factors(4001, parse_speeds("lognormal:0.5"), None, 3)
    assert statistics.median(drawn) == pytest.approx(1.0, abs=0.05)
    assert statistics.stdev(map(math.log, drawn)) == pytest.approx(0.5, abs=0.03)


@given(st.integers(1, 200), st.integers(0, 8), st.integers(0, 2**63 - 1))
def test_as_many_are_slow_as_was_said(count: int, part: int, seed: int) -> None:
    drawn = factors(count, parse_speeds("equal"), Slow(part, 8, 20.0), seed)
    assert sorted(drawn) == [1.0] * (count - round(count * part / 8)) + [20.0] * round(count * part / 8)
    assert drawn == factors(count, parse_speeds("equal"), Slow(part, 8, 20.0), seed)


def test_the_speed_is_of_the_work_and_not_of_the_link() -> None:
    profile = Profile((1.0, 20.0), pace_s=0.5, link_bytes_s=100.0)
    assert profile.duration(1, 10, 300) == pytest.approx(5.0 + 6.0)
    assert profile.duration(2, 10, 300) == pytest.approx(100.0 + 6.0)
    assert Profile((1.0,), pace_s=0.5).duration(1, 10, 300) == pytest.approx(5.0)


def test_dropouts_are_as_frequent_as_was_said_and_fall_anywhere() -> None:
    profile = Profile((1.0,) * 100, dropout=Dropout(0.2), seed=1)
    drawn = [profile.vanishes_at(shard, number, 1, 1) for shard in range(1, 101) for number in range(1, 41)]
    gone = [share for share in drawn if share is not None]
    assert len(gone) / len(drawn) == pytest.approx(0.2, abs=0.02)
    assert all(0.0 <= share < 1.0 for share in gone)
    assert statistics.mean(gone) == pytest.approx(0.5, abs=0.05)
    assert Profile((1.0,)).vanishes_at(1, 1, 1, 1) is None


def test_every_try_of_every_client_is_a_throw_of_its_own_and_the_seed_says_how_it_falls() -> None:
    def thrown(seed: int, shard: int = 1, number: int = 1, attempt: int = 1) -> list[float | None]:
        profile = Profile((1.0,) * 9, dropout=Dropout(0.5), seed=seed)
        return [profile.vanishes_at(shard, number, attempt, tried) for tried in range(1, 41)]

    assert thrown(1) == thrown(1)
    others = [thrown(2), thrown(1, shard=2), thrown(1, number=2), thrown(1, attempt=2)]
    assert all(other != thrown(1) for other in others)
    assert len(set(thrown(1))) > 10, "who vanished once need not vanish again, nor at the same moment"


def test_the_seed_says_who_is_fast_and_who_is_slow() -> None:
    for speeds, slow in (("lognormal:0.5", None), ("equal", Slow(1, 4, 20.0))):
        first, again, other = (factors(40, parse_speeds(speeds), slow, seed) for seed in (1, 1, 2))
        assert first == again != other
        assert sorted(other) != list(other), "nor is it the order of the clients"


def test_a_uniform_speed_stays_within() -> None:
    draw = parse_speeds("uniform:0.5:4")
    rng = random.Random(0)
    assert all(0.5 <= draw(rng) <= 4.0 for _ in range(100))
