"""A model in two parts: what makes its last feature map, and the head that reads it. For Grad-CAM (gradcam.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from fl_tasks.models.hilum_cnn import HilumCnn
from fl_tasks.models.tiny_cnn import TinyCnn

READERS = ("avgpool", "classifier", "fc")
"""Names of torchvision's modules behind the last feature map."""


@dataclass(frozen=True)
class Parts:
    """``head(features(x))`` is what the model gives in evaluation."""

    features: Callable[[Tensor], Tensor]
    """(n, c, s, s) -> (n, k, h, w)."""
    head: Callable[[Tensor], Tensor]
    """(n, k, h, w) -> (n, classes)."""
    weights: Tensor | None
    """(classes, k): how a logit grows with each map, times h * w, where that is the same for all images: behind
    pooling and one linear layer. None where it is not."""


def parts_of(module: nn.Module) -> Parts | None:
    """The parts of a model of ours or of torchvision's; None for another's."""
    if isinstance(module, HilumCnn | TinyCnn):
        means, maxima = module.head.weight.detach().chunk(2, dim=1)
        return Parts(module.features, module.read, means + maxima)
    last = _last_of(module) if type(module).__module__.startswith("torchvision.models.") else None
    if last is None:
        return None
    before = takewhile(lambda item: item[0] not in READERS, module.named_children())
    return Parts(nn.Sequential(*(child for _, child in before)), _pooled(last), _only_linear(last))


def _last_of(module: nn.Module) -> nn.Module | None:
    """What reads the pooled map: (n, k) -> (n, classes)."""
    found: Any = getattr(module, "classifier", None) or getattr(module, "fc", None)
    return found if isinstance(found, nn.Module) else None


def _pooled(last: nn.Module) -> Callable[[Tensor], Tensor]:
    def head(x: Tensor) -> Tensor:
        found: Tensor = last(x.mean(dim=(2, 3)))
        return found

    return head


def _only_linear(last: nn.Module) -> Tensor | None:
    """The weights of ``last``, if it is one linear layer, perhaps behind a dropout."""
    layers = [each for each in last.modules() if not isinstance(each, nn.Sequential | nn.Dropout)]
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear):
        return None
    return layers[0].weight.detach()


def last_map(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of a model that nobody took apart, and the last map that any of its modules gave, kept for autograd."""
    seen: list[Tensor] = []

    def note(_module: nn.Module, _given: Any, out: Any) -> None:
        if isinstance(out, Tensor) and out.ndim == 4 and out.shape[-1] > 1 and out.requires_grad:
            seen[:] = [out]

    hooks = [each.register_forward_hook(note) for each in module.modules()]
    try:
        logits: Tensor = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, seen[0] if seen else torch.zeros(0)
