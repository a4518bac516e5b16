"""A torch task small enough to be written down in numpy: softmax regression on five numbers, with or without a norm."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fl_protocol.messages import DataSummary
from fl_tasks.base import Dataset, Place, Watch
from fl_tasks.jobs import DataOptions
from fl_tasks.torch_task import Splits, TorchTask
from fl_tasks.training import Examples

FEATURES, CLASSES = 5, 2


def site(seed: int, count: int = 24, held_out: int = 8) -> Examples:
    """Examples of a site that differs from others in what is frequent and in where its inputs lie."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(loc=rng.normal(size=FEATURES), size=(count + held_out, FEATURES)).astype(np.float32)
    labels = (inputs @ rng.normal(size=FEATURES) > 0).astype(np.int64)
    return Examples(inputs, labels, np.arange(count + held_out).astype(str))


def dataset(seed: int, count: int = 24, held_out: int = 8) -> Dataset:
    """``count`` examples to train on, ``held_out`` to score on."""
    rows = site(seed, count, held_out)
    train, validation = rows.part(np.arange(count)), rows.part(np.arange(count, count + held_out))
    summary = DataSummary(count + held_out, count + held_out, count, held_out)
    return Dataset(summary, count, (), Splits(train, validation))


class _Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(FEATURES)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(x))
        return out


class LinearTask(TorchTask):
    """``plain`` is one linear layer, ``normed`` has a BatchNorm before it."""

    classes = ("no", "yes")
    weighted = False

    def __init__(self) -> None:
        super().__init__(Place("cpu"))

    def build(self, model: str, image_size: int) -> nn.Module:
        return nn.Linear(FEATURES, CLASSES) if model == "plain" else _Normed()

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        return dataset(options.seed)

    def inputs(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        return images

    def metadata(self, model: str, image_size: int) -> dict[str, str]:
        return {"task": "linear", "model": model, "image_size": "0"}
