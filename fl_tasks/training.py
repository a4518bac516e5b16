"""The training loop of one edge's round."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fl_protocol.messages import Plan
from fl_tasks.base import Diverged, Watch
from fl_tasks.dealing import Rows
from fl_tasks.drift import Drift

MAX_CLASS_WEIGHT = 10.0
WARM_UP_STEPS = 10
FINAL_RATE = 0.1
SMOOTHING = 0.9


@dataclass(frozen=True)
class Examples:
    """Images (or whatever the task's ``inputs`` takes) with labels and patients, one of each per row."""

    images: np.ndarray | Rows
    labels: np.ndarray
    patients: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: np.ndarray) -> Examples:
        """These rows; of a view, another view."""
        images = self.images.part(rows) if isinstance(self.images, Rows) else self.images[rows]
        return Examples(images, self.labels[rows], self.patients[rows])

    @classmethod
    def together(cls, parts: Sequence[Examples]) -> Examples:
        """All examples of views of one whole, in the order of ``parts``."""
        views = [part.images for part in parts if isinstance(part.images, Rows)]
        return cls(
            Rows.joined(views), np.concatenate([part.labels for part in parts]),
            np.concatenate([part.patients for part in parts]),
        )  # fmt: skip

    def view(self, rows: np.ndarray) -> Examples:
        """These rows, without a copy of their images."""
        whole = self.images if isinstance(self.images, Rows) else Rows(self.images, np.arange(len(self)))
        return Examples(whole.part(rows), self.labels[rows], self.patients[rows])


def warm_then_down(step: int, total: int) -> float:
    """Up over the first steps, then down to FINAL_RATE: what leaves an edge is less noisy, so the mean is better."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm * (1.0 - (1.0 - FINAL_RATE) * step / max(1, total))


def level(_step: int, _total: int) -> float:
    """The plan's learning rate all the way."""
    return 1.0


@dataclass(frozen=True)
class Recipe:
    """What a task brings to the loop, beside the plan."""

    inputs: Callable[[Tensor, torch.Generator | None], Tensor]
    num_classes: int
    device: torch.device
    rate_factor: Callable[[int, int], float] = level
    weighted: bool = True


def fit(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Examples,
    plan: Plan,
    recipe: Recipe,
    watch: Watch,
    drift: Drift | None = None,
) -> float:
    """Train ``module`` in place as ``plan`` says; return the mean loss. Raises Diverged or Cancelled.

    All chance comes from ``plan.seed``. With ``plan.proximal_mu`` the loss has FedProx's term
    mu/2 |w - w_global|^2 (Li et al. 2020); with ``drift`` gradients are corrected as SCAFFOLD does it.
    """
    torch.manual_seed(plan.seed)  # for dropout
    generator = torch.Generator().manual_seed(plan.seed)
    weights = class_weights(examples.labels, recipe.num_classes) if recipe.weighted else None
    criterion = nn.CrossEntropyLoss(weights).to(recipe.device)
    targets = torch.from_numpy(np.asarray(examples.labels, dtype=np.int64))
    anchor = [w.detach().clone() for w in module.parameters()] if plan.proximal_mu > 0 else []
    total = num_steps(len(examples), plan)
    module.train()
    losses, smooth = 0.0, math.nan
    for step, rows in enumerate(batches(len(examples), plan.batch_size, total, generator)):
        watch.check()
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * recipe.rate_factor(step, total)
        batch = recipe.inputs(torch.from_numpy(examples.images[rows]).to(recipe.device), generator)
        loss = criterion(module(batch), targets[rows].to(recipe.device))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(f"the loss is not finite at step {step + 1} of {total}: lower --learning-rate")
        if anchor:
            loss = loss + plan.proximal_mu / 2 * _distance(module, anchor)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if drift is not None:
            drift.correct()
        optimizer.step()
        losses += value
        smooth = value if math.isnan(smooth) else SMOOTHING * smooth + (1 - SMOOTHING) * value
        watch.progress((step + 1) / total, smooth)
    return losses / total if total else 0.0


def num_steps(num_examples: int, plan: Plan) -> int:
    """``local_steps`` if the plan says so, else as many batches as ``local_epochs`` passes have."""
    if plan.local_steps is not None:
        return plan.local_steps
    return plan.local_epochs * _per_pass(num_examples, plan.batch_size)


def _per_pass(num_examples: int, batch_size: int) -> int:
    """A last batch of one joins the one before: BatchNorm cannot normalise a single image."""
    full, rest = divmod(num_examples, batch_size)
    return max(1, full + (rest > 1 or (rest == 1 and batch_size == 1)))


def batches(
    num_examples: int, batch_size: int, total: int, generator: torch.Generator
) -> Iterator[np.ndarray]:
    """Row numbers of ``total`` batches, every pass in a new order. A lone image is shown twice."""
    passed = _per_pass(num_examples, batch_size)
    for step in range(total):
        at = step % passed
        if at == 0:
            order = torch.randperm(num_examples, generator=generator).numpy()
        end = num_examples if at == passed - 1 else (at + 1) * batch_size
        rows = order[at * batch_size : end]
        yield np.repeat(rows, 2) if len(rows) == 1 else rows


def class_weights(labels: np.ndarray, num_classes: int) -> Tensor:
    """Inverse frequency: every class that occurs weighs the same in all, within bounds."""
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(num_classes)
    weights[present] = len(labels) / (present.sum() * counts[present])
    return torch.tensor(np.minimum(weights, MAX_CLASS_WEIGHT), dtype=torch.float32)


def _distance(module: nn.Module, anchor: list[Tensor]) -> Tensor:
    pairs = zip(module.parameters(), anchor, strict=True)
    return torch.stack([(now - then).square().sum() for now, then in pairs]).sum()
