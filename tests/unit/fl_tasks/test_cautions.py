from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_tasks.cautions import FAR, NOT_AN_XRAY, ORIENTATION, RESOLUTION, cautions
from fl_tasks.phantoms import draw
from fl_tasks.pictures import Picture, read_picture
from tests.radiographs import chest


def picture(pixels: np.ndarray, size: int = 64) -> Picture:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return read_picture(written.getvalue(), "x.png", size, 1)


def checks() -> np.ndarray:
    """A board of four by four squares, half of one grey, half of the others."""
    rows = np.arange(128) // 32
    shades = np.arange(128)[:, None] % 100
    return np.where((rows[:, None] + rows[None, :]) % 2, 250 - shades, shades).astype(np.uint8)


def kinds(pixels: np.ndarray, size: int = 64) -> list[str]:
    return [each.kind for each in cautions(picture(pixels, size))]


def photograph() -> np.ndarray:
    """A sky above a meadow."""
    rows = np.linspace(0, 1, 200)[:, None] * np.ones((1, 240))
    return np.stack([90 + 60 * rows, 140 + 20 * rows, 230 - 190 * rows], axis=2).astype(np.uint8)


def page() -> np.ndarray:
    found = np.full((300, 200), 250, np.uint8)
    found[20:280:12, 20:180:3] = 30
    return found


def test_a_chest_that_stands_upright_is_remarked_on_by_nobody() -> None:
    assert kinds(chest(0)) == []


def test_a_phantom_without_a_belly_looks_unlike_a_patient() -> None:
    assert kinds(draw(1, np.random.default_rng(1))) == [FAR]


@pytest.mark.parametrize("pixels", [photograph(), page(), checks()])
def test_what_is_no_xray_is_told(pixels: np.ndarray) -> None:
    assert NOT_AN_XRAY in kinds(pixels)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_chest_that_lies_or_hangs_is_told(turns: int) -> None:
    found = cautions(picture(np.ascontiguousarray(np.rot90(chest(0), turns))))
    assert [each.kind for each in found] == [ORIENTATION]
    assert found[0].serious and ("upside down" in found[0].text) == (turns == 2)


def test_fewer_pixels_than_the_model_looks_at_are_told() -> None:
    small = np.asarray(Image.fromarray(chest(0)).resize((50, 60)))
    assert kinds(small, 64) == [RESOLUTION]
    assert kinds(small, 50) == []


def test_a_model_of_other_images_is_not_asked_about_chests() -> None:
    assert cautions(picture(photograph()), chest=False) == []


def test_how_often_real_images_are_remarked_on(real_data: Path) -> None:
    """The figures that docs/design.md tells, held loosely."""

    def rate(files: list[Path], kind: str) -> float:
        found = [cautions(read_picture(file.read_bytes(), file.name, 64, 1)) for file in files]
        return float(np.mean([kind in [each.kind for each in row] for row in found]))

    test = sorted((real_data / "chest_xray" / "test").glob("*/*.jpeg"))
    assert rate(test, NOT_AN_XRAY) == 0.0
    assert rate(test, FAR) < 0.03
    assert rate(sorted((real_data / "nih_chestxray14").rglob("*.jp*g"))[::8], NOT_AN_XRAY) < 0.03
