"""``fl-agg start --wait``: one process and one connection for run after run, each launched by an operator."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from aggregator import notices as seen
from aggregator.claim import on_duty
from aggregator.launching import LAUNCHABLE
from aggregator.lobby import GoOn, Launch, Lobby, Order
from aggregator.phase import Phase
from aggregator.rule import effective, rule_of
from aggregator.runs import Launched, Runs
from aggregator.server import INBOX_FRAMES, Server
from aggregator.start import RunSettings, prepared, tell_resumed
from aggregator.station import Station
from fl_protocol import messages as msg
from fl_protocol.broker import BrokerOptions
from fl_protocol.errors import BrokerUnavailable, HilumError


def wait_for_operators(settings: RunSettings, broker: BrokerOptions, view: seen.View) -> None:
    """Serve runs until the process is stopped; ``settings`` are what a launch does not say.

    Raises AccessRefused when another aggregator took over, BrokerUnavailable, or what a signal means.
    """
    runs = Runs(settings.out)
    with runs.opened():
        station = Station(settings.job, secrets.token_hex(8), view, queue.Queue(INBOX_FRAMES))
        lobby = Lobby(station, runs, settings.given, _no_run(settings))
        with on_duty(station, broker, settings.connect_timeout_s or float("inf")) as connected:
            lobby.on_connected(connected)
            Waiting(settings, station, runs, lobby).serve()
            if station.ended:
                raise station.ended


def _no_run(settings: RunSettings) -> msg.RoundState:
    """What is told before the first launch: so much that edges can read their data."""
    config = settings.config
    return msg.RoundState(
        msg.WAITING, 0, 0, 0, (), None, config.task, config.model, None, image_size=config.image_size,
        min_clients=config.min_clients,
    )  # fmt: skip


class Waiting:
    """One run after the other."""

    def __init__(self, settings: RunSettings, station: Station, runs: Runs, lobby: Lobby) -> None:
        self._settings, self._station, self._runs, self._lobby = settings, station, runs, lobby
        self._open = ExitStack()

    def serve(self) -> None:
        """Until the process is to end; a run that was under way when the one before us died goes on."""
        newest = self._runs.newest
        goes_on = newest is not None and self._runs.launched(newest).under_way
        order: Order | None = GoOn() if goes_on else None
        why = ""
        with self._open:
            if newest is not None and not goes_on:
                self._look_back(newest)
            while not self._lobby.over:
                order = order or self._lobby.wait(why)
                if order is not None:
                    why, order = self._serve_one(order), None

    def _look_back(self, path: Path) -> None:
        """The last run is told of, and its model laid out, as if we had never been away."""
        try:
            server = self._lobby.aside(lambda: self._prepared(path, GoOn()))
        except HilumError as error:
            self._station.view.show(seen.Warned(f"run {path.name} cannot be told of: {error}"))
            return
        server.introduce()
        if self._station.connection is not None:
            server.lay_out_model(self._station.connection)

    def _serve_one(self, order: Order) -> str:
        """Why the run is over, for a person."""
        self._close_last()
        path = self._path_of(order)
        try:
            server = self._lobby.aside(lambda: self._prepared(path, order))
            assert self._station.connection is not None
            if isinstance(order, GoOn):
                tell_resumed(server)
            server.serve(self._station.connection)
        except HilumError as error:
            if isinstance(error, BrokerUnavailable):
                raise
            why = f"run {path.name}: {error}"
        except KeyboardInterrupt:
            if not self._lobby.over:
                raise
            why = ""  # a signal came while it was being begun: the same command begins it
        else:
            why = f"run {path.name} {_told(server)}"
        self._note_end(path)
        return why

    def _close_last(self) -> None:
        """Let go of the run before: it may be the one to go on with."""
        self._lobby.last = None
        self._station.bulletin.pause()
        self._open.close()

    def _path_of(self, order: Order) -> Path:
        newest = self._runs.newest
        if isinstance(order, Launch) or newest is None:
            return self._runs.begin(order.options if isinstance(order, Launch) else {})
        launched = self._runs.launched(newest)
        anew = {"early_stop": None} if order.more and launched.ended_early else {}
        self._runs.note(newest, Launched(launched.options | anew))
        return newest

    def _prepared(self, path: Path, order: Order) -> Server:
        settings = settings_of(self._settings, path, self._runs.launched(path).options)
        more = order.more if isinstance(order, GoOn) else 0
        replies: queue.Queue[Any] = queue.Queue()
        server = self._open.enter_context(prepared(settings, self._station, replies, more))
        self._lobby.last = server
        return server

    def _note_end(self, path: Path) -> None:
        """The run is over, unless the process is to end: then the same command goes on with it."""
        server = self._lobby.last
        if self._lobby.over:
            return
        if server is None:
            self._runs.forget_unused(path)
        else:
            self._lobby.let_end(server)
            federation = server.federation
            self._runs.note(path, Launched(
                self._runs.launched(path).options, under_way=False, rounds_left=not federation.is_over,
                ended_early=bool(federation.course.verdict),
            ))  # fmt: skip


def _told(server: Server) -> str:
    if server.federation.phase is Phase.FINISHED:
        early = server.federation.state().reason
        return early or f"has had its {server.rounds_done} rounds"
    return f"was stopped by an operator after round {server.rounds_done}"


def settings_of(settings: RunSettings, path: Path, options: Mapping[str, Any]) -> RunSettings:
    """The settings of the run in ``path``: what it was launched with, and for the rest what the command line gave."""
    config, strategy = rule_of(options, evaluate=settings.eval_data is not None)
    shown = dict(settings.effective)
    for name in LAUNCHABLE:
        if (options[name], settings.given.get(name)) != (None, []) and options[name] != settings.given.get(
            name
        ):
            shown[name] = {"value": options[name], "source": "launch"}
    curves = settings.tensorboard / path.name if settings.tensorboard is not None else None
    return replace(
        settings, out=path, config=config, strategy=strategy, tensorboard=curves,
        effective=effective(shown, config, strategy),
    )  # fmt: skip
