"""The chest-xray task: is there pneumonia in this frontal chest X-ray?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.messages import Plan
from fl_tasks import models
from fl_tasks.augment import Augmentation, augmented_batch, plain_batch
from fl_tasks.base import Dataset, Watch
from fl_tasks.dealing import Shards
from fl_tasks.defaults import DEFAULT_TASK, DEFAULTS
from fl_tasks.dicom import with_patients
from fl_tasks.folder import CLASSES, ImageFile, foreign_classes
from fl_tasks.image_cache import Loaded, load_images
from fl_tasks.image_remarks import digests_of, disagreeing, in_test_too, turned
from fl_tasks.jobs import EVAL, TRAIN, DataOptions
from fl_tasks.preprocessing import preprocessing
from fl_tasks.site_data import Listing, as_dataset, check_options, dealt_rows, site_names
from fl_tasks.sources import has_test_part, list_images, table_of
from fl_tasks.torch_task import TorchTask
from fl_tasks.training import Examples, warm_then_down

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 32, 1024


class ChestXray(TorchTask):
    """A folder of grey images in two classes."""

    classes = CLASSES

    def build(self, model: str, image_size: int) -> nn.Module:
        checked_size(image_size)
        return models.build(model, len(CLASSES))

    def metadata(self, model: str, image_size: int) -> dict[str, str]:
        return {
            "task": DEFAULT_TASK,
            "model": model,
            "classes": json.dumps(CLASSES),
            "image_size": str(image_size),
            "preprocessing": json.dumps(preprocessing(1)),
        }

    def optimizer(self, module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
        """AdamW (Loshchilov and Hutter 2019): far ahead of SGD in the few hundred steps that ten rounds have."""
        return torch.optim.AdamW(
            module.parameters(),
            plan.learning_rate,
            betas=(plan.momentum, 0.999),
            weight_decay=plan.weight_decay,
        )

    def rate_factor(self, step: int, total: int) -> float:
        return warm_then_down(step, total)

    def inputs(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        return (
            plain_batch(images) if generator is None else augmented_batch(images, Augmentation(), generator)
        )

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        check_options(options)
        files = _files(options)
        own = [files[row] for row in dealt_rows(_listing(files), options)[options.shard - 1]]
        loaded = _load(own, options, watch)
        examples = _examples(own, loaded, options)
        remarks = _remarks(own, loaded, examples, options, watch)
        return as_dataset(examples, CLASSES, options, _held_out(own, loaded), _lines(loaded), remarks)

    def deal(self, options: DataOptions, watch: Watch) -> Sequence[Dataset]:
        """All shards, each with the rows that :meth:`prepare` would give it, in the same order."""
        check_options(options.of_shard(1))
        files = _files(options)
        listing = _listing(files)
        dealt, sites = dealt_rows(listing, options), site_names(listing, options)
        loaded = _load(files, options, watch)
        whole, held_out = _examples(files, loaded, options), _held_out(files, loaded)
        remarks = _remarks(files, loaded, whole, options, watch)
        told = dict(loaded.problems)

        def shard(index: int) -> Dataset:
            rows = np.flatnonzero(np.isin(loaded.kept, dealt[index]))
            names = [files[row].name for row in dealt[index]]
            lines = [f"{name} {told[name]}" for name in names if name in told]
            aside = None if held_out is None else held_out[rows]
            site = sites[index] if sites else ""
            return as_dataset(whole.view(rows), CLASSES, options, aside, lines, remarks, site)

        return Shards(options.shards, shard)


def checked_size(image_size: int) -> int:
    """``image_size`` itself, or a ConfigError with the bounds."""
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise ConfigError(
            f"image size {image_size} is not possible: use {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}"
        )
    return image_size


def _files(options: DataOptions) -> list[ImageFile]:
    return with_patients(list_images(options.data, options.role))


def _load(files: Sequence[ImageFile], options: DataOptions, watch: Watch) -> Loaded:
    size = checked_size(options.image_size or DEFAULTS[DEFAULT_TASK].image_size)
    return load_images(files, size, Path(options.cache), watch.check)


def _listing(files: Sequence[ImageFile]) -> Listing:
    """Parts are dealt by name alone, so that every edge deals alike whatever it can read."""
    sites = [file.site for file in files] if any(file.site for file in files) else None
    return Listing([file.label for file in files], [file.patient for file in files], sites)


def _held_out(files: Sequence[ImageFile], loaded: Loaded) -> np.ndarray | None:
    """Which of the images read the data themselves keep for validation, if they keep any."""
    found = np.array([files[row].held_out for row in loaded.kept], dtype=bool)
    return found if found.any() else None


def _remarks(
    files: Sequence[ImageFile], loaded: Loaded, examples: Examples, options: DataOptions, watch: Watch
) -> list[str]:
    """What to know of these images beside those that cannot be read."""
    names = [files[row].name for row in loaded.kept]
    digests = digests_of(loaded.images)
    lines = foreign_classes(options.data or "", options.role) if table_of(options.data) is None else []
    lines += turned(loaded.images, names) + disagreeing(digests, examples.labels.tolist(), names)
    if options.role == TRAIN and options.data is not None and has_test_part(options.data):
        lines += _leaks(digests, names, examples, replace(options, role=EVAL), watch)
    return lines


def _leaks(
    digests: Sequence[bytes], names: Sequence[str], examples: Examples, options: DataOptions, watch: Watch
) -> list[str]:
    """What the test part shares with these images. One that is no good is the affair of who scores on it."""
    try:
        test = _files(options)
    except DataError:
        return []
    seen = digests_of(_load(test, options, watch).images)
    return in_test_too(digests, names, examples.patients.tolist(), seen, [file.patient for file in test])


def _lines(loaded: Loaded) -> list[str]:
    return [f"{name} {reason}" for name, reason in loaded.problems]


def _examples(files: Sequence[ImageFile], loaded: Loaded, options: DataOptions) -> Examples:
    kept = [files[index] for index in loaded.kept]
    if not kept:
        name, reason = loaded.problems[0]
        where = f"the test part of {options.data}" if options.role == EVAL else options.data
        raise DataError(
            f"none of the {len(files)} images in {where} can be used ({name} {reason}): replace them by JPEG "
            "or PNG images"
        )
    labels = np.array([file.label for file in kept], dtype=np.int64)
    if options.shards == 1 and len(np.unique(labels)) < len(CLASSES):
        absent = CLASSES[1 - int(labels[0])]
        raise DataError(f"no image of class {absent} in {options.data} can be read: replace the broken files")
    return Examples(loaded.images, labels, np.array([file.patient for file in kept]))
