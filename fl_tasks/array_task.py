"""Tasks whose data are arrays of small images (catalogue.py): MNIST, CIFAR-10 and MedMNIST."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.messages import Plan
from fl_tasks import models
from fl_tasks.array_files import DOWNLOAD, file_of, read_role
from fl_tasks.augment import Augmentation, augmented_batch, plain_batch
from fl_tasks.base import Dataset, Place, Watch
from fl_tasks.catalogue import ARRAY_TASKS
from fl_tasks.dealing import Shards
from fl_tasks.defaults import defaults_for
from fl_tasks.fetch import fetched
from fl_tasks.jobs import DataOptions
from fl_tasks.preprocessing import preprocessing
from fl_tasks.site_data import Listing, as_dataset, check_options, dealt_rows
from fl_tasks.torch_task import TorchTask
from fl_tasks.training import Examples, warm_then_down

MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 16, 512
AUGMENTATION = {
    "mnist": Augmentation(degrees=10.0, shift=0.06, scale=0.1, log_gamma=0.0, blur=0.0),
    "cifar10": Augmentation(degrees=5.0, shift=0.1, scale=0.1, log_gamma=0.2, blur=0.0, mirror=True),
}
"""By task; the others take that of chest X-rays."""


class ArrayImages(TorchTask):
    """One data set of the catalogue. Nothing says whose image is whose: every image is a patient of its own."""

    def __init__(self, name: str, place: Place) -> None:
        super().__init__(place)
        self.about = ARRAY_TASKS[name]
        self.classes = self.about.classes
        self.weighted = not self.about.balanced

    def build(self, model: str, image_size: int) -> nn.Module:
        return models.build(model, len(self.classes), self.about.channels)

    def metadata(self, model: str, image_size: int) -> dict[str, str]:
        return {
            "task": self.about.name,
            "model": model,
            "classes": json.dumps(self.classes),
            "image_size": str(self._checked_size(image_size)),
            "preprocessing": json.dumps(preprocessing(self.about.channels)),
        }

    def optimizer(self, module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
        """AdamW (Loshchilov and Hutter 2019), as for chest X-rays: few steps a round, and no rate to search for."""
        return torch.optim.AdamW(
            module.parameters(),
            plan.learning_rate,
            betas=(plan.momentum, 0.999),
            weight_decay=plan.weight_decay,
        )

    def rate_factor(self, step: int, total: int) -> float:
        return warm_then_down(step, total)

    def inputs(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return plain_batch(images)
        return augmented_batch(images, AUGMENTATION.get(self.about.name, Augmentation()), generator)

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        check_options(options)
        whole, held_out = self._read(options, watch)
        rows = dealt_rows(_listing(whole), options)[options.shard - 1]
        return self._dataset(whole, rows, held_out, options)

    def deal(self, options: DataOptions, watch: Watch) -> Sequence[Dataset]:
        """All shards, each with the rows that :meth:`prepare` would give it, in the same order."""
        check_options(options.of_shard(1))
        whole, held_out = self._read(options, watch)
        dealt = dealt_rows(_listing(whole), options)
        return Shards(
            options.shards, lambda index: self._dataset(whole, dealt[index], held_out, options, view=True)
        )

    def _read(self, options: DataOptions, watch: Watch) -> tuple[Examples, np.ndarray | None]:
        """All images for the role at the size asked for, and which of them the file sets aside for validation."""
        images, aside = read_role(self._file(options.data), options.role, self.about)
        watch.check()
        size = self._checked_size(options.image_size or defaults_for(self.about.name).image_size)
        pixels, labels, held_out = resized(images.pixels, size), images.labels, None
        if aside is not None:
            pixels = np.concatenate([pixels, resized(aside.pixels, size)])
            labels = np.concatenate([labels, aside.labels])
            held_out = np.arange(len(labels)) >= len(images.labels)
        watch.check()
        return Examples(pixels, labels, np.array([f"{row:08d}" for row in range(len(labels))])), held_out

    def _file(self, data: str | None) -> Path:
        return fetched(data, self.about.name) if data and data.startswith(DOWNLOAD) else file_of(data)

    def _dataset(
        self, whole: Examples, rows: np.ndarray, held_out: np.ndarray | None, options: DataOptions, *, view: bool = False
    ) -> Dataset:  # fmt: skip
        flat = _flat(np.asarray(whole.images[rows]))
        if len(rows) and flat.all() and not view:
            raise DataError(
                f"none of the {len(rows)} images of {options.data} shows anything: each has one grey or colour only"
            )
        kept = rows[~flat]
        examples = whole.view(kept) if view else whole.part(kept)
        lines = [f"image {row} has one grey or colour only" for row in rows[flat].tolist()]
        aside = None if held_out is None else held_out[kept]
        return as_dataset(examples, self.classes, options, aside, lines)

    def _checked_size(self, image_size: int) -> int:
        if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
            raise ConfigError(
                f"image size {image_size} is not possible: use {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}"
            )
        return image_size


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (n, h, w) or (n, h, w, 3) at ``size`` pixels a side, as single files are brought there (images.py)."""
    if pixels.shape[1:3] == (size, size):
        return pixels
    rows = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in pixels]
    return np.stack([np.asarray(row, dtype=np.uint8) for row in rows])


def _listing(whole: Examples) -> Listing:
    return Listing(whole.labels.tolist(), whole.patients.tolist())


def _flat(pixels: np.ndarray) -> np.ndarray:
    """Which images have one value only, in each channel."""
    rows = pixels.reshape(len(pixels), pixels.shape[1] * pixels.shape[2], -1)
    found: np.ndarray = (rows.max(axis=1) == rows.min(axis=1)).all(axis=1)
    return found
