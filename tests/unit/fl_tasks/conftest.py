"""Real X-rays where this checkout has them, and small drawn folders everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_tasks.phantoms import draw

DATA = Path(__file__).parents[4] / "shared" / "data"

Folder = Callable[..., Path]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; the test is skipped where there is none."""
    if not (DATA / "chest_xray").is_dir():
        pytest.skip(f"no real images at {DATA}")
    return DATA


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Makes ``tmp/NAME/{NORMAL,PNEUMONIA}`` with phantoms, ``count`` of each class, two images a patient."""

    def make(name: str = "data", count: int = 6, split: str = "", side: int = 48) -> Path:
        for label, kind in enumerate(("NORMAL", "PNEUMONIA")):
            target = tmp_path / name / split / kind
            target.mkdir(parents=True)
            for index in range(count):
                pixels = Image.fromarray(draw(label, np.random.default_rng([label, index]))).resize(
                    (side, side)
                )
                stem = (
                    f"IM-{index // 2:04d}-{index:04d}" if label == 0 else f"person{index // 2}_virus_{index}"
                )
                pixels.save(target / f"{stem}.png")
        return tmp_path / name

    return make
