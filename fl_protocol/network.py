"""What an owner knows of the network: four events, and what it may ask for. No paho, no socket."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fl_protocol.errors import HilumError

Payload = bytes | Callable[[], bytes]
"""Bytes, or what makes them when their turn has come: a 45 MB model is never queued as bytes."""


@dataclass(frozen=True)
class Will:
    """What the broker publishes, retained, when this connection dies without a farewell."""

    topic: str
    payload: bytes | Callable[[int], bytes]
    """A callable is given the number of the connection: a will that is told late can be known for an old one."""


@dataclass(frozen=True)
class Limits:
    """What else a broker announces of itself (MQTT 5); one of 3.1.1 says nothing, and nothing is known to be missing."""

    receive_maximum: int | None = None
    retains: bool = True
    max_qos: int = 2
    wildcards: bool = True


@dataclass(frozen=True)
class Connected:
    """The broker is there; subscriptions are renewed. ``max_packet_bytes`` if it announced one (MQTT 5)."""

    protocol: str
    max_packet_bytes: int | None
    limits: Limits = field(default=Limits(), compare=False)
    number: int = field(default=0, compare=False)
    """Of this connection among all that the transport tried; its will was made with it."""


@dataclass(frozen=True)
class Disconnected:
    """The broker went away or never was there. ``fatal``: trying again cannot help, and we do not."""

    reason: str
    fatal: HilumError | None = None


@dataclass(frozen=True)
class Received:
    """A message. ``retained``: the broker had stored it before we subscribed."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True)
class Undelivered:
    """A publish or subscribe that the broker, its limits or a vanished payload forbade."""

    topic: str
    reason: str


Event = Connected | Disconnected | Received | Undelivered
"""What an owner is told."""


class Transport(Protocol):
    """What the shells of both sides need of a network; a test may put a simulated one in its place."""

    def start(self) -> None:
        """Begin to connect, in the background."""

    def publish(self, topic: str, payload: Payload, *, retain: bool = False, bulk: bool = False) -> None:
        """Send at least once, now or when connected; ``bulk`` gives way to everything else."""

    def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe now and after every reconnect."""

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Undo ``subscribe``."""

    def backlog(self) -> int:
        """Messages queued or unacknowledged."""

    def close(self, farewell: Sequence[tuple[str, bytes, bool]] = (), timeout_s: float = 5.0) -> bool:
        """Send what waits and the farewell, leave without a will; whether all of it was acknowledged."""
