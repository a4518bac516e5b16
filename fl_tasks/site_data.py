"""From all that a role may use to one site's dataset: the parts dealt, validation set aside, everything counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_protocol.errors import ConfigError
from fl_protocol.messages import DataSummary
from fl_tasks.base import Dataset
from fl_tasks.image_cache import count_duplicates
from fl_tasks.jobs import EVAL, TRAIN, DataOptions
from fl_tasks.partition import named_sites, parts, split_validation
from fl_tasks.remarks import bounded
from fl_tasks.torch_task import Splits
from fl_tasks.training import Examples


@dataclass(frozen=True)
class Listing:
    """What there is for a role before an image is opened; position i of each list is one image.

    ``sites`` where the data name them. ``held_out`` where the data say themselves which images validate.
    """

    labels: Sequence[int]
    patients: Sequence[str]
    sites: Sequence[str] | None = None
    held_out: Sequence[bool] | None = None


def check_options(options: DataOptions) -> None:
    """Raises ConfigError for a role or a shard that does not exist."""
    if options.role not in (TRAIN, EVAL):
        raise ConfigError(f"unknown role {options.role!r}: use {TRAIN} or {EVAL}")
    if not 1 <= options.shard <= options.shards:
        raise ConfigError(f"shard {options.shard}/{options.shards} does not exist: use 1/N to N/N")


def dealt_rows(listing: Listing, options: DataOptions) -> list[np.ndarray]:
    """The rows of every shard. Raises ConfigError or DataError for options that cannot be."""
    return parts(
        listing.labels, listing.patients, options.shards, options.partition, options.seed, listing.sites
    )


def site_names(listing: Listing, options: DataOptions) -> list[str]:
    """What the data call their sites, in the order of the shards; no names where parts are dealt."""
    return named_sites(listing.sites or [], options.partition)


def as_dataset(
    examples: Examples,
    classes: Sequence[str],
    options: DataOptions,
    held_out: np.ndarray | None = None,
    unreadable: Sequence[str] = (),
    remarks: Sequence[str] = (),
    site: str = "",
) -> Dataset:
    """The Dataset of one site. ``held_out`` marks the rows that validate; without it patients are drawn by the seed.

    ``unreadable`` has a line for each image left out, ``remarks`` what else a person should know.
    """
    if options.role == EVAL:
        splits = Splits(examples)
    else:
        rows, aside = _split(examples, options.seed, held_out)
        splits = Splits(examples.part(rows), examples.part(aside))
    counts = Counter(examples.labels.tolist())
    summary = DataSummary(
        images=len(examples),
        patients=len(np.unique(examples.patients)),
        train_images=len(splits.train) if options.role == TRAIN else 0,
        val_images=0 if splits.validation is None else len(splits.validation),
        unreadable=len(unreadable),
        duplicates=count_duplicates(examples.images),
        classes={name: counts[label] for label, name in enumerate(classes)},
    )
    return Dataset(summary, len(splits.train), (*remarks, *bounded(unreadable)), splits, site)


def _split(examples: Examples, seed: int, held_out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows. A site that would have nothing to train on trains on all it has."""
    if held_out is None or not held_out.any() or held_out.all():
        return split_validation(examples.labels.tolist(), examples.patients.tolist(), seed)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
