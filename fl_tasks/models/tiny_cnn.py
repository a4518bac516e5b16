"""A CNN of LeNet's size (LeCun et al. 1998: 60,000 weights) for images of 28 or 32 pixels, grey or RGB.

Three convolutions with GroupNorm and no statistics of a batch, so that a model averaged over sites means what each of
them trained; the last map is read by its mean and its maximum, so that any image size of at least 16 will do.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

WIDTHS = (24, 48, 96)
GROUPS = 8


class TinyCnn(nn.Module):
    """(n, channels, s, s) images -> (n, num_classes) logits, for any s of at least 16."""

    def __init__(self, num_classes: int, channels: int = 1) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.conv1 = nn.Conv2d(channels, first, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, second)
        self.conv3 = nn.Conv2d(second, third, 3, padding=1, bias=False)
        self.norm3 = nn.GroupNorm(GROUPS, third)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(2 * third, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, (n, 96, s // 4, s // 4), nowhere negative."""
        x = nn.functional.max_pool2d(torch.relu(self.norm1(self.conv1(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.norm2(self.conv2(x))), 2)
        return torch.relu(self.norm3(self.conv3(x)))

    def read(self, x: Tensor) -> Tensor:
        """The logits of a feature map."""
        seen = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return cast("Tensor", self.head(self.dropout(seen)))

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.features(x))
