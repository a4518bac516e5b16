from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fl_tasks.images import read_image
from fl_tasks.orientation import MARGIN, fits, quarter_turns
from tests.radiographs import chest


def test_phantoms_turned_are_told_and_upright_ones_are_not() -> None:
    images = [chest(seed) for seed in range(40)]
    for turns in range(4):
        found = [quarter_turns(np.ascontiguousarray(np.rot90(image, turns))) for image in images]
        assert np.mean([each == turns for each in found]) == 1.0


def test_exposure_and_mirroring_say_nothing() -> None:
    image = chest(4)
    darker = (255 * (image / 255.0) ** 1.8).astype(np.uint8)
    for same in (image, darker, np.ascontiguousarray(image[:, ::-1])):
        assert quarter_turns(same) == 0


def test_a_turn_that_fits_hardly_better_is_not_told() -> None:
    """An image laid over itself upside down, the turned one a little stronger."""
    image = chest(4).astype(float)
    mixed = (0.49 * image + 0.51 * np.rot90(image, 2)).astype(np.uint8)
    found = fits(mixed)
    assert found.argmax() == 2 and 0 < found[2] - found[0] < MARGIN
    assert quarter_turns(mixed) == 0
    assert quarter_turns((0.2 * image + 0.8 * np.rot90(image, 2)).astype(np.uint8)) == 2


@pytest.mark.parametrize(("folder", "every", "most_false", "least_found"),
                         [("chest_xray/test", 1, 0.01, 0.85), ("nih_chestxray14/train", 3, 0.03, 0.95)])  # fmt: skip
def test_on_radiographs_it_never_saw(
    real_data: Path, folder: str, every: int, most_false: float, least_found: float
) -> None:  # fmt: skip
    images = [read_image(path, 96) for path in sorted((real_data / folder).rglob("*.*"))[::every]]
    told = [
        np.mean([quarter_turns(np.ascontiguousarray(np.rot90(image, turns))) != 0 for image in images])
        for turns in range(4)
    ]
    assert told[0] <= most_false
    assert min(told[1:]) >= least_found
