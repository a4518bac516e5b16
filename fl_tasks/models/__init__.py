"""Models by name. ``MODEL_NAMES`` is known without torch; :func:`build` imports what it needs.

An installed package offers more as entry points of the group ``hilum.models``: callables that take the number of
classes and of channels, and return a module (docs/strategies.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fl_protocol import entrypoints
from fl_protocol.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

HILUM_CNN, TINY_CNN = "hilum-cnn", "tiny-cnn"
ZOO_NAMES = ("shufflenet_v2_x0_5", "mobilenet_v3_small", "resnet18", "efficientnet_b0")
MODEL_NAMES = (HILUM_CNN, TINY_CNN, *ZOO_NAMES)


def check_name(name: str) -> str:
    """``name`` itself, or a ConfigError with the names there are."""
    if name not in MODEL_NAMES and name not in (others := entrypoints.offered(entrypoints.MODELS)):
        raise ConfigError(f"unknown model {name!r}: use one of {', '.join((*MODEL_NAMES, *others))}")
    return name


def build(name: str, num_classes: int, channels: int = 1) -> nn.Module:
    """A new model for images of ``channels`` channels with ``num_classes`` logits, drawn from torch's current seed."""
    if check_name(name) == HILUM_CNN:
        from fl_tasks.models.hilum_cnn import HilumCnn

        return HilumCnn(num_classes, channels)
    if name == TINY_CNN:
        from fl_tasks.models.tiny_cnn import TinyCnn

        return TinyCnn(num_classes, channels)
    if name not in MODEL_NAMES:
        return _offered(name, num_classes, channels)
    from fl_tasks.models import zoo

    return zoo.build(name, num_classes, channels)


def _offered(name: str, num_classes: int, channels: int) -> nn.Module:
    from torch import nn

    offer = entrypoints.offered(entrypoints.MODELS)[name]
    make = offer.load()
    with entrypoints.blamed(str(offer), "cannot be built"):
        module = make(num_classes, channels)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{offer} made a {type(module).__name__}, no torch module: mend or uninstall it")
    return module
