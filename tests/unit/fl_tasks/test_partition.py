from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fl_protocol.errors import ConfigError, DataError
from fl_tasks.folder import list_images
from fl_tasks.partition import parse_partition, parts, split_validation

images = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 25)), min_size=1, max_size=80)
partitions = st.one_of(st.just("iid"), st.sampled_from([0.001, 0.1, 1.0, 100.0]).map("dirichlet:{}".format))


def columns(rows: list[tuple[int, int]]) -> tuple[list[int], list[str]]:
    return [label for label, _ in rows], [f"p{patient}" for _, patient in rows]


@given(images, st.integers(1, 8), partitions, st.integers(0, 2**31))
def test_parts_are_complete_disjoint_and_keep_patients_together(
    rows: list[tuple[int, int]], n: int, partition: str, seed: int
) -> None:
    labels, patients = columns(rows)
    assume(len(set(patients)) >= n)
    found = parts(labels, patients, n, partition, seed)
    assert len(found) == n
    assert sorted(np.concatenate(found).tolist()) == list(range(len(rows)))
    owners = [{patients[i] for i in part} for part in found]
    assert sum(len(owner) for owner in owners) == len(set(patients))
    assert all(owners)
    again = parts(labels, patients, n, partition, seed)
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


@given(images, partitions, st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(
    rows: list[tuple[int, int]], partition: str, seed: int, random: object
) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    moved = [rows[i] for i in order]
    assume(len({patient for _, patient in rows}) >= 2)
    first = [{rows[i][1] for i in part} for part in parts(*columns(rows), 2, partition, seed)]
    second = [{moved[i][1] for i in part} for part in parts(*columns(moved), 2, partition, seed)]
    assert first == second


@given(images, st.integers(0, 1000))
def test_validation_takes_whole_patients_and_leaves_some_to_train(
    rows: list[tuple[int, int]], seed: int
) -> None:
    labels, patients = columns(rows)
    train, held_out = split_validation(labels, patients, seed)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(rows)))
    assert not {patients[i] for i in train} & {patients[i] for i in held_out}
    assert len(train)


def test_iid_parts_are_alike_and_dirichlet_parts_are_not() -> None:
    labels = [i % 4 != 0 for i in range(1200)]
    patients = [f"p{i}" for i in range(1200)]
    as_ints = [int(label) for label in labels]
    shares = [np.mean(np.array(labels)[part]) for part in parts(as_ints, patients, 3)]
    assert max(shares) - min(shares) < 0.01
    sizes = [[len(part) for part in parts(as_ints, patients, 3, "dirichlet:0.1", seed)] for seed in range(20)]
    assert np.std(sizes) > 5 * np.std(
        [[len(part) for part in parts(as_ints, patients, 3, "dirichlet:100", seed)] for seed in range(20)]
    )


def test_seeds_and_counts_give_other_parts() -> None:
    labels, patients = [0, 1] * 30, [f"p{i}" for i in range(60)]
    first = parts(labels, patients, 3, "iid", 0)[0].tolist()
    assert first != parts(labels, patients, 3, "iid", 1)[0].tolist()
    assert first == parts(labels, patients, 3, "iid", 0)[0].tolist()


@pytest.mark.parametrize("text", ["", "IID", "dirichlet", "dirichlet:", "dirichlet:x", "dirichlet:0", "dirichlet:nan",
                                  "dirichlet:-1", "dirichlet:inf", "shards:2"])  # fmt: skip
def test_a_bad_partition_says_what_there_is(text: str) -> None:
    with pytest.raises(ConfigError, match="use iid or dirichlet:ALPHA"):
        parse_partition(text)


def test_too_few_patients_and_too_few_shards() -> None:
    with pytest.raises(DataError, match="2 patients are too few for 3 shards"):
        parts([0, 1, 1], ["a", "b", "b"], 3)
    with pytest.raises(ConfigError, match="at least one"):
        parts([0], ["a"], 0)


def test_real_shards_and_validation(real_data: object) -> None:
    files = list_images(f"{real_data}/chest_xray", "train")
    labels, patients = [file.label for file in files], [file.patient for file in files]
    dealt = parts(labels, patients, 3)
    assert [round(np.mean([labels[i] for i in part]), 2) for part in dealt] == pytest.approx(
        [0.718] * 3, abs=0.02
    )
    _, held_out = split_validation(labels, patients, 0)
    assert len(held_out) / len(files) == pytest.approx(0.15, abs=0.02)
    assert np.mean([labels[i] for i in held_out]) == pytest.approx(0.718, abs=0.03)
