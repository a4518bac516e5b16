"""What the default chest X-ray recipe was chosen against, as a plug-in (``--plugin benchmarks.recipes``).

chest-xray-plain        no augmentation
chest-xray-mirrored     augmentation that also swaps left and right
chest-xray-sgd          SGD with momentum in place of AdamW
chest-xray-unweighted   classes not balanced in the loss
chest-xray-eps          AdamW with eps 1e-3: small gradients make small steps
chest-xray-batchnorm    hilum-cnn with BatchNorm in place of GroupNorm

Each is the task chest-xray but for that. docs/quality.md has the commands and what came out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fl_protocol.messages import Plan
from fl_tasks.augment import Augmentation, augmented_batch, plain_batch
from fl_tasks.chest_xray import ChestXray
from fl_tasks.registry import register


class Plain(ChestXray):
    """No augmentation."""

    def inputs(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        return plain_batch(images)


class Mirrored(ChestXray):
    """Left and right may be swapped, though the heart is on the left."""

    def inputs(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return plain_batch(images)
        return augmented_batch(images, Augmentation(mirror=True), generator)


class Sgd(ChestXray):
    """The optimiser of most papers on federated learning."""

    def optimizer(self, module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            module.parameters(), plan.learning_rate, momentum=plan.momentum, weight_decay=plan.weight_decay
        )


class Unweighted(ChestXray):
    """Every image counts alike, so that a site's objective is its share of that of one place."""

    weighted = False


class Eps(ChestXray):
    """AdamW that no longer makes full steps of gradients that vanish, as those of a site of one class do."""

    def optimizer(self, module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            module.parameters(), plan.learning_rate, betas=(plan.momentum, 0.999), eps=1e-3,
            weight_decay=plan.weight_decay,
        )  # fmt: skip


class BatchNorm(ChestXray):
    """Statistics of the batch in training, averaged over sites with the weights."""

    def build(self, model: str, image_size: int) -> nn.Module:
        return _with_batch_norm(super().build(model, image_size))


def _with_batch_norm(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, nn.BatchNorm2d(child.num_channels))
        else:
            _with_batch_norm(child)
    return module


for each in (Plain, Mirrored, Sgd, Unweighted, Eps, BatchNorm):
    register(f"chest-xray-{each.__name__.lower()}", each)
