"""MQTT packets on the way to a client, delivered twice, out of order, or again a round later. Pure.

A copy is the same PUBLISH with quality of service 0, which has no packet id: so it breaks no rule of the protocol,
and no peer can tell it from a message that a broker delivered once more. (MQTT 5, sections 2.1 and 3.3.)
"""

from __future__ import annotations

import random
from collections import deque

PUBLISH, QOS_BITS, DUP_BIT = 0x30, 0x06, 0x08
MOST_REMEMBERED = 16 << 20
"""Bytes kept for a later replay; older frames are forgotten first."""
OUT_OF_ORDER = 0.25
"""The share of frames that are held back until the next one has gone."""


class NotMqtt(ValueError):
    """The stream is no sequence of MQTT packets."""


class Packets:
    """Cuts a stream into whole packets."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that ``data`` completes. Raises NotMqtt."""
        self._rest += data
        found, at = [], 0
        while (end := _end_of_packet(self._rest, at)) is not None and end <= len(self._rest):
            found.append(bytes(self._rest[at:end]))
            at = end
        del self._rest[:at]
        return found


def _end_of_packet(stream: bytearray, at: int) -> int | None:
    """Where the packet that begins at ``at`` ends; None if its length is not all here."""
    length = 0
    for place in range(4):
        if at + 1 + place >= len(stream):
            return None
        digit = stream[at + 1 + place]
        length |= (digit & 0x7F) << (7 * place)
        if not digit & 0x80:
            return at + 2 + place + length
    raise NotMqtt("a remaining length of five digits")


def copy_of(packet: bytes) -> bytes | None:
    """The PUBLISH once more, as one without a packet id; None for every other packet."""
    head = packet[0]
    if head & 0xF0 != PUBLISH:
        return None
    start = 1
    while packet[start] & 0x80:
        start += 1
    body = packet[start + 1 :]
    topic_end = 2 + int.from_bytes(body[:2], "big")
    behind = body[topic_end + 2 :] if head & QOS_BITS else body[topic_end:]
    plain = body[:topic_end] + behind
    return bytes([head & ~(QOS_BITS | DUP_BIT)]) + _length(len(plain)) + plain


def _length(value: int) -> bytes:
    digits = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        digits.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(digits)


class Doubling:
    """What happens to the packets of one connection while frames are doubled."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._held: list[bytes] = []
        self._seen: deque[bytes] = deque()
        self._seen_bytes = 0
        self.copies = 0

    def deliver(self, packet: bytes) -> list[bytes]:
        """What is delivered now that ``packet`` has come: with its copy, or nothing yet, or with what was held."""
        copy = copy_of(packet)
        if copy is None:
            return [packet]
        self._remember(copy)
        self.copies += 1
        if not self._held and self._rng.random() < OUT_OF_ORDER:
            self._held = [packet, copy]
            return []
        return [packet, copy, *self.release()]

    @property
    def holding(self) -> bool:
        """Whether something waits for the next frame; call :meth:`release` if none comes."""
        return bool(self._held)

    def release(self) -> list[bytes]:
        """What was held back."""
        held, self._held = self._held, []
        return held

    def replay(self) -> list[bytes]:
        """Every frame since the last replay once more, in another order."""
        again = list(self._seen)
        self._seen.clear()
        self._seen_bytes = 0
        self._rng.shuffle(again)
        self.copies += len(again)
        return again

    def _remember(self, copy: bytes) -> None:
        self._seen.append(copy)
        self._seen_bytes += len(copy)
        while self._seen_bytes > MOST_REMEMBERED:
            self._seen_bytes -= len(self._seen.popleft())
