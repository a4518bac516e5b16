"""Put on a process's path, this sets its time of day CLOCK_OFF_S seconds off, and an hour more or less every half second."""

from __future__ import annotations

import datetime as dt
import os
import time

_OFF_S = float(os.environ.get("CLOCK_OFF_S", "0"))
_time = time.time


def wrong() -> float:
    """Seconds since 1970, as this machine believes."""
    now = _time()
    return now + _OFF_S + 3600 * (int(now * 2) % 3 - 1)


class WrongDatetime(dt.datetime):
    """Reads the wrong clock."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> WrongDatetime:
        return cls.fromtimestamp(wrong(), tz)


if _OFF_S:
    time.time = wrong
    time.time_ns = lambda: int(wrong() * 1e9)
    dt.datetime = WrongDatetime  # type: ignore[misc]
