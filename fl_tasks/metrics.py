"""How good a score is: AUROC and its interval, AUPRC, operating points, confusion, ROC points. numpy alone.

Class 1 is the positive one. A score is the model's probability of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fl_tasks.calibration import brier, calibration_error, log_temperature, reliability, scaled

MAX_ROC_POINTS = 200
RESAMPLES = 1000


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: np.ndarray = (ends - (counts - 1) / 2.0)[inverse.reshape(-1)]
    return ranks


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of (positive, negative) pairs in the right order, ties counting half; NaN with one class only."""
    positive = labels == 1
    n1 = int(positive.sum())
    n0 = len(labels) - n1
    if n1 == 0 or n0 == 0:
        return float("nan")
    ranks = midranks(scores)
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2.0) / (n1 * n0))


def macro_auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The AUROC of class 1 of two; of more, the mean of every class against the rest.

    Classes that do not occur, or that are all there is, do not count; NaN if none is left.
    """
    if probabilities.shape[1] == 2:
        return auroc(labels, probabilities[:, 1])
    each = [auroc(labels == k, probabilities[:, k]) for k in range(probabilities.shape[1])]
    known = [value for value in each if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def weighted_auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """AUROC where every image counts ``weights`` times (which a bootstrap draw is)."""
    _, inverse = np.unique(scores, return_inverse=True)
    levels = inverse.reshape(-1)
    size = int(levels.max()) + 1
    pos = np.bincount(levels, weights * (labels == 1), size)
    neg = np.bincount(levels, weights * (labels != 1), size)
    if pos.sum() == 0 or neg.sum() == 0:
        return float("nan")
    below = np.cumsum(neg) - neg
    return float((pos * (below + neg / 2.0)).sum() / (pos.sum() * neg.sum()))


def patient_draws(patients: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
    """How often every image counts, (images,), in each draw of as many patients as there are, with replacement."""
    _, who = np.unique(patients, return_inverse=True)
    who = who.reshape(-1)
    count = int(who.max()) + 1
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        yield times[who].astype(float)


def auroc_interval(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the AUROC, resampling patients, not images (Efron 1979).

    Draws without both classes are left out; (NaN, NaN) if there is no other.
    """
    drawn = [weighted_auroc(labels, scores, times) for times in patient_draws(patients, seed, resamples)]
    kept = np.array([value for value in drawn if np.isfinite(value)])
    if kept.size == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(kept, [2.5, 97.5])
    return float(low), float(high)


def roc(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true positive rates and the threshold (score at least) at every distinct score, from (0, 0)."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    hits = np.cumsum(labels[order] == 1)[last]
    alarms = last + 1 - hits
    tpr = np.append(0.0, hits / max(1, int((labels == 1).sum())))
    fpr = np.append(0.0, alarms / max(1, int((labels != 1).sum())))
    return fpr, tpr, np.append(np.inf, ordered[last])


def thinned(points: np.ndarray, limit: int = MAX_ROC_POINTS) -> np.ndarray:
    """At most ``limit`` rows of ``points``, evenly spread, first and last kept."""
    if len(points) <= limit:
        return points
    rows = np.unique(np.linspace(0, len(points) - 1, limit).round().astype(int))
    kept: np.ndarray = points[rows]
    return kept


def sensitivity_at(labels: np.ndarray, scores: np.ndarray, specificity: float) -> tuple[float, float]:
    """The highest sensitivity with at least that specificity, and the threshold that gives it."""
    fpr, tpr, thresholds = roc(labels, scores)
    allowed = np.flatnonzero(fpr <= 1.0 - specificity + 1e-12)
    best = allowed[np.argmax(tpr[allowed])]
    return float(tpr[best]), float(min(thresholds[best], 1.0))


def specificity_at(labels: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The highest specificity with at least that sensitivity."""
    fpr, tpr, _ = roc(labels, scores)
    return float(1.0 - fpr[tpr >= sensitivity - 1e-12].min(initial=1.0))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """AUPRC as the mean precision at every positive found, without interpolation; NaN without a positive.

    Davis and Goadrich (2006) say why straight lines between points of a precision-recall curve flatter.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    hits = np.cumsum(labels[order] == 1)[last]
    if hits[-1] == 0:
        return float("nan")
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / (last + 1)).sum() / hits[-1])


def confusion(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> list[list[int]]:
    """Rows are true classes, columns predicted ones."""
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return [[int(value) for value in row] for row in flat.reshape(num_classes, num_classes)]


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean negative log probability of the true class."""
    picked = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(picked, 1e-12, 1.0)).mean())


def summary(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """loss, accuracy and, where at least two classes occur, auroc (of several classes: macro)."""
    found = {
        "loss": cross_entropy(labels, probabilities),
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
    }
    area = macro_auroc(labels, probabilities)
    return found | ({"auroc": area} if np.isfinite(area) else {})


def at_a_site(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Calibration error, the temperature that would mend it and, for two classes that both occur, sensitivity and
    specificity at one half.
    """
    found = {
        "ece": calibration_error(labels, probabilities),
        "log_temperature": log_temperature(labels, probabilities),
    }
    if probabilities.shape[1] == 2 and len(np.unique(labels)) == 2:
        (tn, fp), (fn, tp) = confusion(labels, probabilities.argmax(axis=1), 2)
        found |= {"sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp)}
    return found


def report(
    labels: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    classes: list[str],
    temperature: float = 1.0,
) -> dict[str, Any]:
    """What the report page shows, ready for JSON. ``confusion`` is of the most probable class.

    Calibration is shown as the model is, and as it is at ``temperature``. Of more than two classes there is no one
    curve, threshold or interval.
    """
    cooled = scaled(probabilities, temperature)
    found = {
        "confusion": confusion(labels, probabilities.argmax(axis=1), len(classes)),
        "images": len(labels),
        "patients": len(np.unique(patients)),
        "classes": classes,
        "temperature": temperature,
        "brier": [brier(labels, probabilities), brier(labels, cooled)],
        "ece": [calibration_error(labels, probabilities), calibration_error(labels, cooled)],
        "reliability": [[list(row) for row in reliability(labels, each)] for each in (probabilities, cooled)],
    }
    return found | (_of_two(labels, probabilities[:, 1], patients) if len(classes) == 2 else {})


def _of_two(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """The part of the report that two classes have. A figure that needs both classes is None without them."""
    sensitivity, threshold = sensitivity_at(labels, scores, 0.9)
    fpr, tpr, _ = roc(labels, scores)
    low, high = auroc_interval(labels, scores, patients)
    both = len(np.unique(labels)) == 2
    return {
        "auroc_interval": [low, high] if np.isfinite(low) else None,
        "auprc": average_precision(labels, scores) if both else None,
        "sensitivity_at_90_specificity": sensitivity,
        "sensitivity_at_95_specificity": sensitivity_at(labels, scores, 0.95)[0],
        "specificity_at_95_sensitivity": specificity_at(labels, scores, 0.95) if both else None,
        "threshold": threshold,
        "roc": [[float(x), float(y)] for x, y in thinned(np.stack([fpr, tpr], axis=1))],
    }
