"""torchvision's small models with our number of channels and classes. Weights are never downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from fl_tasks.torchvision_door import models


def build(name: str, num_classes: int, channels: int = 1) -> nn.Module:
    """The model of that name with a stem of ``channels`` channels, randomly initialised."""
    make: Callable[..., nn.Module] = getattr(models, name)
    module = make(weights=None, num_classes=num_classes)
    if channels == 1:
        _grey_stem(module)
    return module


def _grey_stem(module: nn.Module) -> None:
    """Replace the first convolution, which takes three channels in all of these models."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.in_channels == 3:
                setattr(parent, name, _one_channel(child))
                return
    raise TypeError(f"{type(module).__name__} has no three-channel stem")


def _one_channel(conv: nn.Conv2d) -> nn.Conv2d:
    same: dict[str, Any] = {
        "kernel_size": conv.kernel_size,
        "stride": conv.stride,
        "padding": conv.padding,
        "bias": conv.bias is not None,
    }
    grey = nn.Conv2d(1, conv.out_channels, **same)
    nn.init.kaiming_normal_(grey.weight, mode="fan_out", nonlinearity="relu")
    return grey
