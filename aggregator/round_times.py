"""Where the time of a round went, from what edges tell of themselves and what the aggregator saw of their uploads. Pure.

Where nobody tells (a simulation, an older edge) there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import median

from fl_protocol.messages import FETCH_TIME, TRAIN_TIME

UPLOAD_TIME = "upload_s"
"""From the first offer that we heard to the last byte: ours to say, whatever a client claims."""
TIMES = (FETCH_TIME, TRAIN_TIME, UPLOAD_TIME)
NAMES = ("download", "train", "upload")
LONGEST = 1e7


def phases_of(metrics: Iterable[Mapping[str, float]], duration_s: float) -> dict[str, float]:
    """Seconds, as medians over the clients whose update was accepted; ``wait`` is what was left of the round for them:
    for others, for the fold, for the score.
    """
    told = [
        [each[name] for name in TIMES] for each in metrics if all(_is_time(each.get(name)) for name in TIMES)
    ]
    if not told:
        return {}
    rows = [(*times, max(0.0, duration_s - sum(times))) for times in told]
    return {name: round(median(row[at] for row in rows), 3) for at, name in enumerate((*NAMES, "wait"))}


def _is_time(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and 0.0 <= value <= LONGEST
