"""From settings to a served job: the run directory, the first model, the claim on the job, then the loop."""

from __future__ import annotations

import errno
import queue
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from aggregator import notices as seen
from aggregator.claim import on_duty
from aggregator.events import FederationConfig
from aggregator.federation import Federation
from aggregator.first_model import first_model
from aggregator.metrics_page import MetricsPage
from aggregator.restoring import make_whole
from aggregator.rundir import BEST, GLOBAL, RunDirectory
from aggregator.scoring import Scoring
from aggregator.server import INBOX_FRAMES, Server
from aggregator.station import Station
from aggregator.strategy import Strategy
from aggregator.tensorboard import EventFiles
from fl_protocol.bounds import MOST
from fl_protocol.errors import ConfigError, HilumError
from fl_protocol.modelfile import FULL_DISK
from fl_protocol.transport import BrokerOptions
from fl_tasks.folder import is_phantoms
from fl_tasks.jobs import EVAL, DataOptions, Failed, Initialise, Initialised, Reply
from fl_tasks.process import TaskProcess

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
    dashboard: tuple[str, ...] = ()
    """The options of the page for people that is served beside the run, if one is."""
    tensorboard: Path | None = None
    """Where event files go."""
    stays: bool = False
    """Whether there is to be another run after this one."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """The options of the command line by name, where a launch may say otherwise."""


def run(settings: RunSettings, broker: BrokerOptions, view: seen.View) -> seen.Finished | seen.Stopped:
    """Run a federation to its end, or resume one. Raises a HilumError that says why it cannot."""
    inbox: queue.Queue[Any] = queue.Queue(INBOX_FRAMES)
    station = Station(settings.job, secrets.token_hex(8), view, inbox)
    with prepared(settings, station, inbox) as server:
        _serve(server, broker, settings.connect_timeout_s or float("inf"))
        return ended(server)


@contextmanager
def prepared(
    settings: RunSettings, station: Station, replies: queue.Queue[Any], more: int = 0
) -> Iterator[Server]:
    """The run of ``settings``, begun or gone on with, ready to be served; let go of at the end. ``more`` rounds are added.

    The task process answers into ``replies`` until it is ready, and from then on into the station's inbox.
    """
    folder = RunDirectory(settings.out, fresh=settings.fresh)
    deliver = _Switch(replies)
    tasks = TaskProcess(device=settings.device, plugin=settings.plugin, deliver=deliver)
    try:
        ask = partial(_asked, tasks, replies, lambda: station.stop_requested)
        base = _base_model(settings, folder, ask, station.view)
        server = _server(settings, station, folder, base, tasks, more)
        deliver.to = station.inbox
        try:
            yield server
        finally:
            server.recording.close()
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


class _Switch:
    """Where a task process's replies go."""

    def __init__(self, to: queue.Queue[Any]) -> None:
        self.to = to

    def __call__(self, reply: Reply) -> None:
        self.to.put(reply, timeout=0.2)


def _server(
    settings: RunSettings, station: Station, folder: RunDirectory, base: str, tasks: TaskProcess, more: int
) -> Server:
    rounds = min(MOST, folder.rounds_for(settings.config.rounds) + more)
    config = replace(settings.config, rounds=rounds)
    folder.write_json("config.json", settings.effective | _synthetic(settings))
    if rounds != settings.config.rounds:
        folder.keep_rounds(rounds)
    folder.write_rounds(folder.journal.each_record())
    federation = Federation(config, base, folder.journal.each_record())
    scoring = None
    if settings.eval_data is not None:
        cache = str(folder.path / "cache")
        data = DataOptions(config.task, settings.eval_data, config.image_size, cache, role=EVAL)
        scoring = Scoring(tasks, data)
    if scoring is None or settings.stays:
        tasks.stop()  # where the run stays it is begun again when needed: it dies with the thread that began it
    server = Server(station, folder, federation, settings.strategy, scoring, stays=settings.stays)
    if settings.page is not None:
        settings.page.begin(folder.journal.each_record())
        server.watcher = settings.page.look
    if settings.tensorboard is not None:
        server.recording.tensorboard = EventFiles(settings.tensorboard, folder.journal.each_record())
    if not settings.stays:
        tell_resumed(server)
    return server


def ended(server: Server) -> seen.Finished | seen.Stopped:
    """How a run that did not fail came to its end."""
    if server.stopped:
        return seen.Stopped(server.rounds_done)
    return finished(server.run_dir.path, server.federation)


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


def tell_resumed(server: Server) -> None:
    """Say of a run that is gone on with where it stands."""
    federation, view = server.federation, server.view
    unfinished, rounds = server.run_dir.journal.unfinished(), federation.config.rounds
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
    settings: RunSettings, folder: RunDirectory, ask: Callable[[Initialise], Initialised | Failed], view: seen.View
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
    return first_model(folder, config, settings.init, ask)


def _asked(
    tasks: TaskProcess, inbox: queue.Queue[Any], given_up: Callable[[], bool], request: Initialise
) -> Initialised | Failed:
    tasks.submit(request)
    until = time.monotonic() + INITIALISE_S
    while (left := until - time.monotonic()) > 0:
        if given_up():
            raise KeyboardInterrupt
        try:
            item = inbox.get(timeout=min(left, 0.5))
        except queue.Empty:
            continue
        if isinstance(item, Initialised | Failed):
            return item
    raise HilumError(f"the first model was not ready within {INITIALISE_S:g} s")


def _serve(server: Server, broker: BrokerOptions, connect_timeout_s: float) -> None:
    try:
        with on_duty(server.station, broker, connect_timeout_s) as connected:
            server.serve(connected)
            if server.finished:
                server.linger()
    finally:
        server.models.await_fold()
