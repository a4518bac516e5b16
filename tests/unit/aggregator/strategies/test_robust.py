"""Robust rules against plain numpy on random tensors, and against clients that lie."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from aggregator.strategies.geometric_median import GeometricMedian
from aggregator.strategies.krum import Krum, MultiKrum
from aggregator.strategies.median import Median, TrimmedMean
from aggregator.strategies.norm_clipping import NormClipping
from aggregator.strategy import Strategy
from fl_protocol.errors import ConfigError
from tests.payloads import Floats, floats
from tests.pieces import examples, folded

Wide = npt.NDArray[np.float64]
SIZE = 57
ZERO = np.zeros(SIZE, np.float32)


def deltas_of(num: int) -> list[Floats]:
    return [floats(SIZE, k, scale=0.1) for k in range(num)]


def change(strategy: Strategy, deltas: list[Floats], *counts: int) -> Floats:
    return folded(strategy, ZERO, deltas, examples(*(counts or [1] * len(deltas)))).model


@pytest.mark.parametrize("num", [1, 2, 3, 4, 9, 10])
def test_the_median_is_numpys(num: int) -> None:
    wanted = np.median(np.stack(deltas_of(num)).astype(float), axis=0)
    assert np.allclose(change(Median(), deltas_of(num)), wanted, atol=1e-8)


@pytest.mark.parametrize(
    ("num", "trim", "cut"), [(1, 0.2, 0), (4, 0.2, 0), (5, 0.2, 1), (10, 0.3, 3), (9, 0.49, 4)]
)
def test_the_trimmed_mean_sorts_and_cuts(num: int, trim: float, cut: int) -> None:
    sorted_up = np.sort(np.stack(deltas_of(num)).astype(float), axis=0)
    wanted = sorted_up[cut : num - cut].mean(axis=0)
    assert np.allclose(change(TrimmedMean(trim=trim), deltas_of(num)), wanted, atol=1e-8)


def krum_scores(deltas: list[Floats], byzantine: int) -> list[float]:
    """Blanchard et al. 2017, by two loops."""
    wide = [delta.astype(float) for delta in deltas]
    return [
        sum(sorted(((a - b) ** 2).sum() for j, b in enumerate(wide) if j != i)[: len(wide) - byzantine - 2])
        for i, a in enumerate(wide)
    ]


@pytest.mark.parametrize(("num", "byzantine"), [(3, 0), (5, 1), (8, 1), (7, 2), (12, 4)])
def test_krum_takes_the_update_with_the_closest_neighbours(num: int, byzantine: int) -> None:
    deltas = deltas_of(num)
    best = np.argsort(krum_scores(deltas, byzantine), kind="stable")
    assert change(Krum(byzantine=byzantine), deltas).tobytes() == deltas[best[0]].tobytes()
    for keep in (None, 1, 3, 99):
        chosen = best[: num - byzantine - 2 if keep is None else keep]
        wanted = np.mean([deltas[i].astype(float) for i in chosen], axis=0)
        assert np.allclose(change(MultiKrum(byzantine=byzantine, keep=keep), deltas), wanted, atol=1e-8)


def test_krum_says_how_many_updates_it_needs() -> None:
    assert [Krum(byzantine=f).min_updates for f in (0, 1, 2)] == [3, 5, 7]
    with pytest.raises(
        ConfigError, match="krum with byzantine=1 needs 5 updates, and this round closed with 4"
    ):
        change(Krum(), deltas_of(4))


def weiszfeld(deltas: list[Floats], counts: list[int], smoothing: float, iterations: int) -> Wide:
    """Pillutla et al. 2022, Algorithm 2, on the vectors themselves."""
    wide, shares = np.stack(deltas).astype(float), np.array(counts) / sum(counts)
    at: Wide = shares @ wide
    for _ in range(iterations):
        pull = shares / np.maximum(smoothing, np.linalg.norm(wide - at, axis=1))
        at = pull @ wide / pull.sum()
    return at


@pytest.mark.parametrize("iterations", [1, 4, 50])
def test_the_geometric_median_is_weiszfelds(iterations: int) -> None:
    deltas, counts = deltas_of(7), [3, 1, 4, 1, 5, 9, 2]
    wanted = weiszfeld(deltas, counts, 1e-6, iterations)
    assert np.allclose(change(GeometricMedian(iterations=iterations), deltas, *counts), wanted, atol=1e-7)
    alike = weiszfeld(deltas, [1] * 7, 1e-6, iterations)
    found = change(GeometricMedian(iterations=iterations, weighting="uniform"), deltas, *counts)
    assert np.allclose(found, alike, atol=1e-7)


def test_the_geometric_median_minimises_what_it_should() -> None:
    deltas = [*deltas_of(7), np.full(SIZE, 1e6, np.float32)]

    def distance(at: npt.NDArray[np.floating]) -> float:
        return float(sum(np.linalg.norm(delta.astype(float) - at) for delta in deltas))

    found = change(GeometricMedian(), deltas)
    steps = np.eye(SIZE)[:9] * 0.01
    assert all(
        distance(found) <= distance(found + sign * step) for step, sign in itertools.product(steps, (1, -1))
    )


def test_norm_clipping_by_hand() -> None:
    """Norms 5, 10 and 0: the median is 5, so the second is halved."""
    deltas = [np.array([3.0, 4.0], np.float32), np.array([6.0, -8.0], np.float32), np.zeros(2, np.float32)]
    base = np.ones(2, np.float32)
    assert np.allclose(folded(NormClipping(), base, deltas).model, [1 + 6 / 3, 1.0])
    assert np.allclose(folded(NormClipping(clip_norm=1.0), base, deltas).model, [1 + 1.2 / 3, 1.0])
    assert np.allclose(folded(NormClipping(clip_norm=7.5), base, deltas).model, [1 + 7.5 / 3, 1 - 2.0 / 3])
    assert np.allclose(folded(NormClipping(), base, deltas[:1]).model, [4.0, 5.0])


@pytest.mark.parametrize(
    ("strategy", "within"),
    [
        (Median(), 1.0),
        (TrimmedMean(trim=0.3), 1.0),
        (Krum(byzantine=3), 1.0),
        (MultiKrum(byzantine=3), 1.0),
        (GeometricMedian(weighting="uniform"), 5.0),  # 2 / (1 - 2 f / K)
    ],
)
@pytest.mark.parametrize("lie", [1e17, 1e12, 1.0, -1e12])
def test_three_liars_of_ten_do_not_carry_the_model_away(
    strategy: Strategy, within: float, lie: float
) -> None:
    honest = [np.full(SIZE, 0.1, np.float32) + delta for delta in deltas_of(7)]
    found = change(strategy, [*honest, *[np.full(SIZE, lie * (1 + k), np.float32) for k in range(3)]])
    reach = max(np.linalg.norm(delta - np.mean(honest, axis=0)) for delta in honest)
    assert np.linalg.norm(found - np.mean(honest, axis=0)) <= within * reach


def test_norm_clipping_bounds_what_a_liar_can_do() -> None:
    honest = deltas_of(7)
    found = change(NormClipping(), [*honest, np.full(SIZE, 1e12, np.float32)])
    assert np.linalg.norm(found) <= max(np.linalg.norm(delta) for delta in honest)
