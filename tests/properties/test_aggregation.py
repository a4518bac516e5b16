"""The algebra of a weighted mean, on floats that Hypothesis chooses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aggregator.cohort import Sampling, Share, draw
from aggregator.folding import fold
from aggregator.pieces import SpooledUpdate
from aggregator.strategies.fedavg import FedAvg
from aggregator.strategy import Facts, weighted_metrics
from tests.payloads import Floats, floats, model_file
from tests.pieces import examples, folded

reasonable = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
LENGTH = 5
vectors = st.lists(reasonable, min_size=LENGTH, max_size=LENGTH).map(lambda each: np.array(each, np.float32))
weights = st.integers(1, 10**6)
deltas_of = st.lists(st.tuples(weights, vectors), min_size=1, max_size=8)


def ulps(found: Floats, wanted: Floats) -> float:
    """Distance in units in the last place of the larger of the values that went in, not of what cancelled."""
    return float(
        np.max(np.abs(found.astype(np.float64) - wanted) / np.spacing(np.abs(wanted) + np.float32(1e-30)))
    )


def mean(base: Floats, deltas: list[tuple[int, Floats]]) -> Floats:
    return folded(FedAvg(), base, [delta for _, delta in deltas], examples(*[n for n, _ in deltas])).model


@given(base=vectors, delta=vectors, many=st.lists(weights, min_size=1, max_size=8))
def test_the_mean_of_equals_is_the_equal(base: Floats, delta: Floats, many: list[int]) -> None:
    alone = mean(base, [(1, delta)])
    assert ulps(mean(base, [(weight, delta) for weight in many]), alone) <= 1


@given(base=vectors, deltas=deltas_of, power=st.integers(1, 10))
def test_only_the_proportion_of_weights_matters(
    base: Floats, deltas: list[tuple[int, Floats]], power: int
) -> None:
    scaled = [(weight * 2**power, delta) for weight, delta in deltas]
    assert mean(base, deltas).tobytes() == mean(base, scaled).tobytes()


@given(base=vectors, deltas=deltas_of)
def test_the_mean_lies_between_its_members(base: Floats, deltas: list[tuple[int, Floats]]) -> None:
    found = mean(base, deltas)
    members = np.stack([base.astype(np.float64) + delta for _, delta in deltas])
    slack = np.spacing(np.abs(members).max(axis=0).astype(np.float32)) + 1e-9
    assert np.all(found >= members.min(axis=0) - slack)
    assert np.all(found <= members.max(axis=0) + slack)


@given(base=vectors, deltas=deltas_of)
def test_one_client_of_two_halves_is_one_client(base: Floats, deltas: list[tuple[int, Floats]]) -> None:
    (weight, delta), *others = deltas
    split = [(weight, delta), (weight, delta), *((2 * each, other) for each, other in others)]
    whole = [(2 * weight, delta), *((2 * each, other) for each, other in others)]
    found, wanted = mean(base, split), mean(base, whole)
    assert np.allclose(found, wanted, rtol=1e-6, atol=1e-6)


@given(order=st.permutations(range(4)), seed=st.integers(0, 3))
def test_a_fold_has_the_same_bytes_in_whatever_order_updates_came(
    tmp_path_factory: object, order: list[int], seed: int
) -> None:
    folder: Path = tmp_path_factory.mktemp("fold")  # type: ignore[attr-defined]
    base = model_file(folder / "base", {"w": floats(33, seed)})
    for k in order:  # the order of arrival: files are made in it, the fold goes by name
        (folder / f"client-{k}.f32").write_bytes(floats(33, 10 * seed + k).tobytes())
    updates = [
        SpooledUpdate(path, Facts(path.stem, 3 + int(path.stem[-1]))) for path in sorted(folder.glob("*.f32"))
    ]
    digest = fold(FedAvg(), base, updates, folder, {}).digest
    wanted = mean(floats(33, seed), [(3 + k, floats(33, 10 * seed + k)) for k in range(4)])
    assert (folder / f"{digest}.safetensors").read_bytes()[-33 * 4 :] == wanted.tobytes()


@given(
    st.lists(
        st.tuples(weights, st.dictionaries(st.sampled_from("abc"), st.floats(-1e300, 1e300))), max_size=6
    )
)
def test_means_of_metrics_lie_between_them_and_are_finite(
    reports: list[tuple[int, dict[str, float]]],
) -> None:
    found = weighted_metrics(reports)
    for key, mean in found.items():
        values = [metrics[key] for _, metrics in reports if key in metrics]
        assert math.isfinite(mean)
        assert min(values) - 1e-9 * abs(min(values)) <= mean <= max(values) + 1e-9 * abs(max(values))


@given(
    present=st.sets(st.sampled_from([f"c{k}" for k in range(12)])), keep=st.sets(st.sampled_from(["c0", "c1", "x"])),
    size=st.integers(0, 14), seed=st.integers(0, 99), rule=st.sampled_from(["uniform", "by-size", "power-of-choice:3"]),
)  # fmt: skip
def test_a_draw_keeps_to_its_size_and_to_who_is_there(
    present: set[str], keep: set[str], size: int, seed: int, rule: str
) -> None:
    here, sampling = (
        {name: 1 + 7 * int(name[1:]) for name in sorted(present)},
        Sampling.parse(rule, "--sampling"),
    )

    def drawn(clients: dict[str, int]) -> frozenset[str]:
        return draw(
            clients,
            size,
            seed=seed,
            round_number=1,
            attempt=1,
            keep=keep,
            sampling=sampling,
            losses={"c1": 0.5},
        )

    chosen = drawn(here)
    assert keep <= chosen <= present | keep
    assert len(chosen) == max(len(keep), min(size, len(present | keep)))
    assert chosen == drawn(dict(reversed(here.items()))), "whoever came first"


@given(fraction=st.floats(0.001, 1.0), part=st.integers(1, 500))
def test_whole_for_undoes_of(fraction: float, part: int) -> None:
    share = Share(fraction=fraction)
    whole = share.whole_for(part)
    assert share.of(whole) >= part
    assert whole == 1 or part == 1 or share.of(whole - 1) < part
