from __future__ import annotations

import numpy as np
import pytest
import torch

from fl_tasks.augment import Augmentation, augmented_batch, plain_batch
from fl_tasks.phantoms import draw

NONE = Augmentation(0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(np.stack([draw(i % 2, np.random.default_rng(i)) for i in range(8)]))


def test_exposure_says_nothing(images: torch.Tensor) -> None:
    batch = plain_batch(images)
    assert batch.shape == (8, 1, 128, 128)
    assert torch.allclose(batch.mean(dim=(1, 2, 3)), torch.zeros(8), atol=1e-5)
    assert torch.allclose(batch.std(dim=(1, 2, 3)), torch.ones(8), atol=0.02)
    darker = plain_batch((images.float() * 0.5).to(torch.uint8))
    assert (darker - batch).abs().mean() < 0.05


def test_a_flat_image_gives_zeros() -> None:
    assert not plain_batch(torch.full((1, 8, 8), 200, dtype=torch.uint8)).any()


def test_chance_comes_from_the_generator_alone(images: torch.Tensor) -> None:
    first, second, other = (
        augmented_batch(images, Augmentation(), torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.isfinite(first).all()


def test_without_chance_it_is_the_plain_batch(images: torch.Tensor) -> None:
    same = augmented_batch(images, NONE, torch.Generator().manual_seed(0))
    assert torch.allclose(same, plain_batch(images), atol=1e-3)


def test_left_stays_left(images: torch.Tensor) -> None:
    """The heart's side: a mirrored image would agree better with the mirrored original."""
    moved = augmented_batch(images, Augmentation(), torch.Generator().manual_seed(3))
    plain = plain_batch(images)
    assert (moved - plain).abs().mean() < (moved - plain.flip(3)).abs().mean()


@pytest.mark.parametrize("field", ["degrees", "shift", "scale", "log_gamma", "blur"])
def test_every_part_does_something(images: torch.Tensor, field: str) -> None:
    how = Augmentation(**{**vars(NONE), field: getattr(Augmentation(), field) or 0.5})
    changed = augmented_batch(images, how, torch.Generator().manual_seed(0))
    assert (changed - plain_batch(images)).abs().mean() > 0.005
