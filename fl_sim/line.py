"""What a line to a site is like, and when bytes that enter it come out. Pure; time is an argument.

A line has a rate each way, a one-way delay with jitter, and loss. TCP hides loss from those above it: what they see
is a slower flow and silences, so that is what a :class:`Flow` makes of it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

PACKET_BYTES = 1460
"""Payload of a TCP segment in an Ethernet frame."""
RTO_MIN_S = 0.2
"""Linux waits at least so long, beyond the round trip, before it sends a segment a third time."""
LONGEST_STALL_S = 20.0
QUEUE_S = 0.1
"""The line's own queue: its sender is held back when so many seconds of bytes wait for their turn."""
FLIGHT_BYTES = 1 << 20
"""At most so much is on its way beyond what the queue holds: a window of TCP."""


@dataclass(frozen=True)
class Line:
    """``up_kbit_s`` from the site to the broker; delay and jitter one way; ``loss``: the share of packets lost."""

    up_kbit_s: float = math.inf
    down_kbit_s: float = math.inf
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0

    @property
    def round_trip_s(self) -> float:
        return (2 * self.delay_ms + self.jitter_ms) / 1000


PROFILES: dict[str, Line] = {
    #                  up kbit/s  down kbit/s  delay  jitter  loss
    "lan":       Line(),
    "clinic":    Line(    20_000,     100_000,   8.0,    2.0, 0.0),
    "mobile":    Line(     5_000,      20_000,  40.0,   30.0, 0.01),
    "rural":     Line(     1_000,       8_000,  50.0,   15.0, 0.005),
    "lossy":     Line(     1_000,       1_000, 100.0,   10.0, 0.02),
    "satellite": Line(     3_000,      20_000, 300.0,   20.0, 0.002),
    "dialup":    Line(        34,          56, 100.0,   20.0, 0.0),
}  # fmt: skip
"""Lines as hospitals have them. ``lossy`` is the one of the promise: 1 Mbit/s, 200 ms there and back, 2 % lost."""


def goodput(line: Line, up: bool) -> float:
    """Bytes a second that one TCP connection gets: the rate, or what loss leaves of it.

    MSS / RTT * sqrt(3/2) / sqrt(p): Mathis, Semke, Mahdavi, Ott, "The macroscopic behavior of the TCP congestion
    avoidance algorithm", 1997, equation 3.
    """
    rate = (line.up_kbit_s if up else line.down_kbit_s) * 125
    if line.loss <= 0 or line.round_trip_s <= 0:
        return rate
    return min(rate, PACKET_BYTES / line.round_trip_s * math.sqrt(1.5 / line.loss))


class Flow:
    """One direction of one connection: a bucket that fills at the line's goodput, then the way.

    ``shape`` may be called at any time; what has entered before keeps its instant, and nothing overtakes.
    """

    def __init__(self, line: Line, *, up: bool, rng: random.Random) -> None:
        self._up, self._rng = up, rng
        self._free_at = self._last = 0.0
        self.shape(line)

    def shape(self, line: Line) -> None:
        """From now on the line is like this."""
        self.line, self._rate = line, goodput(line, self._up)

    @property
    def piece_bytes(self) -> int:
        """How much to hand in at once, so that what comes out is a stream and no lumps."""
        return max(PACKET_BYTES, int(min(65536, self._rate / 20)))

    def enter(self, size: int, now: float) -> float:
        """``size`` bytes enter; returns when the last of them comes out."""
        self._free_at = max(self._free_at, now) + size / self._rate
        way_s = (self.line.delay_ms + self._rng.uniform(0, self.line.jitter_ms)) / 1000
        self._last = max(self._last, self._free_at + way_s + self._stall(size))
        return self._last

    def ready_at(self, now: float) -> float:
        """When the line's queue has room for more."""
        return max(now, self._free_at - QUEUE_S)

    def _stall(self, size: int) -> float:
        """How long the stream stands still for what was lost of it: all that follows waits, as TCP keeps the order.

        A first loss is noticed by what arrives behind it, within a round trip (fast retransmit); a segment lost
        again waits for the timer, which doubles every time. Losses in one piece are mended together.
        """
        if self.line.loss <= 0:
            return 0.0
        return max(self._mended_after() for _ in range(math.ceil(size / PACKET_BYTES)))

    def _mended_after(self) -> float:
        if self._rng.random() >= self.line.loss:
            return 0.0
        stall = self.line.round_trip_s
        timer = RTO_MIN_S + self.line.round_trip_s
        while self._rng.random() < self.line.loss and stall < LONGEST_STALL_S:
            stall, timer = stall + timer, 2 * timer
        return stall
