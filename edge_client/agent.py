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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from edge_client import events as ev
from edge_client import notices
from edge_client.console import View
from edge_client.frames import chunk_frame, event_of
from edge_client.kept import Kept, pending_of
from edge_client.session import Session
from edge_client.store import Store
from fl_protocol.broker import BrokerOptions
from fl_protocol.codec import decode, encode
from fl_protocol.errors import AccessRefused, BrokerUnavailable, ConfigError, DecodeError, HilumError
from fl_protocol.messages import LOST, ClientState, state_seq
from fl_protocol.modelfile import FULL_DISK, read_header
from fl_protocol.network import Connected, Disconnected, Received, Transport, Undelivered, Will
from fl_protocol.topics import Kind, Topic, client_filters, parse
from fl_protocol.transport import MqttTransport
from fl_tasks import jobs
from fl_tasks.process import TaskProcess

log = logging.getLogger("hilum.edge")

INBOX = 64
"""Events that may wait: a chunk is at most 256 KiB, so 16 MiB; then the broker is made to wait."""

IDLE_S = 60.0
DELIVERY_S = 0.2
LET_GO_S = 3.0
MAX_CHORES = 16
LEISURE_S = 0.05
"""So long nothing must have happened before files are tidied up: deleting one may take as long as sending one."""
INTERRUPTED = 130


@dataclass(frozen=True)
class EdgeOptions:
    """What an operator decides about an edge."""

    broker: BrokerOptions
    job: str
    client: str
    workdir: Path
    data: str | None = None
    shard: int = 1
    shards: int = 1
    partition: str = "iid"
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    plugin: str | None = None
    connect_timeout_s: float = 60.0
    private_metrics: bool = False


class _Stopped(Exception):
    """A signal asked us to end."""


class Agent:
    """One edge process. Make it and call :meth:`run` in the main thread."""

    def __init__(self, options: EdgeOptions, view: View, idle_s: float = IDLE_S) -> None:
        self.options, self.view, self.idle_s = options, view, idle_s
        self.instance = secrets.token_hex(8)
        self.store = Store(options.workdir)
        self.kept = Kept(options.workdir / "kept" / options.job)
        kept, accepted = self.store.load_update() or (None, False)
        self.session = Session(
            options.job, options.client, self.instance, models=self.store.digests(), kept=kept,
            kept_accepted=accepted, folder=options.data or "", private=options.private_metrics,
        )  # fmt: skip
        self.bad_frames = 0
        self._inbox: queue.Queue[Any] = queue.Queue(INBOX)
        self._transport: Transport = self._make_transport()
        self._trainer = TaskProcess(
            device=options.device, plugin=options.plugin, threads=options.threads,
            deliver=partial(self._inbox.put, timeout=DELIVERY_S),
        )  # fmt: skip
        self._trainings: dict[str, ev.StartTraining] = {}
        self._payload_offsets: dict[str, int] = {}
        self._left: ev.Leave | None = None
        self._ever_connected = False
        self._connected = False
        self._last_reason = ""
        self._idle_since = self._started = time.monotonic()
        self._signal: int | None = None
        self._waiting = False
        self._chores: list[ev.DropUpdate | ev.KeepAccepted] = []
        self._untidy = False

    def _make_transport(self) -> Transport:
        will = Will(self._topic(Kind.STATE), self._last_words)
        name = f"{self.options.client}-{self.instance[:8]}"
        return MqttTransport(self.options.broker, name, will, partial(self._inbox.put, timeout=DELIVERY_S))

    def _last_words(self, connection: int) -> bytes:
        return encode(ClientState(self.instance, LOST, seq=state_seq(connection)))

    def _topic(self, kind: Kind) -> str:
        return str(Topic(self.options.job, kind, client=self.options.client))

    # --- the loop -----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Serve until the job is finished or a signal comes; returns the exit code. Raises HilumError."""
        before = {name: signal.signal(name, self._on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.view.show(notices.ConnectionTried(self.options.broker.where))
            self._transport.subscribe(client_filters(self.options.job, self.options.client))
            self._transport.start()
            self._loop()
        except OSError as error:
            raise ConfigError(
                f"{error.filename or self.options.workdir}: {error.strerror or error}"
            ) from None
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
        instants = [self.session.deadline()]
        if self._trainer.running:
            instants.append(max(now + 1.0, self._idle_since + self.idle_s))
        if self._waits_for_broker:
            instants.append(self._started + self.options.connect_timeout_s)
        return min(max(0.0, min(instants) - now), 3600.0)

    @property
    def _waits_for_broker(self) -> bool:
        return not self._ever_connected and self.options.connect_timeout_s > 0

    def _take(self, item: Any) -> None:
        handler = _ON.get(type(item))
        event = handler(self, item) if handler else None
        if event is not None:
            self._handle(event)
        now = time.monotonic()
        if now >= self.session.deadline():
            self._handle(ev.Ticked(self._transport.backlog()))
        if self._waits_for_broker and now >= self._started + self.options.connect_timeout_s:
            raise self._no_broker()
        self._let_go_if_idle(now)

    def _handle(self, first: ev.Event) -> None:
        """Let the session decide, perform what it wants, and tell it at once what came of that."""
        pending: deque[ev.Event] = deque([first])
        while pending and self._left is None:
            for effect in self.session.handle(pending.popleft(), time.monotonic()):
                pending.extend(_PERFORM[type(effect)](self, effect) or ())

    def _no_broker(self) -> BrokerUnavailable:
        where, waited = self.options.broker.where, self.options.connect_timeout_s
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
        self._trainer.stop(LET_GO_S)
        self._tidy()
        farewell = [(self._topic(Kind.STATE), encode(self.session.farewell()), True)]
        self._transport.close(farewell if self.session.link.welcomed else [])
        self.store.close()
        if self.bad_frames > 1:
            self.view.show(notices.Warned(f"{self.bad_frames} unusable messages have arrived"))
        self.view.close()

    def _show_finished(self, left: ev.Leave) -> None:
        rounds, reason = (
            (self.session.round.round_number, self.session.round.reason) if self.session.round else (0, "")
        )
        model = self.store.model_path(left.model) if left.model else None
        own = self.kept.site_model(model, self.options.workdir / "site.safetensors") if model else None
        self.view.show(notices.Finished(rounds, reason or "all rounds have ended", str(own or model or "")))

    # --- the network --------------------------------------------------------------------------------------

    def _on_connected(self, item: Connected) -> ev.Event:
        self._ever_connected = self._connected = True
        self.view.show(notices.Connected(self.options.broker.where, item.protocol))
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
            who = self.options.broker.username or "this connection"
            raise AccessRefused(
                f"the broker does not let {who!r} speak as {self.options.client!r}: give --client-id as the broker "
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

    # --- the task process ---------------------------------------------------------------------------------

    def _let_go_if_idle(self, now: float) -> None:
        if self.session.working or self._trainer.busy or not self._trainer.running:
            self._idle_since = now
        elif now >= self._idle_since + self.idle_s:
            self._trainer.stop(LET_GO_S)

    def _on_prepared(self, item: jobs.Prepared) -> ev.Event:
        return ev.DataPrepared(item.summary, item.num_examples, item.device, tuple(item.problems))

    def _on_progress(self, item: jobs.TrainingProgress) -> ev.Event:
        return ev.TrainingProgressed(item.round_number, item.fraction, item.loss)

    def _on_trained(self, item: jobs.Trained) -> ev.Event | None:
        started = self._trainings.pop(item.out, None)
        if started is None:
            return None
        try:
            update = self.store.keep_update(started.assignment, item.num_examples, item.metrics)
        except OSError as error:
            _raise_unless_full(error)
            return ev.WorkFailed(item.round_number, f"the update cannot be kept: {error.strerror}")
        return ev.UpdateKept(update)

    def _on_scored(self, item: jobs.Scored) -> ev.Event:
        return ev.ModelScored(item.round_number, item.metrics)

    def _on_failed(self, item: jobs.Failed) -> ev.Event | None:
        if not item.request:
            return None  # an idle task process died: the next request starts another
        log.debug("%s failed (%s): %s", item.request, item.kind, item.message)
        lines = item.message.strip().splitlines() or [item.kind]
        reason = lines[-1] if item.kind == jobs.BUG else lines[0]
        return ev.WorkFailed(
            item.round_number, reason, data=item.kind == jobs.DATA, cancelled=item.kind == jobs.CANCELLED
        )

    def _data_options(self, task: str, image_size: int) -> jobs.DataOptions:
        it = self.options
        return jobs.DataOptions(
            task=task, data=it.data, image_size=image_size, cache=str(self.store.cache), shard=it.shard,
            shards=it.shards, partition=it.partition, seed=it.seed,
        )  # fmt: skip

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
        _raise_unless_full(error)
        return [ev.ModelUnwritable(digest, f"{error.strerror} in {self.options.workdir}")]

    def _seal_model(self, effect: ev.SealModel) -> list[ev.Event]:
        try:
            gone = self.store.seal(effect.digest)
        except OSError as error:
            return self._unwritable(effect.digest, error)
        self._untidy = True
        return [*(ev.ModelMissing(digest) for digest in gone), ev.ModelFound(effect.digest)]

    def _prepare(self, effect: ev.PrepareData) -> None:
        self._trainer.submit(jobs.Prepare(self._data_options(effect.task, effect.image_size)))

    def _train(self, effect: ev.StartTraining) -> None:
        work = effect.assignment
        out = str(self.store.update_path(work))
        if any(chore.update.file == out for chore in self._chores):
            self._tidy()
        self._trainings[out] = effect
        plan = work.plan
        keeps = plan.control_variates or plan.local_norms
        kept = self.kept.begin(work.round_number) if keeps else None
        self._trainer.submit(
            jobs.Train(
                options=self._data_options(work.task, work.image_size),
                model_file=str(self.store.model_path(work.base)),
                plan=work.plan,
                out=out,
                round_number=work.round_number,
                model=work.model,
                kept=str(kept or ""),
                kept_out=str(pending_of(out)) if keeps else "",
                scores=work.scores,
            )
        )

    def _score(self, effect: ev.StartScoring) -> None:
        work = effect.assignment
        kept = self.kept.before(work.round_number) if work.plan.local_norms else None
        self._trainer.submit(
            jobs.Score(
                options=self._data_options(work.task, work.image_size),
                model_file=str(self.store.model_path(work.base)),
                plan=work.plan,
                round_number=work.round_number,
                model=work.model,
                kept=str(kept or ""),
            )
        )

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
                _raise_unless_full(error)
        self.store.sweep()

    def _leave(self, effect: ev.Leave) -> None:
        self._left = effect

    def _tell(self, effect: ev.Tell) -> None:
        self.view.show(effect.notice)


def _raise_unless_full(error: OSError) -> None:
    """A disk without space is waited out; whatever else is wrong with it ends the edge in one line."""
    if error.errno not in FULL_DISK:
        raise error


_ON: dict[type[Any], Callable[[Agent, Any], ev.Event | None]] = {
    Connected: Agent._on_connected,
    Disconnected: Agent._on_disconnected,
    Undelivered: Agent._on_undelivered,
    Received: Agent._on_received,
    jobs.Prepared: Agent._on_prepared,
    jobs.TrainingProgress: Agent._on_progress,
    jobs.Trained: Agent._on_trained,
    jobs.Scored: Agent._on_scored,
    jobs.Failed: Agent._on_failed,
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


def run(options: EdgeOptions, view: View) -> int:
    """Join, work until the job is over, and return the exit code."""
    try:
        return Agent(options, view).run()
    except HilumError:
        view.close()
        raise
