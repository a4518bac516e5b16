"""The shell around a session: one thread that owns everything, one queue that feeds it.

The broker's thread and the task process's reader only put into the queue; this thread alone decides (session.py),
writes to disk, publishes, and starts or ends the task process, which is let go when there is nothing for it to do.
"""

from __future__ import annotations

import logging
import queue
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from edge_client import events as ev
from edge_client import notices
from edge_client.frames import chunk_frame, event_of
from edge_client.kept import Kept
from edge_client.notices import View
from edge_client.session import Session
from edge_client.site import Site
from edge_client.store import Store, raise_unless_full
from edge_client.trainer import REPLIES, Trainer
from fl_protocol.codec import decode, encode
from fl_protocol.errors import AccessRefused, BrokerUnavailable, ConfigError, DecodeError, HilumError
from fl_protocol.messages import LOST, ClientState, state_seq
from fl_protocol.modelfile import read_header
from fl_protocol.network import Connected, Disconnected, Received, Transport, Undelivered, Will
from fl_protocol.topics import Kind, Topic, client_filters, parse
from fl_protocol.transport import MqttTransport
from fl_protocol.waiting import LOOK_UP_S
from fl_tasks import jobs

log = logging.getLogger("hilum.edge")

INBOX = 64
"""Events that may wait: a chunk is at most 256 KiB, so 16 MiB; then the broker is made to wait."""

IDLE_S = 60.0
DELIVERY_S = 0.2
MAX_CHORES = 16
LEISURE_S = 0.05
"""So long nothing must have happened before files are tidied up: deleting one may take as long as sending one."""
INTERRUPTED = 130


class _Stopped(Exception):
    """A signal asked us to end."""


class Agent:
    """One edge process. Make it and call :meth:`run` in the main thread."""

    def __init__(self, site: Site, view: View, idle_s: float = IDLE_S) -> None:
        self.site, self.view = site, view
        self.instance = secrets.token_hex(8)
        self.store = Store(site.workdir)
        self.kept = Kept(site.workdir / "kept" / site.job)
        kept, accepted = self.store.load_update() or (None, False)
        self.session = Session(
            site.job, site.client, self.instance, models=self.store.digests(), kept=kept,
            kept_accepted=accepted, folder=site.data or "", private=site.private_metrics,
        )  # fmt: skip
        self.bad_frames = 0
        self._inbox: queue.Queue[Any] = queue.Queue(INBOX)
        self._transport: Transport = self._make_transport()
        deliver = partial(self._inbox.put, timeout=DELIVERY_S)
        self._trainer = Trainer(site, self.store, self.kept, deliver, idle_s)
        self._payload_offsets: dict[str, int] = {}
        self._left: ev.Leave | None = None
        self._ever_connected = False
        self._connected = False
        self._last_reason = ""
        self._started = time.monotonic()
        self._signal: int | None = None
        self._waiting = False
        self._chores: list[ev.DropUpdate | ev.KeepAccepted] = []
        self._untidy = False

    def _make_transport(self) -> Transport:
        will = Will(self._topic(Kind.STATE), self._last_words)
        name = f"{self.site.client}-{self.instance[:8]}"
        return MqttTransport(self.site.broker, name, will, partial(self._inbox.put, timeout=DELIVERY_S))

    def _last_words(self, connection: int) -> bytes:
        return encode(ClientState(self.instance, LOST, seq=state_seq(connection)))

    def _topic(self, kind: Kind) -> str:
        return str(Topic(self.site.job, kind, client=self.site.client))

    # --- the loop -----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until the job is finished or a signal comes; returns the exit code. Raises HilumError."""
        before = {name: signal.signal(name, self._on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.view.show(notices.ConnectionTried(self.site.broker.where))
            self._transport.subscribe(client_filters(self.site.job, self.site.client))
            self._transport.start()
            self._loop()
        except OSError as error:
            raise ConfigError(f"{error.filename or self.site.workdir}: {error.strerror or error}") from None
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)  # a second Ctrl-C ends the farewell
            self._end()
        if self._left is None:
            return 0 if self._signal == signal.SIGTERM else INTERRUPTED
        if self._left.error is not None:
            raise self._left.error
        self._show_finished(self._left)
        return 0

    def _loop(self) -> None:
        while self._left is None:
            self._waiting = True
            try:
                if self._signal is not None:
                    return
                patience = min(self._patience(), LEISURE_S) if self._untidy else self._patience()
                item = self._inbox.get(timeout=patience)
            except queue.Empty:
                item = None
            except _Stopped:
                return
            finally:
                self._waiting = False
            self._take(item)
            if (item is None and self._untidy) or len(self._chores) > MAX_CHORES:
                self._tidy()

    def _patience(self) -> float:
        now = time.monotonic()
        instants = [self.session.deadline(), self._trainer.deadline(now)]
        if self._waits_for_broker:
            instants.append(self._started + self.site.connect_timeout_s)
        return min(max(0.0, min(instants) - now), LOOK_UP_S)

    @property
    def _waits_for_broker(self) -> bool:
        return not self._ever_connected and self.site.connect_timeout_s > 0

    def _take(self, item: Any) -> None:
        handler = _ON.get(type(item))
        event = handler(self, item) if handler else None
        if event is not None:
            self._handle(event)
        now = time.monotonic()
        if now >= self.session.deadline():
            self._handle(ev.Ticked(self._transport.backlog()))
        if self._waits_for_broker and now >= self._started + self.site.connect_timeout_s:
            raise self._no_broker()
        self._trainer.let_go_if_idle(now, needed=self.session.working)

    def _handle(self, first: ev.Event) -> None:
        """Let the session decide, perform what it wants, and tell it at once what came of that."""
        pending: deque[ev.Event] = deque([first])
        while pending and self._left is None:
            for effect in self.session.handle(pending.popleft(), time.monotonic()):
                pending.extend(_PERFORM[type(effect)](self, effect) or ())

    def _no_broker(self) -> BrokerUnavailable:
        where, waited = self.site.broker.where, self.site.connect_timeout_s
        why = f" ({self._last_reason})" if self._last_reason else ""
        return BrokerUnavailable(
            f"no broker answered at {where} within {waited:g} s{why}: check --broker and that it runs, "
            "or wait longer with --connect-timeout"
        )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        if self._waiting:
            raise _Stopped

    def _end(self) -> None:
        """Nothing of ours runs on, and the aggregator knows that we left."""
        self._trainer.stop()
        self._tidy()
        farewell = [(self._topic(Kind.STATE), encode(self.session.farewell()), True)]
        self._transport.close(farewell if self.session.link.welcomed else [])
        self.store.close()
        if self.bad_frames > 1:
            self.view.show(notices.Warned(f"{self.bad_frames} unusable messages have arrived"))
        self.view.close()

    def _show_finished(self, left: ev.Leave) -> None:
        last = self.session.round
        rounds, reason = (last.round_number, last.reason) if last else (0, "")
        model = self.store.model_path(left.model) if left.model else None
        own = self.kept.site_model(model, self.site.workdir / "site.safetensors") if model else None
        self.view.show(notices.Finished(rounds, reason or "all rounds have ended", str(own or model or "")))

    # --- the network --------------------------------------------------------------------------------------

    def _on_connected(self, item: Connected) -> ev.Event:
        self._ever_connected = self._connected = True
        self.view.show(notices.Connected(self.site.broker.where, item.protocol))
        return ev.BrokerConnected(item.max_packet_bytes, self._transport.backlog(), item.number)

    def _on_disconnected(self, item: Disconnected) -> ev.Event:
        if item.fatal is not None:
            raise item.fatal
        if self._connected or item.reason != self._last_reason:
            self.view.show(notices.Disconnected(item.reason, self._ever_connected))
        self._connected, self._last_reason = False, item.reason
        return ev.BrokerLost(item.reason)

    def _on_undelivered(self, item: Undelivered) -> None:
        if "/chunk/" in item.topic and self.session.outbox.upload is None:
            return  # chunks of an update that was answered and deleted while they waited
        if "Not authorized" in item.reason and not self.session.link.welcomed:
            who = self.site.broker.username or "this connection"
            raise AccessRefused(
                f"the broker does not let {who!r} speak as {self.site.client!r}: give --client-id as the broker "
                "knows this site"
            )
        self.view.show(notices.Warned(f"not delivered: {item.topic}: {item.reason}"))

    def _on_received(self, item: Received) -> ev.Event | None:
        try:
            topic = parse(item.topic)
            if not item.payload and topic.kind in (Kind.MODEL, Kind.BLOCK, Kind.ROUND, Kind.AGG):
                return None  # a retained message was cleared
            return event_of(topic, decode(item.payload, topic.kind))
        except DecodeError as error:
            self.bad_frames += 1
            log.debug("bad frame on %s: %s", item.topic, error)
            if self.bad_frames == 1:
                self.view.show(notices.Warned(f"unusable messages arrive, first on {item.topic}: {error}"))
            return None

    def _on_reply(self, item: jobs.Reply) -> ev.Event | None:
        return self._trainer.event_of(item)

    # --- effects ------------------------------------------------------------------------------------------

    def _subscribe(self, effect: ev.Subscribe) -> None:
        self._transport.subscribe(effect.topics)

    def _unsubscribe(self, effect: ev.Unsubscribe) -> None:
        self._transport.unsubscribe(effect.topics)

    def _send(self, effect: ev.Send) -> None:
        self._transport.publish(effect.topic, encode(effect.message), retain=effect.retain)

    def _payload_offset(self, file: str) -> int:
        """Where the payload begins in the file of the update under way."""
        if file not in self._payload_offsets:
            self._payload_offsets = {file: read_header(Path(file)).offset}
        return self._payload_offsets[file]

    def _send_chunks(self, effect: ev.SendChunks) -> None:
        manifest, file = effect.update.manifest, effect.update.file
        start = self._payload_offset(file)
        for index in effect.indexes:
            offset, length = manifest.chunk_span(index)
            self._transport.publish(
                effect.topic, partial(chunk_frame, file, start + offset, length, index), bulk=True
            )

    def _find_model(self, effect: ev.FindModel) -> list[ev.Event]:
        found = self.store.has_model(effect.digest)
        return [ev.ModelFound(effect.digest) if found else ev.ModelMissing(effect.digest)]

    def _open_part(self, effect: ev.OpenPart) -> list[ev.Event]:
        try:
            return [ev.PartOpened(effect.digest, self.store.open_part(effect.digest, effect.manifest))]
        except OSError as error:
            return self._unwritable(effect.digest, error)

    def _write_leaf(self, effect: ev.WriteLeaf) -> list[ev.Event]:
        try:
            self.store.write_leaf(effect.digest, effect.offset, effect.data)
        except OSError as error:
            return self._unwritable(effect.digest, error)
        return []

    def _unwritable(self, digest: str, error: OSError) -> list[ev.Event]:
        raise_unless_full(error)
        return [ev.ModelUnwritable(digest, f"{error.strerror} in {self.site.workdir}")]

    def _seal_model(self, effect: ev.SealModel) -> list[ev.Event]:
        try:
            gone = self.store.seal(effect.digest)
        except OSError as error:
            return self._unwritable(effect.digest, error)
        self._untidy = True
        return [*(ev.ModelMissing(digest) for digest in gone), ev.ModelFound(effect.digest)]

    def _prepare(self, effect: ev.PrepareData) -> None:
        self._trainer.prepare(effect)

    def _train(self, effect: ev.StartTraining) -> None:
        out = str(self.store.update_path(effect.assignment))
        if any(chore.update.file == out for chore in self._chores):
            self._tidy()
        self._trainer.train(effect)

    def _score(self, effect: ev.StartScoring) -> None:
        self._trainer.score(effect)

    def _cancel(self, effect: ev.CancelTraining) -> None:
        self._trainer.cancel()

    def _drop(self, effect: ev.DropUpdate) -> None:
        self._chores.append(effect)
        self._untidy = True

    def _keep_accepted(self, effect: ev.KeepAccepted) -> None:
        self.kept.accept(
            effect.update.round_number, effect.update.file
        )  # before anything is trained on top of it
        self._chores.append(effect)
        self._untidy = True

    def _tidy(self) -> None:
        """What the next round need not wait for. Lost in a crash, it costs an offer that changes nothing."""
        chores, self._chores, self._untidy = self._chores, [], False
        for chore in chores:
            if isinstance(chore, ev.DropUpdate):
                self.store.drop_update(chore.update)
                continue
            try:
                self.store.keep_accepted(chore.update)
            except OSError as error:
                raise_unless_full(error)
        self.store.sweep()

    def _leave(self, effect: ev.Leave) -> None:
        self._left = effect

    def _tell(self, effect: ev.Tell) -> None:
        self.view.show(effect.notice)


_ON: dict[type[Any], Callable[[Agent, Any], ev.Event | None]] = {
    Connected: Agent._on_connected,
    Disconnected: Agent._on_disconnected,
    Undelivered: Agent._on_undelivered,
    Received: Agent._on_received,
    **dict.fromkeys(REPLIES, Agent._on_reply),
}

_PERFORM: dict[type[Any], Callable[[Agent, Any], list[ev.Event] | None]] = {
    ev.Subscribe: Agent._subscribe,
    ev.Unsubscribe: Agent._unsubscribe,
    ev.Send: Agent._send,
    ev.SendChunks: Agent._send_chunks,
    ev.FindModel: Agent._find_model,
    ev.OpenPart: Agent._open_part,
    ev.WriteLeaf: Agent._write_leaf,
    ev.SealModel: Agent._seal_model,
    ev.PrepareData: Agent._prepare,
    ev.StartTraining: Agent._train,
    ev.StartScoring: Agent._score,
    ev.CancelTraining: Agent._cancel,
    ev.DropUpdate: Agent._drop,
    ev.KeepAccepted: Agent._keep_accepted,
    ev.Leave: Agent._leave,
    ev.Tell: Agent._tell,
}


def run(site: Site, view: View) -> int:
    """Join, work until the job is over, and return the exit code."""
    try:
        return Agent(site, view).run()
    except HilumError:
        view.close()
        raise
