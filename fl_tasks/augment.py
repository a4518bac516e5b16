"""From uint8 images to what a model sees, with and without chance.

Every image is brought to mean 0 and deviation 1 by itself, so that exposure says nothing. Augmentation turns,
shifts and scales a little, bends the grey curve and blurs: what differs between machines and operators. It does
not flip unless told to: the heart is on the left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-3


@dataclass(frozen=True)
class Augmentation:
    """How far chance may go; all draws are uniform in plus or minus these."""

    degrees: float = 10.0
    shift: float = 0.06  # of the image's side
    scale: float = 0.1
    log_gamma: float = 0.35
    blur: float = 1.0  # share of the blurred image in the mix: 0 to this
    mirror: bool = False  # left and right, every other time


def standardise(images: Tensor) -> Tensor:
    """(n, c, s, s) of any scale -> mean 0, deviation 1 for every image; a flat image becomes zeros."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    centred = images - mean
    deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return centred / (deviation + EPSILON)


def plain_batch(images: Tensor) -> Tensor:
    """uint8 (n, s, s) or (n, s, s, 3) -> float (n, c, s, s) as a model sees it in evaluation and prediction."""
    return standardise(_scaled(images))


def _scaled(images: Tensor) -> Tensor:
    """Channels first, values from 0 to 1."""
    return (images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)).float() / 255.0


def augmented_batch(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """uint8 (n, s, s) or (n, s, s, 3) -> float (n, c, s, s) for training. Chance comes from ``generator`` alone (a CPU one)."""
    n, device = len(images), images.device

    def draw(limit: float) -> Tensor:
        return ((torch.rand(n, generator=generator) * 2 - 1) * limit).to(device)

    x = _scaled(images)
    if how.mirror:
        turned = (torch.rand(n, generator=generator) < 0.5).to(device).view(n, 1, 1, 1)
        x = torch.where(turned, x.flip(3), x)
    x = x.clamp_min(1e-4) ** draw(how.log_gamma).exp().view(n, 1, 1, 1)
    angle, zoom = draw(how.degrees) * (math.pi / 180), 1.0 + draw(how.scale)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = [cos, -sin, draw(2 * how.shift), sin, cos, draw(2 * how.shift)]
    theta = torch.stack(rows, dim=1).view(n, 2, 3)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    share = (draw(0.5) + 0.5).view(n, 1, 1, 1) * how.blur
    blurred = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return standardise(x + share * (blurred - x))
