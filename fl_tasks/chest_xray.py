"""The chest-xray task: is there pneumonia in this frontal chest X-ray?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.messages import DataSummary, Plan
from fl_tasks import models
from fl_tasks.augment import Augmentation, augmented_batch, plain_batch
from fl_tasks.base import Dataset, Watch
from fl_tasks.dealing import Shards
from fl_tasks.defaults import DEFAULT_TASK, DEFAULTS
from fl_tasks.folder import CLASSES, ImageFile, list_images
from fl_tasks.image_cache import Loaded, count_duplicates, load_images
from fl_tasks.jobs import EVAL, TRAIN, DataOptions
from fl_tasks.partition import parts, split_validation
from fl_tasks.torch_task import Splits, TorchTask
from fl_tasks.training import Examples, warm_then_down

PREPROCESSING = {"version": 1, "channels": 1, "resize": "bilinear", "standardise": "image"}
"""Travels with every model. A reader that does not know the version must not guess (predict.py)."""

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 32, 1024
MAX_PROBLEMS = 100


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
            "preprocessing": json.dumps(PREPROCESSING),
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
        size = checked_size(options.image_size or DEFAULTS[DEFAULT_TASK].image_size)
        files = _own_files(options)
        loaded = load_images(files, size, Path(options.cache), watch.check)
        examples = _examples(files, loaded, options)
        splits = _splits(examples, options)
        summary = replace(
            _summary(examples, splits, options.role), unreadable=len(loaded.problems),
            duplicates=count_duplicates(loaded.images),
        )  # fmt: skip
        return Dataset(summary, len(splits.train), _problem_lines(loaded), splits)

    def deal(self, options: DataOptions, watch: Watch) -> Sequence[Dataset]:
        """All shards, each with the rows that :meth:`prepare` would give it, in the same order."""
        size = checked_size(options.image_size or DEFAULTS[DEFAULT_TASK].image_size)
        files, dealt = _dealt_files(options)
        loaded = load_images(files, size, Path(options.cache), watch.check)
        whole = _examples(files, loaded, options)
        problems = _problem_lines(loaded)

        def shard(index: int) -> Dataset:
            rows = np.flatnonzero(np.isin(loaded.kept, dealt[index]))
            if not len(rows):
                return Dataset(DataSummary(0, 0, 0, 0), 0, problems)
            examples = whole.view(rows)
            splits = _splits(examples, options)
            return Dataset(_summary(examples, splits, options.role), len(splits.train), problems, splits)

        return Shards(options.shards, shard)


def checked_size(image_size: int) -> int:
    """``image_size`` itself, or a ConfigError with the bounds."""
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise ConfigError(
            f"image size {image_size} is not possible: use {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}"
        )
    return image_size


def _own_files(options: DataOptions) -> list[ImageFile]:
    """This shard's files. Parts are dealt by name alone, so that every edge deals alike whatever it can read."""
    if options.role not in (TRAIN, EVAL):
        raise ConfigError(f"unknown role {options.role!r}: use {TRAIN} or {EVAL}")
    if not 1 <= options.shard <= options.shards:
        raise ConfigError(f"shard {options.shard}/{options.shards} does not exist: use 1/N to N/N")
    files, dealt = _dealt_files(options)
    return [files[index] for index in dealt[options.shard - 1]]


def _dealt_files(options: DataOptions) -> tuple[list[ImageFile], list[np.ndarray]]:
    """All files, and for every shard the sorted indices of its own."""
    files = list_images(options.data, options.role)
    labels, patients = [file.label for file in files], [file.patient for file in files]
    return files, parts(labels, patients, options.shards, options.partition, options.seed)


def _splits(examples: Examples, options: DataOptions) -> Splits:
    if options.role == EVAL:
        return Splits(examples)
    rows, held_out = split_validation(examples.labels.tolist(), examples.patients.tolist(), options.seed)
    return Splits(examples.part(rows), examples.part(held_out))


def _examples(files: Sequence[ImageFile], loaded: Loaded, options: DataOptions) -> Examples:
    kept = [files[index] for index in loaded.kept]
    if not kept:
        name, reason = loaded.problems[0]
        raise DataError(
            f"none of the {len(files)} images in {options.data} can be used ({name} {reason}): replace them by JPEG "
            "or PNG images"
        )
    labels = np.array([file.label for file in kept], dtype=np.int64)
    if options.shards == 1 and len(np.unique(labels)) < len(CLASSES):
        absent = CLASSES[1 - int(labels[0])]
        raise DataError(f"no image of class {absent} in {options.data} can be read: replace the broken files")
    return Examples(loaded.images, labels, np.array([file.patient for file in kept]))


def _summary(examples: Examples, splits: Splits, role: str) -> DataSummary:
    counts = Counter(examples.labels.tolist())
    held_out = 0 if splits.validation is None else len(splits.validation)
    return DataSummary(
        images=len(examples),
        patients=len(np.unique(examples.patients)),
        train_images=len(splits.train) if role == TRAIN else 0,
        val_images=held_out,
        classes={name: counts[label] for label, name in enumerate(CLASSES)},
    )


def _problem_lines(loaded: Loaded) -> tuple[str, ...]:
    lines = [f"{name} {reason}" for name, reason in loaded.problems]
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f"and {len(lines) - MAX_PROBLEMS} more"]
    return tuple(lines)
