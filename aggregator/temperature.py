"""The temperature of a global model, from what the sites measured on patients whom they hold out. Pure.

Every site tells the logarithm of the temperature that fits the round's base model best (fl_tasks/calibration.py); the
model that the round makes takes their mean, weighted by the images it was measured on. So it is one round behind the
weights, and nobody's images are needed to fit it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from aggregator.round import Update
from fl_protocol.messages import figures_of

FIGURE_NAME, METADATA_KEY = "log_temperature", "temperature"
MOST = math.log(10.0)
"""A site that tells more is held to this, either way."""


def temperature_metadata(updates: Iterable[Update]) -> dict[str, str]:
    """The entry of the next model's metadata; empty if no site told, and the base's stays.

    A site's weight is at most the num_examples it declared, and updates of an older base do not count.
    """
    total = weighed = 0.0
    for update in updates:
        told = figures_of(update.metrics)
        value = told.get(FIGURE_NAME)
        weight = min(told.get("examples", 0.0), float(update.num_examples))
        if value is None or update.staleness or not weight > 0:
            continue
        weighed += weight * max(-MOST, min(MOST, value))
        total += weight
    return {METADATA_KEY: f"{math.exp(weighed / total):.4f}"} if total else {}
