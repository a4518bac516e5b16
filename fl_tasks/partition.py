"""Which part of one folder is whose: patient-disjoint, and the same for everyone who asks. Pure.

``iid`` deals patients out in turn, class by class. ``dirichlet:ALPHA`` draws for every class how much of it each
shard gets (Hsu, Qi and Brown 2019): the smaller ALPHA, the more the shards differ. A shard left without a patient
takes the last patient of the fullest shard, so that none is empty. A patient with images of several classes goes
with the class most of them have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fl_protocol.errors import ConfigError, DataError

IID = "iid"
VALIDATION_SHARE = 0.15


def parse_partition(text: str) -> float | None:
    """The ALPHA of ``dirichlet:ALPHA``, or None for ``iid``. Raises ConfigError for anything else."""
    if text == IID:
        return None
    kind, _, value = text.partition(":")
    try:
        alpha = float(value)
    except ValueError:
        alpha = math.nan
    if kind != "dirichlet" or not 1e-3 <= alpha <= 1e6:
        raise ConfigError(
            f"unknown partition {text!r}: use iid or dirichlet:ALPHA, ALPHA from 0.001 to 1000000"
        )
    return alpha


def parts(
    labels: Sequence[int], patients: Sequence[str], n: int, partition: str = IID, seed: int = 0
) -> list[np.ndarray]:
    """For each of ``n`` shards the sorted indices of its images. Every image is in one shard, patients together.

    The answer depends on the arguments alone, and not on the order of the images: patients are taken by name.
    """
    alpha = parse_partition(partition)
    if n < 1:
        raise ConfigError(f"cannot make {n} shards: ask for at least one")
    by_patient = _images_by_patient(patients)
    if len(by_patient) < n:
        raise DataError(f"{len(by_patient)} patients are too few for {n} shards: ask for fewer shards")
    rng = np.random.default_rng([seed, n])
    shards: list[list[str]] = [[] for _ in range(n)]
    at = 0
    for names in _patients_by_class(labels, by_patient):
        shuffled = [names[i] for i in rng.permutation(len(names))]
        if alpha is None:
            for name in shuffled:
                shards[at % n].append(name)
                at += 1
        else:
            for shard, names_here in zip(shards, _cut(shuffled, rng.dirichlet([alpha] * n)), strict=True):
                shard.extend(names_here)
    _fill_empty(shards)
    return [
        np.array(sorted(i for name in shard for i in by_patient[name]), dtype=np.int64) for shard in shards
    ]


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
