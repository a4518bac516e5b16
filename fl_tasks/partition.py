"""Which part of one data set is whose: patient-disjoint, and the same for everyone who asks. Pure.

``iid`` deals patients out in turn, class by class. ``dirichlet:ALPHA`` draws for every class how much of it each
site gets (Hsu, Qi and Brown 2019): the smaller ALPHA, the more the sites differ in what they see. ``shards:K`` cuts
the data, sorted by class, into K pieces a site and deals the pieces at random, so that a site has K classes at most
(McMahan et al. 2017, their pathological split; here no piece spans two classes). ``quantity:ALPHA`` draws once how
much each site gets of every class: the sites differ in size and not in kind. ``by-file`` deals nothing: the sites
are those that the data name.

A site left without a patient takes the last patient of the fullest one, so that none is empty. A patient with images
of several classes goes with the class most of them have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from fl_protocol.errors import ConfigError, DataError
from fl_tasks.partition_kind import BY_FILE, IID, QUANTITY, SHARDS, Partition, parse_partition

VALIDATION_SHARE = 0.15


def parts(
    labels: Sequence[int],
    patients: Sequence[str],
    n: int,
    partition: str = IID,
    seed: int = 0,
    sites: Sequence[str] | None = None,
) -> list[np.ndarray]:
    """For each of ``n`` sites the sorted indices of its images. Every image is in one part.

    Patients stay together, except by-file, where a patient may have been to two hospitals. The answer depends on the
    arguments alone, and not on the order of the images: patients are taken by name. ``sites`` names the site of each
    image, if the data do; the parts of by-file are in the order of the names.
    """
    how = parse_partition(partition)
    if n < 1:
        raise ConfigError(f"cannot make {n} shards: ask for at least one")
    if how.kind == BY_FILE:
        return _by_file(sites, n)
    by_patient = _images_by_patient(patients)
    if len(by_patient) < n:
        raise DataError(
            f"{len(by_patient)} patients are too few for {n} shards: ask for fewer shards (--clients, or --shard K/N)"
        )
    dealt = _deal(_patients_by_class(labels, by_patient), n, how, np.random.default_rng([seed, n]))
    _fill_empty(dealt)
    return [np.array(sorted(i for name in part for i in by_patient[name]), dtype=np.int64) for part in dealt]


def split_validation(
    labels: Sequence[int], patients: Sequence[str], seed: int, share: float = VALIDATION_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation indices: about ``share`` of each class's patients validate, none does both.

    A class keeps at least one patient for training; a class of one patient has none for validation.
    """
    by_patient = _images_by_patient(patients)
    rng = np.random.default_rng([seed, 0x5A11D])
    chosen: set[str] = set()
    for names in _patients_by_class(labels, by_patient):
        count = min(len(names) - 1, max(1, round(share * len(names))))
        chosen.update(names[i] for i in rng.permutation(len(names))[: max(0, count)])
    validates = np.array([patient in chosen for patient in patients], dtype=bool)
    return np.flatnonzero(~validates), np.flatnonzero(validates)


def _deal(
    by_class: list[list[str]], n: int, how: Partition, rng: np.random.Generator
) -> list[list[str]]:  # fmt: skip
    """Patient names for each of ``n`` sites."""
    if how.kind == SHARDS:
        return _by_shards(by_class, n, int(how.value), rng)
    dealt: list[list[str]] = [[] for _ in range(n)]
    once = _shares(n, how.value, rng) if how.kind == QUANTITY else None
    at = 0
    for names in by_class:
        shuffled = _shuffled(names, rng)
        if how.kind == IID:
            for name in shuffled:
                dealt[at % n].append(name)
                at += 1
        else:
            shares = _shares(n, how.value, rng) if once is None else once
            for part, names_here in zip(dealt, _cut(shuffled, shares), strict=True):
                part.extend(names_here)
    return dealt


def _by_shards(
    by_class: list[list[str]], n: int, each: int, rng: np.random.Generator
) -> list[list[str]]:  # fmt: skip
    """``each`` pieces of one class a site, dealt at random."""
    most = n * each
    if most < len(by_class):
        least = math.ceil(len(by_class) / n)
        raise DataError(
            f"{SHARDS}:{each} for {n} sites leaves some of the {len(by_class)} classes with nobody: use "
            f"{SHARDS}:{least} or more sites"
        )
    if most > sum(map(len, by_class)):
        raise DataError(f"there are too few patients for {most} pieces: use fewer sites, or a smaller K")
    pieces: list[list[str]] = []
    for names, count in zip(by_class, _pieces_of([len(names) for names in by_class], most), strict=True):
        shuffled = _shuffled(names, rng)
        ends = [len(shuffled) * k // count for k in range(count + 1)]
        pieces += [shuffled[start:end] for start, end in pairwise(ends)]
    order = rng.permutation(most).reshape(n, each)
    return [[name for piece in own for name in pieces[piece]] for own in order]


def _pieces_of(sizes: list[int], total: int) -> list[int]:
    """How many pieces to cut each class into: at least one, then as equal in size as can be (D'Hondt's quotients)."""
    counts = [1] * len(sizes)
    for _ in range(total - len(sizes)):
        largest = max(range(len(sizes)), key=lambda i: (sizes[i] / (counts[i] + 1), -i))
        counts[largest] += 1
    return counts


def named_sites(sites: Sequence[str], partition: str) -> list[str]:
    """The sites of by-file in the order of its parts; none of a partition that deals."""
    return sorted(set(sites)) if parse_partition(partition).kind == BY_FILE else []


def _by_file(sites: Sequence[str] | None, n: int) -> list[np.ndarray]:
    if sites is None:
        raise DataError(
            f"{BY_FILE} needs data that name their sites: a folder a site, or a CSV with a column site"
        )
    names = named_sites(sites, BY_FILE)
    if len(names) != n:
        raise DataError(
            f"the data name {len(names)} sites, not {n}: with {BY_FILE} use one shard a site (--clients {len(names)}, "
            f"or --shard K/{len(names)})"
        )
    where = {name: number for number, name in enumerate(names)}
    rows: list[list[int]] = [[] for _ in names]
    for index, site in enumerate(sites):
        rows[where[site]].append(index)
    return [np.array(own, dtype=np.int64) for own in rows]


def _shuffled(names: list[str], rng: np.random.Generator) -> list[str]:
    return [names[i] for i in rng.permutation(len(names))]


def _shares(n: int, alpha: float, rng: np.random.Generator) -> np.ndarray:
    drawn: np.ndarray = rng.dirichlet([alpha] * n)
    return drawn


def _images_by_patient(patients: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, patient in enumerate(patients):
        found.setdefault(patient, []).append(index)
    return found


def _patients_by_class(labels: Sequence[int], by_patient: dict[str, list[int]]) -> list[list[str]]:
    """Patient names, sorted, for each class that occurs; ties between classes go to the lower one."""
    found: dict[int, list[str]] = {}
    for name in sorted(by_patient):
        own = sorted(labels[i] for i in by_patient[name])
        found.setdefault(max(sorted(set(own)), key=own.count), []).append(name)
    return [found[label] for label in sorted(found)]


def _cut(names: list[str], shares: np.ndarray) -> list[list[str]]:
    """``names`` in consecutive pieces, as long as ``shares`` say when rounded."""
    total = float(shares.sum())
    if not math.isfinite(total) or total <= 0.0:  # a tiny ALPHA may underflow to all zeros: all to the first
        shares = np.eye(1, len(shares))[0]
    ends = np.rint(np.cumsum(shares) / shares.sum() * len(names)).astype(int)
    return [names[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _fill_empty(shards: list[list[str]]) -> None:
    for shard in shards:
        if not shard:
            shard.append(max(shards, key=len).pop())
