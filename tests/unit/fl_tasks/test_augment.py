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


# --- how far chance goes: each part alone, read back off 400 draws of one image -------------------------------------


def drawn(image: np.ndarray, **far: float) -> np.ndarray:
    """(400, 64, 64): the image with one kind of change, its darkest point at 0 and its brightest at 1."""
    how = Augmentation(**{**vars(NONE), **far})
    batch = torch.from_numpy(np.tile(image, (400, 1, 1)))
    found = augmented_batch(batch, how, torch.Generator().manual_seed(1))[:, 0].numpy()
    low, high = found.min(axis=(1, 2), keepdims=True), found.max(axis=(1, 2), keepdims=True)
    return np.asarray((found - low) / (high - low))


def blob(x: float, y: float) -> np.ndarray:
    """A bright spot so far right of and below the middle."""
    rows, columns = np.mgrid[0:64, 0:64] - 31.5
    return np.asarray(np.round(255 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 32)).astype(np.uint8))


def spots(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the spot of each image is, right of and below the middle."""
    rows, columns = np.mgrid[0:64, 0:64] - 31.5
    whole = found.sum(axis=(1, 2))
    return (found * columns).sum(axis=(1, 2)) / whole, (found * rows).sum(axis=(1, 2)) / whole


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    """400 draws come within a fiftieth of either end, and their mean within four of its deviations."""
    width = high - low
    assert values.min() == pytest.approx(low, abs=0.02 * width)
    assert values.max() == pytest.approx(high, abs=0.02 * width)
    assert values.mean() == pytest.approx((low + high) / 2, abs=4 * width / np.sqrt(12 * 400))


def test_shifts_go_as_far_to_every_side() -> None:
    across, down = spots(drawn(blob(0, 0), shift=0.06))
    assert_uniform(across, -0.06 * 64, 0.06 * 64)
    assert_uniform(down, -0.06 * 64, 0.06 * 64)
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.2


def test_turns_are_turns_and_not_shears() -> None:
    across, down = spots(drawn(blob(14, 0), degrees=10.0))
    assert np.hypot(across, down) == pytest.approx(np.full(400, 14.0), rel=0.01)
    assert_uniform(np.degrees(np.arctan2(down, across)), -10.0, 10.0)


def test_scales_go_both_ways() -> None:
    across, down = spots(drawn(blob(14, 7), scale=0.1))
    assert_uniform(14 / across, 0.9, 1.1)
    assert down == pytest.approx(across / 2, rel=0.02)


def test_the_grey_curve_bends_both_ways_alike() -> None:
    steps = np.repeat(np.array([0, 128, 255], np.uint8), [22, 20, 22])
    middle = drawn(np.tile(steps, (64, 1)), log_gamma=0.35)[:, 32, 32]
    assert_uniform(np.log(np.log(middle) / np.log(128 / 255)), -0.35, 0.35)


def test_the_blurred_image_is_none_to_all_of_the_mix() -> None:
    point = np.zeros((64, 64), np.uint8)
    point[32, 32] = 255
    beside = drawn(point, blur=1.0)[:, 32, 33]  # share / 9 of what is left, 1 - 8 share / 9
    assert_uniform(9 * beside / (1 + 8 * beside), 0.0, 1.0)


def test_every_other_image_is_mirrored_left_and_right_where_that_is_wanted() -> None:
    across, down = spots(drawn(blob(14, 7), mirror=True))
    assert np.abs(across) == pytest.approx(np.full(400, 14.0), rel=0.01)
    assert down == pytest.approx(np.full(400, 7.0), rel=0.01)
    assert 160 <= (across < 0).sum() <= 240
    assert (spots(drawn(blob(14, 7)))[0] > 0).all()


def test_every_image_is_standardised_by_itself(images: torch.Tensor) -> None:
    mixed = torch.cat([images, images[:1] // 4])
    alone = torch.cat([plain_batch(image[None]) for image in mixed])
    assert torch.allclose(plain_batch(mixed), alone, atol=1e-5)
    image = mixed[3].double() / 255
    expected = (image - image.mean()) / image.std(correction=0)
    assert torch.allclose(alone[3, 0].double(), expected, atol=0.02)


def test_colours_become_channels() -> None:
    colours = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).view(2, 4, 4, 3)
    found = plain_batch(colours)
    assert found.shape == (2, 3, 4, 4)
    assert torch.allclose(
        found[0, 1] - found[0, 0], torch.full((4, 4), float(found[0, 1, 0, 0] - found[0, 0, 0, 0]))
    )
    assert torch.all(found[0, 0].diff(dim=1) < found[0, 0].diff(dim=0).min()), "columns stay columns"
