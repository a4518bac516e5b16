"""Whether a probability means what it says: reliability, expected calibration error, Brier score, temperature. numpy.

Everything here takes the model's probabilities: the softmax of ``log p / T`` is that of the logits over T, since a
constant in all logits says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from fl_protocol.errors import DataError

BINS = 15
COLDEST, HOTTEST = 0.1, 10.0
"""Bounds of a temperature: beyond them a model has learned nothing, or learned its validation images by heart."""
PRIOR = 0.5
"""Deviation of log T before any image was seen: few images leave a model as it is."""
METADATA_KEY = "temperature"
STEPS = 32
_LEAST = 1e-12


def reliability(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> list[tuple[float, float, int]]:
    """For each equal bin of the foretold class's probability that holds any: mean probability, share right, images.

    A probability on the edge of two bins belongs to the lower one, as in Guo et al. and in scikit-learn.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], confidence)
    counts = np.bincount(place, minlength=bins)
    said, held = np.bincount(place, confidence, bins), np.bincount(place, right.astype(float), bins)
    return [
        (float(said[i] / counts[i]), float(held[i] / counts[i]), int(counts[i]))
        for i in np.flatnonzero(counts)
    ]


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error of the class foretold (Guo et al. 2017, eq. 3): equal bins of its probability."""
    rows = reliability(labels, probabilities, bins)
    return sum(abs(said - held) * count for said, held, count in rows) / len(labels)


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared error: of class 1's probability if there are two classes, else summed over all (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    squares = (probabilities - truth) ** 2
    each = squares[:, 1] if probabilities.shape[1] == 2 else squares.sum(axis=1)
    return float(each.mean())


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The probabilities at a temperature: above 1 they are less sure, below 1 more; their order stays."""
    if temperature == 1.0:
        return probabilities
    logits = np.log(np.maximum(probabilities, _LEAST)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return found


def log_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """log T at which the true classes were likeliest (Guo et al. 2017, 4.2), with a normal prior around 0.

    In 1/T the likelihood has one maximum, and the prior is weak, so golden-section search in log T finds it.
    """
    logits = np.log(np.maximum(probabilities, _LEAST))
    rows = np.arange(len(labels))

    def cost(log_t: float) -> float:
        found = logits / math.exp(log_t)
        top = found.max(axis=1, keepdims=True)
        normal = top[:, 0] + np.log(np.exp(found - top).sum(axis=1))
        return float((normal - found[rows, labels]).sum()) + log_t**2 / (2 * PRIOR**2)

    low, high, golden = math.log(COLDEST), math.log(HOTTEST), (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = cost(left), cost(right)
    for _ in range(STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = cost(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = cost(right)
    return (low + high) / 2


def temperature_of(metadata: Mapping[str, str]) -> float:
    """The temperature that travels with a model; 1 if none does. Raises DataError for what cannot be one."""
    try:
        found = float(metadata.get(METADATA_KEY, "1"))
    except ValueError:
        found = math.nan
    if not COLDEST <= found <= HOTTEST:
        raise DataError(
            f"the model says temperature {metadata[METADATA_KEY][:20]!r}, which cannot be: fetch it again"
        )
    return found
