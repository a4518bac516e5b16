"""Shares and draws: how many, and who."""

from __future__ import annotations

from collections import Counter

import pytest

from aggregator.cohort import Share, draw, draw_evaluators
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


PRESENT = [f"client-{number}" for number in range(10)]


def test_draw_depends_on_its_arguments_alone() -> None:
    chosen = draw(PRESENT, 4, seed=1, round_number=2, attempt=1)
    assert chosen == draw(reversed(PRESENT), 4, seed=1, round_number=2, attempt=1)  # type: ignore[arg-type]
    assert chosen == draw(set(PRESENT), 4, seed=1, round_number=2, attempt=1)
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
    chosen = draw(["a", "b", "c"], 2, seed=0, round_number=1, attempt=2, keep={"a", "gone"})
    assert chosen == {"a", "gone"}
    chosen = draw(["a", "b", "c"], 3, seed=0, round_number=1, attempt=2, keep={"gone"})
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
