"""A doctor's hands, and whoever only looks: facts about the way to a broker, a connection for a few questions, and a trial of a folder.

Everything waits within bounds. What the facts mean is said in doctor.py.
"""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fl_protocol import doctor as dr
from fl_protocol.broker import BrokerOptions, tls_context
from fl_protocol.errors import BrokerUnavailable
from fl_protocol.network import Connected, Disconnected, Received, Undelivered
from fl_protocol.transport import MqttTransport

LOOKUP_S, TCP_S, CONNECT_S = 10.0, 5.0, 12.0
TRIES = 2
"""Connections that may fail before it is believed: a person waits."""
ROOM = 64
MOST_FRAMES = 1000
DROPPED = "$SYS/broker/publish/messages/dropped"
TRIAL_BYTES = 64 * 1024


def path_to(options: BrokerOptions) -> Iterator[dr.Finding]:
    """Name, TCP and TLS, one after the other; it ends with the first that fails."""
    try:
        addresses = _look_up(options)
        yield dr.judge_lookup(options, addresses)
    except OSError as error:
        yield dr.judge_unreachable("name", options, error)
        return
    began = time.monotonic()
    try:
        sock = socket.create_connection((options.host, options.port), TCP_S)
    except OSError as error:
        yield dr.judge_unreachable("tcp", options, error)
        return
    with sock:
        took_ms = 1000 * (time.monotonic() - began)
        yield dr.ok("tcp", f"{options.where} answers after {max(1.0, took_ms):.0f} ms")
        if options.encrypted:
            yield _shake_hands(options, sock)


def _look_up(options: BrokerOptions) -> list[str]:
    """The host's addresses. The system's resolver knows no time-out of ours, so it is left behind after LOOKUP_S."""
    found: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            rows = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
            found.put(list(dict.fromkeys(str(row[4][0]) for row in rows)))
        except OSError as error:
            found.put(error)

    threading.Thread(target=resolve, name="lookup", daemon=True).start()
    try:
        answer = found.get(timeout=LOOKUP_S)
    except queue.Empty:
        raise TimeoutError(f"no answer about {options.host} within {LOOKUP_S:g} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _shake_hands(options: BrokerOptions, sock: socket.socket) -> dr.Finding:
    """A TLS handshake on ``sock``. Raises ConfigError for files that cannot be used."""
    context = tls_context(options)
    assert context is not None
    try:
        with context.wrap_socket(sock, server_hostname=options.host) as secure:
            ends = secure.getpeercert() or {}
            left_s = (
                ssl.cert_time_to_seconds(str(ends["notAfter"])) - time.time() if "notAfter" in ends else None
            )
            days = None if left_s is None else left_s / dr.DAY_S
            return dr.judge_certificate(options, secure.version() or "TLS", days)
    except OSError as error:
        return dr.judge_unreachable("tls", options, error)


class Visit:
    """A connection that asks a few questions and leaves: what came, what the broker refused, and how to wait for it."""

    def __init__(self, options: BrokerOptions, client_id: str, most_frames: int = MOST_FRAMES) -> None:
        self.options, self.most_frames = options, most_frames
        self.instance = secrets.token_hex(8)
        self.received: list[Received] = []
        self.undelivered: list[Undelivered] = []
        self.lost = 0
        """Connections that ended meanwhile: a broker hangs up on what is too large for it."""
        self._inbox: queue.Queue[Any] = queue.Queue(ROOM)
        deliver = partial(self._inbox.put, timeout=0.2)
        self.transport = MqttTransport(options, f"{client_id}-{self.instance[:8]}", None, deliver)

    def __enter__(self) -> Visit:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close(timeout_s=2.0)

    def connect(self, timeout_s: float = CONNECT_S) -> Connected:
        """Connect. Raises what the transport calls fatal, or BrokerUnavailable."""
        self.transport.start()
        until, reason, tries = time.monotonic() + timeout_s, "no answer", 0
        while tries < TRIES and (item := self._next(until)) is not None:
            if isinstance(item, Connected):
                return item
            if isinstance(item, Disconnected):
                if item.fatal is not None:
                    raise item.fatal
                reason, tries = item.reason, tries + 1
        raise BrokerUnavailable(
            f"no MQTT broker at {self.options.where} ({reason}): start one, or check --broker"
        )

    def wait(self, enough: Callable[[], bool], timeout_s: float) -> bool:
        """Take in what comes until ``enough()``, ``timeout_s`` at most. Raises what the transport calls fatal."""
        until = time.monotonic() + timeout_s
        while not enough():
            item = self._next(min(until, time.monotonic() + 0.05))
            if item is None and time.monotonic() >= until:
                return False
            self._take(item)
        return True

    def listen(self, quiet_s: float, longest_s: float) -> None:
        """Take in what comes until ``quiet_s`` passed without news, ``longest_s`` at most. Raises as :meth:`wait`."""
        until = time.monotonic() + longest_s
        while (
            item := self._next(min(until, time.monotonic() + quiet_s))
        ) is not None and time.monotonic() < until:
            self._take(item)

    def _take(self, item: Any) -> None:
        if isinstance(item, Disconnected):
            self.lost += 1
            if item.fatal is not None:
                raise item.fatal
        elif isinstance(item, Received) and len(self.received) < self.most_frames:
            self.received.append(item)
        elif isinstance(item, Undelivered):
            self.undelivered.append(item)

    def _next(self, until: float) -> Any:
        try:
            return self._inbox.get(timeout=max(0.001, until - time.monotonic()))
        except queue.Empty:
            return None

    def ask(self, filters: Sequence[str]) -> None:
        """Subscribe."""
        self.transport.subscribe(filters)

    def dropped(self) -> int | None:
        """What mosquitto says it has dropped, if it was asked for and this login may read it."""
        for frame in self.received:
            if frame.topic == DROPPED:
                with contextlib.suppress(ValueError):
                    return int(frame.payload[:20])
        return None


def write_trial(folder: Path) -> OSError | None:
    """Whether ``folder`` can be made and written, tried for real; nothing of the trial is left."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        for place in missing:
            with contextlib.suppress(OSError):
                place.rmdir()
    return None


def free_bytes(folder: Path) -> int:
    """Room on the disk that holds ``folder``, or will."""
    standing = next((place for place in (folder, *folder.resolve().parents) if place.exists()), Path("/"))
    try:
        return shutil.disk_usage(standing).free
    except OSError:
        return 0
