"""What a model sees in one image: its logits and heat maps as numbers, whoever computed them. numpy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fl_tasks.calibration import scaled, temperature_of


@dataclass(frozen=True)
class Seen:
    """float32 (classes,) logits, and (classes, h, w) maps from 0 on; None where the model has none."""

    logits: np.ndarray
    maps: np.ndarray | None

    def probabilities(self, metadata: Mapping[str, str]) -> np.ndarray:
        """(classes,), at the temperature that travels with the model."""
        powers = np.exp(self.logits.astype(np.float64) - self.logits.max())
        found: np.ndarray = scaled(powers[None] / powers.sum(), temperature_of(metadata))[0]
        return found

    def heat(self, index: int) -> np.ndarray | None:
        """The map of one class, 0 to 1; all zero if nothing speaks for the class."""
        if self.maps is None:
            return None
        found: np.ndarray = self.maps[index]
        top = float(found.max())
        return found / top if top > 0 else np.zeros_like(found)


def verdict(classes: Sequence[str], probabilities: np.ndarray) -> dict[str, Any]:
    """``class``, ``probability`` and ``probabilities`` of one image."""
    best = int(probabilities.argmax())
    named = {name: float(value) for name, value in zip(classes, probabilities, strict=True)}
    return {"class": classes[best], "probability": float(probabilities[best]), "probabilities": named}
