"""Laws of the strategies, on updates that Hypothesis chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aggregator.strategies.geometric_median import GeometricMedian
from aggregator.strategies.krum import Krum, MultiKrum, scores
from aggregator.strategies.median import Median, TrimmedMean
from aggregator.strategies.norm_clipping import NormClipping
from aggregator.strategies.registry import STRATEGIES
from aggregator.strategies.staleness import DISCOUNTS, discount
from aggregator.strategy import Facts, Strategy
from tests.payloads import Floats
from tests.pieces import folded

LENGTH = 4
vectors = st.lists(
    st.floats(-100, 100, width=32, allow_subnormal=False), min_size=LENGTH, max_size=LENGTH
).map(lambda each: np.array(each, np.float32))
cohorts = st.lists(
    st.tuples(vectors, st.integers(1, 1000), st.integers(0, 5), st.integers(1, 50)), min_size=5, max_size=9
)
few = settings(max_examples=30)
"""Laws of seventeen strategies: thirty examples each."""
ALL = [kind() for kind in STRATEGIES.values()]
MEANS = [s for s in ALL if s.name in ("fedavg", "fedprox", "fedbn", "fednova", "scaffold", "norm-clipping")]
ROBUST = [Median(), TrimmedMean(), Krum(), MultiKrum(), GeometricMedian(weighting="uniform")]
Cohort = list[tuple[Floats, int, int, int]]


def facts_of(cohort: Cohort) -> list[Facts]:
    return [
        Facts(f"c{k}", count, staleness, {"local_steps": float(steps)})
        for k, (_, count, staleness, steps) in enumerate(cohort)
    ]


def change(strategy: Strategy, cohort: Cohort, facts: list[Facts] | None = None) -> Floats:
    base = np.zeros(LENGTH, np.float32)
    return folded(strategy, base, [delta for delta, *_ in cohort], facts or facts_of(cohort)).model


def named(strategy: Strategy) -> str:
    return strategy.name


@few
@pytest.mark.parametrize("strategy", [*MEANS, *ROBUST], ids=named)
@given(delta=vectors, cohort=cohorts)
def test_of_equals_comes_the_equal(strategy: Strategy, delta: Floats, cohort: Cohort) -> None:
    same = [(delta, count, 0, 7) for _, count, *_ in cohort]
    assert np.allclose(change(strategy, same), delta, rtol=1e-5, atol=1e-5)


@few
@pytest.mark.parametrize("strategy", ALL, ids=named)
@given(cohort=cohorts, seed=st.integers(0, 99))
def test_a_fold_is_a_function_of_the_set_of_updates(strategy: Strategy, cohort: Cohort, seed: int) -> None:
    """Clients in another order (as under other names) make the same model, to rounding; in the same order, to the bit.

    Krum breaks ties by name, and FedAsync mixes equally stale updates in that order: they say so.
    """
    first = change(strategy, cohort)
    assert change(strategy, cohort).tobytes() == first.tobytes()
    if isinstance(strategy, Krum):
        wide = np.stack([delta for delta, *_ in cohort]).astype(np.float64)
        found = np.sort(scores(((wide[:, None] - wide) ** 2).sum(axis=2), strategy.byzantine))
        assume(np.all(np.diff(found) > 1e-6 * (1 + found[1:])))
    if strategy.name == "fedasync":
        cohort = [(delta, count, k, steps) for k, (delta, count, _, steps) in enumerate(cohort)]
        first = change(strategy, cohort)
    shuffled = [cohort[k] for k in np.random.default_rng(seed).permutation(len(cohort))]
    assert np.allclose(change(strategy, shuffled), first, rtol=1e-4, atol=1e-4)


@few
@pytest.mark.parametrize("strategy", ALL, ids=named)
@given(cohort=cohorts, power=st.integers(1, 10))
def test_only_the_proportion_of_examples_matters(strategy: Strategy, cohort: Cohort, power: int) -> None:
    scaled = [replace(facts, num_examples=facts.num_examples * 2**power) for facts in facts_of(cohort)]
    assert np.allclose(change(strategy, cohort, scaled), change(strategy, cohort), rtol=1e-5, atol=1e-6)


@few
@pytest.mark.parametrize(
    "strategy", [s for s in ALL if not s.server_state and s.name != "fednova"], ids=named
)
@given(cohort=cohorts)
def test_no_coordinate_leaves_what_clients_and_model_span(strategy: Strategy, cohort: Cohort) -> None:
    """Zero is where the model stands; FedNova alone may step beyond, since it makes up for steps not taken."""
    found = change(strategy, cohort)
    members = np.stack([*[delta for delta, *_ in cohort], np.zeros(LENGTH, np.float32)]).astype(np.float64)
    slack = 1e-4
    assert np.all(found >= members.min(axis=0) - slack)
    assert np.all(found <= members.max(axis=0) + slack)


@pytest.mark.parametrize("strategy", ROBUST, ids=named)
@given(honest=st.lists(vectors, min_size=6, max_size=9), lie=vectors, scale=st.sampled_from([1.0, 1e3, 1e12]))
def test_one_liar_moves_the_model_no_further_than_the_honest_differ(
    strategy: Strategy, honest: list[Floats], lie: Floats, scale: float
) -> None:
    cohort = [(delta, 1, 0, 1) for delta in (*honest, lie * np.float32(scale))]
    centre = np.mean(honest, axis=0)
    reach = max(float(np.linalg.norm(delta - centre)) for delta in honest)
    assert np.linalg.norm(change(strategy, cohort) - centre) <= 3.0 * reach + 1e-3


@given(cohort=cohorts, bound=st.floats(0.1, 50))
def test_a_clipped_step_is_no_longer_than_the_bound(cohort: Cohort, bound: float) -> None:
    assert np.linalg.norm(change(NormClipping(clip_norm=bound), cohort)) <= bound * (1 + 1e-5)


@pytest.mark.parametrize("kind", DISCOUNTS)
@given(staleness=st.integers(0, 1000), a=st.floats(0, 20), b=st.integers(0, 20))
def test_a_discount_begins_at_one_and_only_falls(kind: str, staleness: int, a: float, b: int) -> None:
    assert discount(kind, 0, a, b) == 1.0
    assert 0.0 < discount(kind, staleness + 1, a, b) <= discount(kind, staleness, a, b) <= 1.0


@pytest.mark.parametrize("name", ["fedbuff", "fedasync"])
@given(cohort=cohorts)
def test_the_staler_the_update_the_less_it_counts(name: str, cohort: Cohort) -> None:
    strategy = STRATEGIES[name]()
    delta = np.ones(LENGTH, np.float32)
    steps = [change(strategy, [(delta, 1, staleness, 1)])[0] for staleness in range(6)]
    assert steps == sorted(steps, reverse=True)
    assert 0 < steps[0] <= 1
