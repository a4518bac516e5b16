"""The shell around following.py: a thread that reads a job's topics and keeps its newest models on disk."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from edge_client import events as ev
from edge_client.following import Arrived, Following, Refused, Told
from edge_client.frames import event_of
from edge_client.store import Store, raise_unless_full
from fl_protocol.broker import BrokerOptions
from fl_protocol.codec import decode
from fl_protocol.errors import ConfigError, DecodeError, HilumError
from fl_protocol.network import Connected, Disconnected, Received
from fl_protocol.topics import Kind, parse, reader_filters
from fl_protocol.transport import MqttTransport

INBOX = 64
DELIVERY_S = 0.2
NEWS = (Arrived, Told, Refused)
_END = object()


class Follower:
    """``news`` hears of models, ``say`` how the connection stands, ``fatal`` of what no waiting mends; on its thread."""

    def __init__(
        self, broker: BrokerOptions, job: str, store: Store, news: Callable[[Any], None], say: Callable[[str], None],
        fatal: Callable[[HilumError], None],
    ) -> None:  # fmt: skip
        self._where, self._job, self._store = broker.where, job, store
        self._news, self._say, self._fatal = news, say, fatal
        self._following = Following(job, store.digests())
        self._inbox: queue.Queue[Any] = queue.Queue(INBOX)
        name = f"hilum-room-{secrets.token_hex(4)}"
        self._transport = MqttTransport(broker, name, None, partial(self._inbox.put, timeout=DELIVERY_S))
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._ending = False

    def start(self) -> None:
        """Connect, and read from now on."""
        self._say(f"looking for the broker at {self._where}")
        self._transport.subscribe(reader_filters(self._job))
        self._transport.start()
        self._thread.start()

    def stop(self) -> None:
        """End in order."""
        self._ending = True
        with contextlib.suppress(queue.Full):
            self._inbox.put(_END, timeout=1.0)
        self._thread.join(5.0)
        self._transport.close(timeout_s=2.0)

    def _run(self) -> None:
        try:
            while not self._ending:
                self._take(self._next())
        except HilumError as error:
            self._fatal(error)
        except OSError as error:
            where = error.filename or self._store.workdir
            self._fatal(ConfigError(f"{where}: {error.strerror or error}"))

    def _next(self) -> Any:
        wait = max(0.0, min(self._following.deadline - time.monotonic(), 3600.0))
        try:
            return self._inbox.get(timeout=wait)
        except queue.Empty:
            return ev.Ticked()

    def _take(self, item: Any) -> None:
        event = item
        if isinstance(item, Connected):
            self._say(f"job {self._job} at {self._where}")
            event = ev.BrokerConnected(item.max_packet_bytes)
        elif isinstance(item, Disconnected):
            if item.fatal is not None:
                raise item.fatal
            self._say(f"no connection to the broker at {self._where} ({item.reason}): tried again by itself")
            event = ev.BrokerLost(item.reason)
        elif isinstance(item, Received):
            event = self._decoded(item)
        if event is not None and event is not _END:
            self._handle(event)

    def _decoded(self, item: Received) -> Any:
        try:
            topic = parse(item.topic)
            return event_of(topic, decode(item.payload, topic.kind)) if item.payload else None
        except DecodeError as error:
            with contextlib.suppress(DecodeError):
                topic = parse(item.topic)
                if topic.kind is Kind.MODEL:
                    self._news(Refused(topic.digest, f"its manifest cannot be true: {error}"))
            return None

    def _handle(self, first: Any) -> None:
        """Perform what is decided, and tell the following at once what came of that."""
        pending: deque[Any] = deque([first])
        while pending:
            for effect in self._following.handle(pending.popleft(), time.monotonic()):
                if isinstance(effect, NEWS):
                    self._news(effect)
                else:
                    pending.extend(_PERFORM[type(effect)](self, effect) or ())

    # --- effects ------------------------------------------------------------------------------------------

    def _subscribe(self, effect: ev.Subscribe) -> None:
        self._transport.subscribe(effect.topics)

    def _unsubscribe(self, effect: ev.Unsubscribe) -> None:
        self._transport.unsubscribe(effect.topics)

    def _find(self, effect: ev.FindModel) -> list[Any]:
        found = self._store.has_model(effect.digest)
        return [ev.ModelFound(effect.digest) if found else ev.ModelMissing(effect.digest)]

    def _open_part(self, effect: ev.OpenPart) -> list[Any]:
        try:
            return [ev.PartOpened(effect.digest, self._store.open_part(effect.digest, effect.manifest))]
        except OSError as error:
            return self._unwritable(effect.digest, error)

    def _write_leaf(self, effect: ev.WriteLeaf) -> list[Any]:
        try:
            self._store.write_leaf(effect.digest, effect.offset, effect.data)
        except OSError as error:
            return self._unwritable(effect.digest, error)
        return []

    def _seal(self, effect: ev.SealModel) -> list[Any]:
        try:
            gone = self._store.seal(effect.digest)
        except OSError as error:
            return self._unwritable(effect.digest, error)
        self._store.sweep()
        return [*(ev.ModelMissing(digest) for digest in gone), ev.ModelFound(effect.digest)]

    def _unwritable(self, digest: str, error: OSError) -> list[Any]:
        raise_unless_full(error)
        return [ev.ModelUnwritable(digest, f"{error.strerror} in {self._store.workdir}")]

    def _tell(self, effect: ev.Tell) -> None:
        text = getattr(effect.notice, "text", "")
        if text:
            self._say(f"job {self._job} at {self._where}: {text}")


_PERFORM: dict[type[Any], Callable[[Follower, Any], list[Any] | None]] = {
    ev.Subscribe: Follower._subscribe,
    ev.Unsubscribe: Follower._unsubscribe,
    ev.FindModel: Follower._find,
    ev.OpenPart: Follower._open_part,
    ev.WriteLeaf: Follower._write_leaf,
    ev.SealModel: Follower._seal,
    ev.Tell: Follower._tell,
}
