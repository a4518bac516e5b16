"""Synthetic chest phantoms for a demo without data: drawn, not photographed, and of no medical meaning.

A phantom is a bright trunk with two dark lungs, a heart, ribs and noise. PNEUMONIA has soft cloudy opacities
inside a lung; NORMAL may have a faint one outside. Exposure, tilt and size vary in both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from fl_tasks.folder import CLASSES, NOTE, is_phantoms

__all__ = ["draw", "is_phantoms", "write_phantoms"]

SIDE = 128
_TEXT = (
    "These images are synthetic phantoms drawn by Hilum. They show no person and mean nothing medically.\n"
)
_CAUSES = ("bacteria", "virus")


def write_phantoms(folder: Path, train: int = 720, test: int = 160, seed: int = 0) -> Path:
    """Write ``train`` and ``test`` phantoms, half of each class, below ``folder``; the same for the same seed.

    A folder that holds phantoms of the same kind already is left as it is.
    """
    note = folder / NOTE
    says = f"{_TEXT}{train} for training, {test} for testing, seed {seed}\n"
    if note.is_file() and note.read_text(encoding="utf-8") == says:
        return folder
    patient = 0
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(CLASSES):
            target = folder / split / name
            target.mkdir(parents=True, exist_ok=True)
            for index in range(count // 2):
                patient += index % 3 != 2  # every third image is a second one of the patient before
                pixels = draw(label, np.random.default_rng([seed, split == "test", label, index]))
                Image.fromarray(pixels).save(target / _file_name(label, patient, index), quality=85)
    note.write_text(says, encoding="utf-8")  # last, so that a folder cut short is written again
    return folder


def _file_name(label: int, patient: int, index: int) -> str:
    if label == 0:
        return f"IM-{patient:04d}-{index:04d}.jpeg"
    return f"person{patient}_{_CAUSES[patient % 2]}_{index}.jpeg"


def draw(label: int, rng: np.random.Generator) -> np.ndarray:
    """One phantom: uint8 (SIDE, SIDE)."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    tilt, size = rng.normal(0, 0.06), rng.uniform(0.88, 1.08)
    u, v = (x * np.cos(tilt) - y * np.sin(tilt)) / size, (x * np.sin(tilt) + y * np.cos(tilt)) / size
    body = 0.62 * _soft(1.0 - (u / 0.95) ** 4 - (v / 1.25) ** 4, 0.1)
    lungs = np.maximum(_lung(u, v, -0.42, rng), _lung(u, v, 0.42, rng))
    heart = 0.25 * _soft(1.0 - ((u - 0.12) / 0.3) ** 2 - ((v - 0.3) / 0.36) ** 2, 0.5)
    ribs = 0.05 * np.maximum(0.0, np.sin((v + 0.35 * u**2) * rng.uniform(19, 23) + rng.uniform(0, 6))) ** 2
    image = body * (1.0 - 0.62 * lungs) + heart + ribs * body + _clouds(label, u, v, lungs, rng)
    image = np.clip(image, 0.0, 1.0) ** np.exp(rng.normal(0, 0.2)) * rng.uniform(0.75, 1.0)
    image = image + rng.normal(0, rng.uniform(0.02, 0.05), image.shape)
    pixels = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    return np.asarray(pixels.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9))))


def _soft(level: np.ndarray, width: float) -> np.ndarray:
    """0 outside, 1 inside, with an edge of ``width``."""
    edge: np.ndarray = np.clip(level / width, 0.0, 1.0)
    return edge


def _lung(u: np.ndarray, v: np.ndarray, centre: float, rng: np.random.Generator) -> np.ndarray:
    wide, high = rng.uniform(0.28, 0.34), rng.uniform(0.62, 0.72)
    return _soft(1.0 - ((u - centre) / wide) ** 2 - ((v + 0.02) / high) ** 2, 0.35)


def _clouds(
    label: int, u: np.ndarray, v: np.ndarray, lungs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Opacities inside the lungs (PNEUMONIA), or at times a fainter one anywhere (either class)."""
    found = np.zeros_like(u)
    for _ in range(label * int(rng.integers(1, 5))):
        found += _cloud(u, v, rng, rng.uniform(0.16, 0.36)) * lungs
    if rng.random() < 0.5:
        found += _cloud(u, v, rng, rng.uniform(0.02, 0.12))
    return found


def _cloud(u: np.ndarray, v: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    side = rng.choice([-1.0, 1.0])
    at_u, at_v = side * rng.uniform(0.3, 0.55), rng.uniform(-0.35, 0.45)
    width = rng.uniform(0.1, 0.22)
    blob: np.ndarray = strength * np.exp(-(((u - at_u) / width) ** 2 + ((v - at_v) / (1.4 * width)) ** 2))
    return blob
