from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fl_tasks.gradcam import closed_form, explained
from fl_tasks.models import MODEL_NAMES, build
from fl_tasks.models.parts import parts_of

LINEAR = [name for name in MODEL_NAMES if name != "mobilenet_v3_small"]


def drawn(name: str, classes: int = 3, channels: int = 1) -> nn.Module:
    torch.manual_seed(3)
    return build(name, classes, channels).eval()


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_a_model_in_parts_is_the_model(name: str) -> None:
    module, x = drawn(name), torch.randn(2, 1, 64, 64)
    parts = parts_of(module)
    assert parts is not None
    with torch.no_grad():
        assert torch.allclose(parts.head(parts.features(x)), module(x), atol=1e-5)


@pytest.mark.parametrize("name", LINEAR)
def test_the_closed_form_is_what_autograd_finds(name: str) -> None:
    module, x = drawn(name), torch.randn(2, 1, 64, 64)
    parts = parts_of(module)
    assert parts is not None
    _, maps = explained(module, x)
    with torch.no_grad():
        closed = closed_form(parts, parts.features(x))
    assert maps is not None and maps.shape == closed.shape == (2, 3, *closed.shape[2:])
    assert float(maps.max()) > 0
    assert torch.allclose(closed, maps, atol=1e-5 * float(maps.max()))


def test_a_head_of_two_layers_has_no_closed_form_and_a_map_all_the_same() -> None:
    module = drawn("mobilenet_v3_small")
    parts = parts_of(module)
    assert parts is not None and parts.weights is None
    logits, maps = explained(module, torch.randn(1, 1, 64, 64))
    assert logits.shape == (1, 3)
    assert maps is not None and maps.shape[:2] == (1, 3) and float(maps.min()) >= 0


class Foreign(nn.Module):
    """Another package's: nobody knows how it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(torch.relu(self.conv(x)).mean(dim=(2, 3)))
        return found


def test_a_foreign_model_is_explained_by_its_last_map() -> None:
    module, x = Foreign().eval(), torch.randn(2, 1, 16, 16)
    assert parts_of(module) is None
    logits, maps = explained(module, x)
    assert torch.allclose(logits, module(x).detach())
    assert maps is not None and maps.shape == (2, 2, 14, 14)


def test_a_model_without_a_map_has_logits_alone() -> None:
    logits, maps = explained(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.randn(1, 1, 8, 8))
    assert logits.shape == (1, 2) and maps is None


def test_the_map_shows_where_the_class_is_seen() -> None:
    """One channel that sees brightness, one class that wants it: the map is bright where the image is."""
    module = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)
    )
    with torch.no_grad():
        for weight, value in zip(
            module.parameters(), (torch.ones(1, 1, 1, 1), torch.tensor([[-1.0], [1.0]])), strict=False
        ):
            weight.copy_(value)
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 2:4, 5:7] = 1.0
    _, maps = explained(module, x)
    assert maps is not None
    assert float(maps[0, 0].max()) == 0  # it speaks against the first class
    assert torch.equal(maps[0, 1] > 0, x[0, 0] > 0)
