"""Sleeping in one thread until a socket, another thread or the time has something to do."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable

LOOK_UP_S = 1.0
"""A main thread sleeps no longer at once: a signal that comes just before it sleeps does not wake it."""


class Waiting:
    """A bell that any thread may ring, and at most one socket to watch. All but ``ring`` belong to one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._bell, self._cord = socket.socketpair()
        self._bell.setblocking(False)
        self._cord.setblocking(False)
        self._asleep = False
        self._watched: socket.socket | None = None
        self._selector.register(self._bell, selectors.EVENT_READ)

    def ring(self) -> None:
        """Wake the sleeper. Costs next to nothing while it is awake."""
        if self._asleep:
            with contextlib.suppress(OSError):  # full: it wakes anyway; closed: nobody sleeps any more
                self._cord.send(b"\0")

    def watch(self, sock: socket.socket) -> None:
        """Wait for this socket too."""
        self._selector.register(sock, selectors.EVENT_READ)
        self._watched = sock

    def forget(self) -> None:
        """Stop watching; the socket may be closed already."""
        if self._watched is not None:
            self._selector.unregister(self._watched)
            self._watched = None

    def wait(
        self, timeout_s: float, busy: Callable[[], bool] = lambda: False, writing: bool = False
    ) -> tuple[bool, bool]:
        """Whether the watched socket is readable, writable. Returns at once if ``busy()``.

        ``busy`` is asked after the bell is armed, so that work queued just before the sleep is not overslept.
        """
        if self._watched is not None:
            interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            if self._selector.get_key(self._watched).events != interest:
                self._selector.modify(self._watched, interest)
        self._asleep = True
        events = self._selector.select(0.0 if busy() else max(0.0, timeout_s))
        self._asleep = False
        readiness = 0
        for key, mask in events:
            if key.fileobj is self._bell:
                self._bell.recv(4096)
            else:
                readiness |= mask
        return bool(readiness & selectors.EVENT_READ), bool(readiness & selectors.EVENT_WRITE)

    def sleep(self, seconds: float, enough: Callable[[], bool]) -> None:
        """Sleep this long, or until ``enough()`` and the bell rings."""
        until = time.monotonic() + seconds
        while not enough() and (left := until - time.monotonic()) > 0:
            self.wait(left, enough)

    def close(self) -> None:
        """Let go of everything."""
        self._selector.close()
        self._bell.close()
        self._cord.close()
