from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fl_protocol.errors import ConfigError, DataError
from fl_tasks.folder import list_images
from fl_tasks.partition import named_sites, parts, split_validation
from fl_tasks.partition_kind import parse_partition

images = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 25)), min_size=1, max_size=80)
alphas = st.sampled_from([0.001, 0.1, 1.0, 100.0])
partitions = st.one_of(st.just("iid"), alphas.map("dirichlet:{}".format), alphas.map("quantity:{}".format))


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


def test_of_few_patients_one_validates_and_of_one_none() -> None:
    labels = [0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]
    _, held_out = split_validation(labels, [f"p{i}" for i in range(26)], 0)
    assert [sum(labels[i] == label for i in held_out) for label in range(4)] == [1, 1, 0, 3]


def test_a_patient_goes_with_the_class_of_most_images_and_of_two_with_the_lower() -> None:
    rows = {"a": [0], "b": [1], "most": [0, 1, 1], "first": [1, 0, 0], "tied": [1, 0]}
    labels = [label for own in rows.values() for label in own]
    patients = [name for name, own in rows.items() for _ in own]
    dealt = parts(labels, patients, 2, "shards:1")
    assert sorted(sorted({patients[i] for i in part}) for part in dealt) == [
        ["a", "first", "tied"],
        ["b", "most"],
    ]


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


def test_iid_goes_on_dealing_where_the_class_before_ended() -> None:
    """5 of one class and 7 of the other make 3 for each of four; anew from the first site they would make 4, 3, 3, 2."""
    labels, patients = [0] * 5 + [1] * 7, [f"p{i:02d}" for i in range(12)]
    dealt = parts(labels, patients, 4)
    assert [len(part) for part in dealt] == [3, 3, 3, 3]
    assert sorted(sum(labels[i] for i in part) for part in dealt) == [1, 2, 2, 2]


def test_seeds_and_counts_give_other_parts() -> None:
    labels, patients = [0, 1] * 30, [f"p{i}" for i in range(60)]
    first = parts(labels, patients, 3, "iid", 0)[0].tolist()
    assert first != parts(labels, patients, 3, "iid", 1)[0].tolist()
    assert first == parts(labels, patients, 3, "iid", 0)[0].tolist()


@pytest.mark.parametrize("text", ["", "IID", "dirichlet", "dirichlet:", "dirichlet:x", "dirichlet:0", "dirichlet:nan",
                                  "dirichlet:-1", "dirichlet:inf", "shards", "shards:0", "shards:-1", "shards:1.5", "shards:x", "quantity:0",
                                  "by-file:2", "shards:1001", "shards:99999999999999999999"])  # fmt: skip
def test_a_bad_partition_says_what_there_is(text: str) -> None:
    with pytest.raises(ConfigError, match="use iid, dirichlet:ALPHA, shards:K"):
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


def test_a_shard_has_k_classes_at_most_and_every_class_has_an_owner() -> None:
    labels = [i % 10 for i in range(2000)]
    patients = [f"p{i}" for i in range(2000)]
    for each in (1, 2, 3):
        dealt = parts(labels, patients, 20, f"shards:{each}", seed=4)
        assert sorted(np.concatenate(dealt).tolist()) == list(range(2000))
        seen = [{labels[i] for i in part} for part in dealt]
        assert max(map(len, seen)) == each
        assert set.union(*seen) == set(range(10))
        assert max(map(len, dealt)) <= 1.2 * min(map(len, dealt))


@st.composite
def enough_for_shards(draw: st.DrawFn) -> tuple[list[tuple[int, int]], int, int]:
    """Images, sites, and pieces a site: a patient for every piece, and a piece for each of the two classes."""
    n = draw(st.integers(1, 6))
    each = draw(st.integers(2 if n == 1 else 1, 3))
    people = draw(st.integers(n * each, 26))
    first = draw(st.lists(st.integers(0, 1), min_size=people, max_size=people))
    more = draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, people - 1)), max_size=54))
    return draw(st.permutations([*zip(first, range(people), strict=True), *more])), n, each


@given(enough_for_shards(), st.integers(0, 1000))
def test_shards_are_complete_and_disjoint(dealing: tuple[list[tuple[int, int]], int, int], seed: int) -> None:
    rows, n, each = dealing
    labels, patients = columns(rows)
    people = len(set(patients))
    dealt = parts(labels, patients, n, f"shards:{each}", seed)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(rows)))
    assert sum(len({patients[i] for i in part}) for part in dealt) == people
    assert all(len(part) for part in dealt)


def test_shards_are_as_equal_as_they_can_be() -> None:
    """9 and 5 in four pieces: three of 3 and one of 5, since two of each would leave one of 2."""
    labels, patients = [0] * 9 + [1] * 5, [f"p{i:02d}" for i in range(14)]
    dealt = parts(labels, patients, 4, "shards:1")
    assert sorted((labels[part[0]], len(part)) for part in dealt) == [(0, 3), (0, 3), (0, 3), (1, 5)]


def test_shards_that_cannot_be_say_what_could() -> None:
    labels, patients = [i % 10 for i in range(100)], [f"p{i}" for i in range(100)]
    with pytest.raises(
        DataError, match=r"shards:2 for 3 sites leaves some of the 10 classes .* use shards:4"
    ):
        parts(labels, patients, 3, "shards:2")
    with pytest.raises(DataError, match="too few patients for 120 pieces"):
        parts(labels, patients, 60, "shards:2")


def test_quantity_skew_changes_sizes_and_not_classes() -> None:
    labels = [int(i % 4 != 0) for i in range(4000)]
    patients = [f"p{i}" for i in range(4000)]
    dealt = parts(labels, patients, 8, "quantity:0.5", seed=1)
    sizes = [len(part) for part in dealt]
    assert max(sizes) > 5 * min(sizes)
    large = [part for part in dealt if len(part) > 200]
    shares = [np.mean([labels[i] for i in part]) for part in large]
    assert len(large) >= 3 and shares == pytest.approx([0.75] * len(large), abs=0.02)


def test_by_file_takes_the_sites_as_they_are() -> None:
    labels, patients, sites = [0, 1, 0, 1, 1], ["a", "a", "b", "c", "a"], ["N", "S", "N", "S", "W"]
    dealt = parts(labels, patients, 3, "by-file", 0, sites)
    assert [part.tolist() for part in dealt] == [[0, 2], [1, 3], [4]]
    assert [part.tolist() for part in parts(labels, patients, 3, "by-file", 9, sites)] == [
        [0, 2],
        [1, 3],
        [4],
    ]
    assert named_sites(sites, "by-file") == ["N", "S", "W"]
    assert named_sites(sites, "iid") == []
    with pytest.raises(DataError, match=r"name 3 sites, not 2: .*--clients 3, or --shard K/3"):
        parts(labels, patients, 2, "by-file", 0, sites)
    with pytest.raises(DataError, match="by-file needs data that name their sites"):
        parts(labels, patients, 2, "by-file")


def test_a_draw_that_leaves_a_site_empty_is_filled_from_the_fullest() -> None:
    labels, patients = [0] * 30, [f"p{i}" for i in range(30)]
    sizes = sorted(len(part) for part in parts(labels, patients, 5, "dirichlet:0.001"))
    assert sizes == [1, 1, 1, 1, 26]


def test_parts_stay_what_they_were() -> None:
    """A resumed federation deals again: the same seed must give the same parts as the version before."""
    labels, patients = [i % 2 for i in range(12)], [f"p{i:02d}" for i in range(12)]
    assert [part.tolist() for part in parts(labels, patients, 3, "dirichlet:0.5", 7)] == [
        [0, 8],
        [1, 3, 4, 5, 6, 7, 10, 11],
        [2, 9],
    ]
    assert [part.tolist() for part in parts(labels, patients, 3, "iid", 7)] == [
        [4, 8, 9, 11],
        [0, 5, 7, 10],
        [1, 2, 3, 6],
    ]
    assert [part.tolist() for part in parts(labels, patients, 3, "shards:2", 7)] == [
        [3, 4, 6, 7],
        [0, 2, 8, 10],
        [1, 5, 9, 11],
    ]
    assert [part.tolist() for part in parts(labels, patients, 3, "quantity:0.5", 7)] == [
        [9],
        [7, 8],
        [0, 1, 2, 3, 4, 5, 6, 10, 11],
    ]
    held_out = [split_validation(labels, patients, seed)[1].tolist() for seed in (7, 8)]
    assert held_out == [[4, 5], [5, 8]], "nor may a patient who validated train after a restart"
