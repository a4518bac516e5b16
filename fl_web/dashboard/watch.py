"""The dashboard's ear and voice at the broker: one more subscriber, in the connection's own thread.

It may start before the broker does, and tries for ever: a page that says "the broker is away" is worth more than none.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable

from fl_protocol.broker import BrokerOptions
from fl_protocol.codec import encode
from fl_protocol.messages import Answer, Command
from fl_protocol.network import Connected, Disconnected, Event, Received
from fl_protocol.topics import Kind, Topic, operator_filters
from fl_protocol.transport import MqttTransport
from fl_web.dashboard.view import View

AGAIN_S = 5.0
"""After what the transport calls final (a host that has no name yet, a login that is not known yet) we try anew."""


class Watch:
    """Frames go into a view under a lock. ``on_change`` and ``on_answer`` are called in the connection's thread."""

    def __init__(self, options: BrokerOptions, only: str | None = None) -> None:
        self._options, self._only = options, only
        self.on_change: Callable[[], None] = lambda: None
        self.on_answer: Callable[[str, Answer], None] = lambda _job, _answer: None
        self.lock = threading.Lock()
        self.view = View(options.where, only)
        self._closed = threading.Event()
        self._again = threading.Event()
        self._transport = self._connection()
        self._thread = threading.Thread(target=self._begin_again, name="watch", daemon=True)

    def _connection(self) -> MqttTransport:
        transport = MqttTransport(
            self._options, f"hilum-dashboard-{secrets.token_hex(6)}", None, self._deliver
        )
        transport.subscribe(operator_filters(self._only or "+"))
        return transport

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._transport.start()
        self._thread.start()

    def close(self) -> None:
        """Leave the broker."""
        self._closed.set()
        self._again.set()
        self._transport.close(timeout_s=1.0)

    def ask(self, job: str, command: Command) -> None:
        """Publish a command; the answer comes to ``on_answer``."""
        self._transport.publish(str(Topic(job, Kind.COMMAND)), encode(command))

    def since(self, version: int) -> tuple[int, int, dict[str, str]]:
        """Version and epoch of what is known, and the parts that changed since ``version``."""
        with self.lock:
            parts = self.view.parts
            return parts.version, parts.epoch, parts.since(version)

    def _begin_again(self) -> None:
        while True:
            self._again.wait()
            if self._closed.wait(AGAIN_S):
                return
            self._again.clear()
            self._transport.close(timeout_s=0.5)
            self._transport = self._connection()
            self._transport.start()

    def _deliver(self, event: Event) -> None:
        now = time.time()
        with self.lock:
            if isinstance(event, Received):
                message = self.view.take(event.topic, event.payload, event.retained, now)
            else:
                message = None
                self._connection_told(event, now)
        if isinstance(message, Answer):
            self.on_answer(event.topic.split("/")[2] if isinstance(event, Received) else "", message)
        self.on_change()

    def _connection_told(self, event: Event, now: float) -> None:
        if isinstance(event, Connected):
            self.view.connected(now)
        elif isinstance(event, Disconnected):
            self.view.disconnected(str(event.fatal) if event.fatal is not None else event.reason)
            if event.fatal is not None:
                self._again.set()
