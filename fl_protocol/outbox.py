"""What waits to be sent, what may be sent now, and what the broker has not acknowledged. No clock, no socket.

Two lanes: a bulk message (a chunk of a model) leaves only when no normal one waits, and the last slot of the
window is never its own, so that a heartbeat or an acknowledgement overtakes 45 MB. Order is kept within a lane.

The window (messages unacknowledged) adapts: bytes queued ahead of a PINGREQ must drain well within a keepalive,
or a slow uplink loses its connection for ever. A quick PUBACK opens it by one, a slow one halves it.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from fl_protocol.network import Payload

MAX_WINDOW = 20
FIRST_WINDOW = 4
SUSPECT_BYTES = 32 * 1024
SUSPECT_AFTER_S = 5.0
MAX_LOSSES = 4
SLOW, STUCK = 0.25, 3.0
"""Keepalives until a PUBACK. Within STUCK a PINGREQ sent behind the message was answered, or the connection is gone
already: so the broker has had the message for long, and has forgotten to say so.
"""


@dataclass
class Outgoing:
    """One message on its way. ``losses`` counts the connections that died right after it was sent."""

    topic: str
    payload: Payload
    retain: bool
    bulk: bool
    size: int = 0
    sent_at: float = 0.0
    losses: int = 0


class Outbox:
    """``put`` and ``backlog`` may be called from any thread; everything else belongs to the sender's."""

    def __init__(self, keepalive_s: float) -> None:
        self._normal: deque[Outgoing] = deque()
        self._bulk: deque[Outgoing] = deque()
        self._flying: dict[int, Outgoing] = {}
        self._count = threading.Lock()
        self._taken_in = 0
        self._done = 0
        self._limit = MAX_WINDOW
        self._window = FIRST_WINDOW
        self._keepalive_s = keepalive_s
        self._shrunk_at = float("-inf")
        self._suspect = False

    def put(self, message: Outgoing) -> None:
        """Queue ``message``."""
        with self._count:
            self._taken_in += 1
        (self._bulk if message.bulk else self._normal).append(message)

    def backlog(self) -> int:
        """Messages queued or unacknowledged."""
        return self._taken_in - self._done

    def waiting(self) -> bool:
        """Whether something queued may leave now."""
        return self._next_lane() is not None

    @property
    def flying(self) -> int:
        """Messages sent and not yet acknowledged."""
        return len(self._flying)

    @property
    def window(self) -> int:
        """How many bulk messages may be unacknowledged now."""
        return min(self._window, max(1, self._limit - 1))

    def connected(self, receive_maximum: int, keepalive_s: float, limit_known: bool) -> None:
        """A new connection: what the broker allows, and whether it told how large a packet may be."""
        self._limit = max(1, min(MAX_WINDOW, receive_maximum))
        self._window = min(self._window, self._limit)
        self._keepalive_s = keepalive_s
        self._suspect = not limit_known

    def take(self) -> Outgoing | None:
        """The message to send now, if the window has room for one. Then call ``sent`` or ``dropped``."""
        lane = self._next_lane()
        return lane.popleft() if lane is not None else None

    def _next_lane(self) -> deque[Outgoing] | None:
        flying = len(self._flying)
        if self._normal and flying < min(self._window + 1, self._limit):
            return self._normal
        if self._bulk and flying < self.window:
            return self._bulk
        return None

    def sent(self, mid: int, message: Outgoing, size: int, now: float) -> None:
        """``message`` was handed to the connection under this message id."""
        message.size, message.sent_at = size, now
        self._flying[mid] = message

    def dropped(self) -> None:
        """A message that was taken will never be sent."""
        self._done += 1

    def acked(self, mid: int, now: float) -> Outgoing | None:
        """The broker has it. Returns which message that was; None if we know of none."""
        message = self._flying.pop(mid, None)
        if message is None:
            return None
        self._done += 1
        if now - message.sent_at <= SLOW * self._keepalive_s:
            self._window = min(self._window + 1, self._limit)
        elif message.sent_at >= self._shrunk_at:  # one halving for all that were on their way together
            self._window = max(1, self._window // 2)
            self._shrunk_at = now
        return message

    def is_stuck(self, now: float) -> bool:
        """Whether the broker lives and yet acknowledges nothing: only another connection can mend that."""
        oldest = next(iter(self._flying.values()), None)
        return oldest is not None and now - oldest.sent_at > STUCK * self._keepalive_s

    def lost(self, now: float) -> Outgoing | None:
        """The connection died: all unacknowledged go back to the front, and the window starts small.

        Returns a message that is given up, because connection after connection died when it was sent: a broker
        that announces no limit (MQTT 3.1.1) hangs up on a packet above it, and would do so for ever.
        """
        unacked = list(self._flying.values())
        self._flying.clear()
        self._window = 1
        guilty = self._blame(unacked, now) if self._suspect else None
        for message in reversed(unacked):
            if message is not guilty:
                (self._bulk if message.bulk else self._normal).appendleft(message)
        return guilty

    def _blame(self, unacked: list[Outgoing], now: float) -> Outgoing | None:
        recent = [m for m in unacked if m.size > SUSPECT_BYTES and now - m.sent_at < SUSPECT_AFTER_S]
        if not recent:
            return None
        largest = max(recent, key=lambda m: m.size)
        largest.losses += 1
        if largest.losses < MAX_LOSSES:
            return None
        self._done += 1
        return largest

    def forget_bulk(self) -> None:
        """Nothing of the bulk lane leaves any more."""
        while self._bulk:
            self._bulk.popleft()
            self._done += 1
