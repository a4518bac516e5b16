"""From settings to a served job: the run directory, the first model, the claim on the job, then the loop."""

from __future__ import annotations

import errno
import os
import queue
import secrets
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aggregator import console as seen
from aggregator.events import FederationConfig
from aggregator.federation import Federation
from aggregator.metrics_page import MetricsPage
from aggregator.restoring import make_whole
from aggregator.rundir import BEST, GLOBAL, RunDirectory
from aggregator.server import INBOX_FRAMES, Scoring, Server
from aggregator.strategy import Strategy
from fl_protocol import messages as msg
from fl_protocol import topics
from fl_protocol.codec import decode, encode
from fl_protocol.errors import (
    AccessRefused,
    BrokerUnavailable,
    ConfigError,
    DecodeError,
    HilumError,
)
from fl_protocol.modelfile import DIGEST_KEY, FULL_DISK, read_header, with_control, write
from fl_protocol.tensors import MAX_CHUNK_BYTES, MODEL
from fl_protocol.topics import AGGREGATOR, Kind, Topic
from fl_protocol.transport import BrokerOptions, Connected, Disconnected, MqttTransport, Received, Will
from fl_tasks.folder import is_phantoms
from fl_tasks.jobs import DATA, DISK, EVAL, DataOptions, Failed, Initialise, Initialised
from fl_tasks.process import TaskProcess

CLAIM_S = 3.0
INITIALISE_S = 600.0
BAD_DISK = FULL_DISK | {errno.EROFS, errno.EIO}


@dataclass(frozen=True)
class RunSettings:
    """All that a run needs to know, checked."""

    job: str
    out: Path
    config: FederationConfig
    strategy: Strategy
    init: str | None = None
    eval_data: str | None = None
    fresh: bool = False
    device: str = "auto"
    plugin: str | None = None
    connect_timeout_s: float = 30.0
    effective: dict[str, dict[str, Any]] = field(default_factory=dict)
    page: MetricsPage | None = None


def run(settings: RunSettings, broker: BrokerOptions, view: seen.View) -> seen.Finished:
    """Run a federation to its end, or resume one. Raises a HilumError that says why it cannot."""
    inbox: queue.Queue[Any] = queue.Queue(INBOX_FRAMES)
    folder = RunDirectory(settings.out, fresh=settings.fresh)
    tasks = TaskProcess(
        device=settings.device, plugin=settings.plugin, deliver=partial(inbox.put, timeout=0.2)
    )
    try:
        base = _base_model(settings, folder, tasks, inbox, view)
        config, job = settings.config, settings.job
        folder.write_json("config.json", settings.effective | _synthetic(settings))
        folder.write_rounds(folder.journal.each_record())
        federation = Federation(config, base, folder.journal.each_record())
        scoring = None
        if settings.eval_data is not None:
            cache = str(folder.path / "cache")
            data = DataOptions(config.task, settings.eval_data, config.image_size, cache, role=EVAL)
            scoring = Scoring(tasks, data)
        else:
            tasks.stop()
        server = Server(
            job, secrets.token_hex(8), folder, federation, settings.strategy, view, scoring, inbox
        )
        if settings.page is not None:
            settings.page.begin(folder.journal.each_record())
            server.watcher = settings.page.look
        _tell_resumed(folder, federation, view)
        _serve(server, broker, inbox, settings.connect_timeout_s or float("inf"))
        return finished(folder.path, federation)
    except (OSError, sqlite3.OperationalError) as error:
        if isinstance(error, OSError) and error.errno not in BAD_DISK:
            raise
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"cannot write to {folder.path} ({why}): make room, then the same command goes on from here"
        ) from None
    finally:
        tasks.stop()
        folder.close()


def finished(path: Path, federation: Federation) -> seen.Finished:
    """What lies where at the end of a run in the folder ``path``."""
    best = path / BEST
    return seen.Finished(
        federation.rounds_done, (path / "report.html").resolve().as_uri(), str(path / GLOBAL),
        str(best) if federation.course.best is not None and best.exists() else "",
    )  # fmt: skip


def _synthetic(settings: RunSettings) -> dict[str, dict[str, Any]]:
    """Screens that show figures of phantoms must say so."""
    made_up = settings.eval_data is not None and is_phantoms(Path(settings.eval_data))
    return {"synthetic": {"value": made_up, "source": "the data"}}


def _tell_resumed(folder: RunDirectory, federation: Federation, view: seen.View) -> None:
    unfinished, rounds = folder.journal.unfinished(), federation.config.rounds
    if federation.is_over:
        view.show(seen.Warned(how_to_go_on(federation)))
    elif unfinished is not None:
        view.show(seen.Resumed(unfinished.number, rounds, len(unfinished.accepted)))
    elif federation.rounds_done:
        view.show(seen.Resumed(federation.rounds_done + 1, rounds))


def how_to_go_on(federation: Federation) -> str:
    """What a person can do with a run that is over."""
    done = federation.rounds_done
    if done >= federation.config.rounds:
        return f"this run has had its {done} rounds: give more --rounds to go on, or --fresh"
    return f"this run ended early, after round {done}: give --early-stop more patience to go on, or --fresh"


# --- the first model --------------------------------------------------------------------------------------------


def _base_model(
    settings: RunSettings, folder: RunDirectory, tasks: TaskProcess, inbox: queue.Queue[Any], view: seen.View
) -> str:  # fmt: skip
    """The digest of the model that the run goes on from; the first time, made from the seed or from --init."""
    config = settings.config
    identity = {
        "job": settings.job, "task": config.task, "model": config.model, "image_size": config.image_size,
        "strategy": settings.strategy.name, "control_variates": config.plan.control_variates,
    }  # fmt: skip
    folder.check_identity(identity)
    folder.check_global()
    for line in make_whole(folder):
        view.show(seen.Warned(line))
    base = folder.journal.get("base")
    if isinstance(base, str):
        return base
    draft = folder.models / f".initial.{os.getpid()}.tmp"
    tasks.submit(
        Initialise(config.task, config.model, config.image_size, config.seed, settings.init, str(draft))
    )
    reply = _reply(inbox)
    try:
        if isinstance(reply, Failed):
            raise ConfigError(reply.message) if reply.kind in (DATA, DISK) else HilumError(reply.message)
        digest = _name_model(folder, draft, control_variates=config.plan.control_variates)
    finally:
        draft.unlink(missing_ok=True)
    folder.publish_global(digest)
    folder.begin(identity, digest)
    return digest


def _reply(inbox: queue.Queue[Any]) -> Initialised | Failed:
    until = time.monotonic() + INITIALISE_S
    while (left := until - time.monotonic()) > 0:
        try:
            item = inbox.get(timeout=min(left, 0.5))
        except queue.Empty:
            continue
        if isinstance(item, Initialised | Failed):
            return item
    raise HilumError(f"the first model was not ready within {INITIALISE_S:g} s")


def _name_model(folder: RunDirectory, draft: Path, *, control_variates: bool) -> str:
    """Copy the task's file to its digest's name, with the digest and the round in its metadata.

    With control variates (SCAFFOLD) the server's, all zeros, stands behind it: every model of a run has one layout.
    """
    model = read_header(draft)
    if not model.size:
        raise ConfigError("the first model has no tensors")
    if control_variates:
        tensors, pieces = with_control(model)
        write(draft, tensors, model.metadata, pieces, durable=False)
        model = read_header(draft)
    digest = model.manifest(MODEL, MAX_CHUNK_BYTES).digest
    metadata = model.metadata | {DIGEST_KEY: digest, "round": "0"}
    write(folder.model_path(digest), model.tensors, metadata, model.pieces())
    return digest


# --- the claim and the service ------------------------------------------------------------------------------------


def _serve(
    server: Server, broker: BrokerOptions, inbox: queue.Queue[Any], connect_timeout_s: float
) -> None:  # fmt: skip
    will = Will(server.presence.topic, server.presence.last_words)
    client_id = f"{AGGREGATOR}-{server.job[:32]}-{server.instance[:8]}"
    with _stopped_by_signals(server) as caught:
        transport = MqttTransport(broker, client_id, None, partial(inbox.put, timeout=0.2))
        _claim(transport, server, inbox, broker, connect_timeout_s)
        transport.close()
        transport = MqttTransport(broker, client_id, will, partial(inbox.put, timeout=0.2))
        transport.start()
        try:
            connected = _await(inbox, Connected, time.monotonic() + connect_timeout_s, broker, server)
            server.serve(transport, connected)
            if server.finished:
                server.linger()
        finally:
            farewell = () if isinstance(server.ended, AccessRefused) else server.farewell()
            transport.close(farewell)
            server.models.await_fold()
        if caught:
            raise KeyboardInterrupt if caught[0] == signal.SIGINT else SystemExit(0)


@contextmanager
def _stopped_by_signals(server: Server) -> Iterator[list[int]]:
    """SIGINT and SIGTERM end the loop after the step it is in; a second one ends the process as usual."""
    caught: list[int] = []

    def handler(number: int, _frame: object) -> None:
        caught.append(number)
        server.stop_requested = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _claim(
    transport: MqttTransport, server: Server, inbox: queue.Queue[Any], broker: BrokerOptions, connect_timeout_s: float
) -> None:  # fmt: skip
    """Ask on the broker whether somebody serves this job. Raises AccessRefused if a living aggregator answers.

    Our own question comes back to us behind whatever is retained, so nobody has to guess how long to wait; only
    if somebody is said to be online (who may have died unnoticed) is an answer waited for, CLAIM_S at most.
    """
    transport.start()
    until = time.monotonic() + connect_timeout_s
    _await(inbox, Connected, until, broker, server)
    mine = Topic(server.job, Kind.CONTROL, client=AGGREGATOR)
    transport.subscribe([str(Topic(server.job, Kind.AGG)), str(mine)])
    transport.publish(str(mine), encode(msg.Probe(server.instance)))
    until, online = time.monotonic() + 2 * CLAIM_S, False
    try:
        while time.monotonic() < until and not server.stop_requested:
            frame = _await(inbox, Received, until, broker, server)
            message = _decoded(frame)
            if isinstance(message, msg.AggregatorState):
                if message.echo == server.instance:
                    raise AccessRefused(
                        f"another aggregator is serving job {server.job!r} on {broker.where}: stop it, or use --job"
                    )
                online = message.online
            elif isinstance(message, msg.Probe) and message.instance == server.instance:
                if not online:
                    return
                until = time.monotonic() + CLAIM_S
    except BrokerUnavailable as silence:
        if not online or isinstance(silence, AccessRefused):
            raise
    finally:
        if server.stop_requested:
            transport.close()
            raise KeyboardInterrupt


def _decoded(frame: Received) -> msg.Message | None:
    try:
        return decode(frame.payload, topics.parse(frame.topic).kind)
    except DecodeError:
        return None


def _await(
    inbox: queue.Queue[Any], wanted: type[Any], until: float, broker: BrokerOptions, server: Server
) -> Any:  # fmt: skip
    """The next item of a kind. Raises what a fatal Disconnected carries, or BrokerUnavailable after ``until``."""
    reason = "no answer"
    while (left := until - time.monotonic()) > 0 and not server.stop_requested:
        try:
            item = inbox.get(timeout=min(left, 0.5))
        except queue.Empty:
            continue
        if isinstance(item, wanted):
            return item
        if isinstance(item, Disconnected):
            if item.fatal is not None:
                raise item.fatal
            reason = item.reason
    if server.stop_requested:
        raise KeyboardInterrupt
    raise BrokerUnavailable(f"no MQTT broker at {broker.where} ({reason}): start one, or check --broker")
