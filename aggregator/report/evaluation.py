"""The report's part about the newest model on the central test set: figures beside the curves, and calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST_BINS = 50


@dataclass(frozen=True)
class Calibration:
    """As the model is, then at the temperature that travels with it."""

    temperature: float
    brier: tuple[float, float]
    ece: tuple[float, float]
    before: tuple[tuple[float, float, int], ...]
    after: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True)
class Operating:
    """Figures of two classes that the curves alone do not tell; None where they cannot be told."""

    auprc: float | None = None
    sensitivity_at_95: float | None = None
    specificity_at_95: float | None = None

    def rows(self) -> list[tuple[str, float]]:
        """(name, value) of those that are known."""
        named = (
            ("AUPRC", self.auprc),
            ("Sensitivity at 95 % specificity", self.sensitivity_at_95),
            ("Specificity at 95 % sensitivity", self.specificity_at_95),
        )
        return [(name, value) for name, value in named if value is not None]


def read_calibration(body: dict[str, Any]) -> Calibration | None:
    """What evaluation.json says of calibration; None if it is missing or odd."""
    brier, ece, bins = (body.get(name) for name in ("brier", "ece", "reliability"))
    temperature = _share(body.get("temperature"), 1e3)
    scores, errors = _pair(brier), _pair(ece)
    if (
        temperature is None
        or scores is None
        or errors is None
        or not isinstance(bins, list)
        or len(bins) != 2
    ):
        return None
    before, after = (_bins(each) for each in bins)
    return Calibration(temperature, scores, errors, before, after)


def read_operating(body: dict[str, Any]) -> Operating:
    """What evaluation.json says beside the curves."""
    names = ("auprc", "sensitivity_at_95_specificity", "specificity_at_95_sensitivity")
    return Operating(*(_share(body.get(name), 1.0) for name in names))


def _share(value: Any, most: float) -> float | None:
    return float(value) if type(value) in (int, float) and 0.0 <= value <= most else None


def _pair(value: Any) -> tuple[float, float] | None:
    found = [_share(each, 2.0) for each in value] if isinstance(value, list) else []
    return (found[0], found[1]) if len(found) == 2 and found[0] is not None and found[1] is not None else None


def _bins(value: Any) -> tuple[tuple[float, float, int], ...]:
    rows = value[:MOST_BINS] if isinstance(value, list) else []
    found = []
    for row in rows:
        said, held, count = row if isinstance(row, list) and len(row) == 3 else (None, None, None)
        p, q, n = _share(said, 1.0), _share(held, 1.0), _share(count, 1e12)
        if p is not None and q is not None and n is not None:
            found.append((p, q, int(n)))
    return tuple(found)
