"""Our own small CNN for grey images: residual blocks, GroupNorm, global mean and maximum.

The maximum finds what is small and local, the mean what is everywhere; with the mean alone the first rounds
taught little.

GroupNorm (Wu and He 2018) keeps no running statistics, so that a model averaged over hospitals means what each of
them trained. No operation works in place, which per-example gradients (differential privacy) need.
"""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)
GROUPS = 8


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first halves the image. (n, c, h, w) -> (n, d, h/2, w/2)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        pooled = nn.functional.avg_pool2d(x, 2, ceil_mode=True)
        return torch.relu(y + self.shortcut(pooled))


class HilumCnn(nn.Module):
    """(n, channels, s, s) images -> (n, num_classes) logits, for any s of at least 16."""

    def __init__(self, num_classes: int, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, WIDTHS[0], 5, stride=2, padding=2, bias=False)
        self.stem_norm = nn.GroupNorm(GROUPS, WIDTHS[0])
        pairs = itertools.pairwise(WIDTHS)
        self.blocks = nn.Sequential(*(Block(before, after) for before, after in pairs))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * WIDTHS[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, (n, 128, ceil(s / 16), ceil(s / 16)), nowhere negative."""
        x = torch.relu(self.stem_norm(self.stem(x)))
        return cast("Tensor", self.blocks(x))

    def read(self, x: Tensor) -> Tensor:
        """The logits of a feature map."""
        seen = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return cast("Tensor", self.head(self.dropout(seen)))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.features(x))
