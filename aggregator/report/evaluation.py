"""evaluation.json as frozen values: the newest model on the central test set. Total: what is odd in it is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from aggregator.report.round_line import count, list_of, number, texts

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


@dataclass(frozen=True)
class Evaluation:
    """The detail of the newest central evaluation."""

    round_number: int
    interval: tuple[float, float] | None
    sensitivity: float | None
    threshold: float | None
    confusion: tuple[tuple[int, ...], ...]
    roc: tuple[tuple[float, float], ...]
    images: int
    patients: int
    classes: tuple[str, ...]
    operating: Operating = field(default_factory=Operating)
    calibration: Calibration | None = None

    def operating_point(self) -> tuple[float, float] | None:
        """(false, true) positive rate of a two-class confusion matrix."""
        if len(self.confusion) != 2:
            return None
        (tn, fp), (fn, tp) = self.confusion
        return (fp / (fp + tn), tp / (fn + tp)) if fp + tn and fn + tp else None


def read_evaluation(body: Any) -> Evaluation | None:
    """What evaluation.json says; None if that is no object."""
    if not isinstance(body, dict):
        return None
    confusion = tuple(tuple(count(n) for n in list_of(row)) for row in list_of(body.get("confusion")))
    square = len(confusion) in range(2, 13) and all(len(row) == len(confusion) for row in confusion)
    size = len(confusion) if square else 0
    interval = _pair(body.get("auroc_interval"))
    return Evaluation(
        round_number=count(body.get("round")), interval=interval,
        sensitivity=number(body.get("sensitivity_at_90_specificity")), threshold=number(body.get("threshold")),
        confusion=confusion if square else (), roc=_roc(body.get("roc")),
        images=count(body.get("images")), patients=count(body.get("patients")),
        classes=(*texts(body.get("classes")), *(f"class {i}" for i in range(size)))[:max(size, 2)],
        operating=read_operating(body), calibration=read_calibration(body),
    )  # fmt: skip


def read_calibration(body: dict[str, Any]) -> Calibration | None:
    """What evaluation.json says of calibration; None if it is missing or odd."""
    brier, ece, bins = (body.get(name) for name in ("brier", "ece", "reliability"))
    temperature = _share(body.get("temperature"), 1e3)
    scores, errors = _scores(brier), _scores(ece)
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


def _scores(value: Any) -> tuple[float, float] | None:
    found = [_share(each, 2.0) for each in value] if isinstance(value, list) else []
    return (found[0], found[1]) if len(found) == 2 and found[0] is not None and found[1] is not None else None


def _bins(value: Any) -> tuple[tuple[float, float, int], ...]:
    rows = value[:MOST_BINS] if isinstance(value, list) else []
    found = []
    for row in rows:
        said, held, images = row if isinstance(row, list) and len(row) == 3 else (None, None, None)
        p, q, n = _share(said, 1.0), _share(held, 1.0), _share(images, 1e12)
        if p is not None and q is not None and n is not None:
            found.append((p, q, int(n)))
    return tuple(found)


def _roc(value: Any, most: int = 600) -> tuple[tuple[float, float], ...]:
    """The curve inside the unit square, thinned so that a large test set does not make a large page."""
    points = [pair for pair in map(_pair, list_of(value)) if pair and min(pair) >= 0 and max(pair) <= 1]
    every = max(1, math.ceil(len(points) / most))
    return tuple(points[::every] + (points[-1:] if every > 1 else []))


def _pair(value: Any) -> tuple[float, float] | None:
    found = [each for each in map(number, list_of(value)) if each is not None]
    return (found[0], found[1]) if len(found) == 2 else None
