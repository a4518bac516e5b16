"""Shares and draws: how many, and who."""

from __future__ import annotations

from collections import Counter

import pytest

from aggregator.cohort import Sampling, Share, draw, draw_evaluators
from fl_protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("1", Share(count=1)),
        ("25", Share(count=25)),
        ("0.5", Share(fraction=0.5)),
        ("1.0", Share(fraction=1.0)),
        (".25", Share(fraction=0.25)),
    ],
)
def test_parse(text: str, share: Share) -> None:
    assert Share.parse(text, "--cohort") == share
    assert Share.parse(str(share), "--cohort") == share


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "0.0", "1.5", "-0.5", "two", "1e3", "nan", "inf", ".", "0.nan", "50%", "inf."]
)
def test_parse_refuses_with_the_remedy(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--quorum .* number of clients .* or a fraction"):
        Share.parse(text, "--quorum")


@pytest.mark.parametrize(
    ("share", "whole", "part"),
    [
        (Share(count=3), 10, 3),
        (Share(count=3), 2, 2),
        (Share(count=3), 0, 1),
        (Share(fraction=0.5), 10, 5),
        (Share(fraction=0.5), 5, 3),
        (Share(fraction=0.07), 100, 7),  # 0.07 * 100 is a little above 7 in binary
        (Share(fraction=0.7), 10, 7),
        (Share(fraction=0.01), 3, 1),
        (Share(fraction=1.0), 7, 7),
        (Share(fraction=0.5), 0, 1),
    ],
)
def test_of_rounds_up_and_stays_within_the_whole(share: Share, whole: int, part: int) -> None:
    assert share.of(whole) == part


def test_whole_for_is_the_smallest_whole_with_that_part() -> None:
    for fraction in (0.01, 0.1, 0.3, 1 / 3, 0.5, 0.7, 0.99, 1.0):
        share = Share(fraction=fraction)
        for part in range(1, 30):
            smallest = next(whole for whole in range(1, 10_000) if share.of(whole) >= part)
            assert share.whole_for(part) == smallest
    assert Share(count=3).whole_for(5) == 5


PRESENT = {f"client-{number}": 10 for number in range(10)}


def test_draw_depends_on_its_arguments_alone() -> None:
    chosen = draw(PRESENT, 4, seed=1, round_number=2, attempt=1)
    assert chosen == draw(dict(reversed(PRESENT.items())), 4, seed=1, round_number=2, attempt=1)
    assert len(chosen) == 4
    assert chosen <= set(PRESENT)
    others = [
        draw(PRESENT, 4, seed=seed, round_number=number, attempt=attempt)
        for seed, number, attempt in ((2, 2, 1), (1, 3, 1), (1, 2, 2))
    ]
    assert all(other != chosen for other in others)


def test_draw_is_pinned() -> None:
    """A resumed run of an older version draws the same cohort."""
    assert sorted(draw(PRESENT, 3, seed=7, round_number=1, attempt=1)) == ["client-4", "client-7", "client-9"]


def test_draw_keeps_those_who_have_answered_present_or_not() -> None:
    chosen = draw(dict.fromkeys("abc", 1), 2, seed=0, round_number=1, attempt=2, keep={"a", "gone"})
    assert chosen == {"a", "gone"}
    chosen = draw(dict.fromkeys("abc", 1), 3, seed=0, round_number=1, attempt=2, keep={"gone"})
    assert "gone" in chosen
    assert len(chosen) == 3


@pytest.mark.parametrize(("size", "drawn"), [(0, 0), (3, 3), (99, 10)])
def test_draw_takes_no_more_than_there_are(size: int, drawn: int) -> None:
    assert len(draw(PRESENT, size, seed=0, round_number=1, attempt=1)) == drawn


def test_draw_is_fair() -> None:
    """Over 2,000 rounds of 4 in 10 each client is drawn 800 times, give or take five deviations (22 each)."""
    counts = Counter(
        name for n in range(2000) for name in draw(PRESENT, 4, seed=3, round_number=n, attempt=1)
    )
    assert set(counts) == set(PRESENT)
    assert all(690 < count < 910 for count in counts.values())


def test_evaluators_do_not_train_where_that_is_possible() -> None:
    present, cohort = set("abcdefgh"), set("abc")

    def drawn(size: int, round_number: int = 1) -> frozenset[str]:
        return draw_evaluators(present, cohort, size, seed=3, round_number=round_number)

    assert len(drawn(3)) == 3
    assert not drawn(3) & cohort
    assert drawn(5) == present - cohort
    assert len(drawn(6) & cohort) == 1
    assert drawn(99) == present
    assert drawn(3) == drawn(3)
    assert len({drawn(3, number) for number in range(10)}) > 1


# --- sampling ---------------------------------------------------------------------------------------------------------

SIZES = {"a": 10, "b": 20, "c": 30, "d": 40}


@pytest.mark.parametrize("text", ["uniform", "by-size", "power-of-choice:7"])
def test_sampling_is_read_as_it_is_written(text: str) -> None:
    assert str(Sampling.parse(text, "--sampling")) == text


@pytest.mark.parametrize(
    "text", ["", "size", "by-size:3", "uniform:", "power-of-choice", "power-of-choice:0", "power-of-choice:x",
             "power-of-choice:-1", "power-of-choice:²", "power-of-choice:20000"],
)  # fmt: skip
def test_an_unknown_sampling_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"--sampling .* is unknown: use uniform, by-size or power-of-choice:D"
    ):
        Sampling.parse(text, "--sampling")


def test_by_size_draws_in_proportion_without_replacement() -> None:
    """4,000 draws of one, and of two: the chance of being in a pair is p_i + sum_j p_j p_i / (1 - p_j)."""

    def share_of(size: int) -> dict[str, float]:
        drawn = (
            draw(SIZES, size, seed=1, round_number=n, attempt=1, sampling=Sampling("by-size"))
            for n in range(4000)
        )
        counts = Counter(name for names in drawn for name in names)
        return {name: counts[name] / 4000 for name in SIZES}

    p = {name: size / 100 for name, size in SIZES.items()}
    assert share_of(1) == pytest.approx(p, abs=0.04)  # five deviations of 0.008
    pairs = {i: p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in p if j != i) for i in p}
    assert share_of(2) == pytest.approx(pairs, abs=0.04)
    assert sum(share_of(2).values()) == pytest.approx(2.0)


def test_power_of_choice_takes_the_highest_losses_of_the_candidates() -> None:
    losses = {"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2}

    def drawn(candidates: int, number: int = 1, **known: float) -> frozenset[str]:
        rule = Sampling("power-of-choice", candidates)
        return draw(
            SIZES, 2, seed=1, round_number=number, attempt=1, sampling=rule, losses=known or losses
        )  # fmt: skip

    assert drawn(4) == drawn(99) == {"b", "c"}
    assert drawn(4, a=0.1, b=0.4, c=0.3) == {"d", "b"}, "one who has told none comes first"
    assert drawn(4, a=0.1, b=0.4) == {"c", "d"}
    by_size = [
        draw(SIZES, 3, seed=1, round_number=n, attempt=1, sampling=Sampling("by-size")) for n in range(50)
    ]
    assert [drawn(3, n) for n in range(50)] == [
        frozenset(sorted(three, key=lambda name: -losses[name])[:2]) for three in by_size
    ], "the candidates are those of by-size"


def test_a_retry_draws_again_but_keeps_who_has_answered() -> None:
    rule = Sampling("power-of-choice", 4)
    chosen = draw(SIZES, 2, seed=0, round_number=1, attempt=2, keep={"a"}, sampling=rule, losses={"b": 9.0})
    assert "a" in chosen and len(chosen) == 2 and "b" not in chosen
