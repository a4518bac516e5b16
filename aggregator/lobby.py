"""Between runs: an aggregator that waits to be told what to do. Edges join and stay, and operators are answered."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from aggregator import events as ev
from aggregator import notices as seen
from aggregator.commands import rounds_of
from aggregator.launching import checked_launch
from aggregator.runs import Runs
from aggregator.server import INBOX_FRAMES, LONGEST_WAIT_S, LOOK_ABOUT_S, Server
from aggregator.station import Station
from fl_protocol import messages as msg
from fl_protocol.errors import ConfigError
from fl_protocol.topics import Topic
from fl_protocol.transport import Connected

T = TypeVar("T")
WAITS = "waits for an operator to launch a run"
BEGINS = "a run is about to begin"


@dataclass(frozen=True)
class Launch:
    """Begin a run with these options."""

    options: dict[str, Any]


@dataclass(frozen=True)
class GoOn:
    """Go on with the newest run, with so many rounds more."""

    more: int = 0


Order = Launch | GoOn


class Lobby:
    """The station's business while there is no run. ``given`` are the options of the command line, by name."""

    def __init__(self, station: Station, runs: Runs, given: Mapping[str, Any], state: msg.RoundState) -> None:
        self.station, self.runs, self.given = station, runs, given
        self.last: Server | None = None
        """The run that ended, as long as its folder is open: its model stays on the broker."""
        self._empty = state
        self._reason = WAITS
        self._order: Order | None = None
        self._begins = False
        self._look_about_at = 0.0

    # --- the loop -----------------------------------------------------------------------------------------------

    def wait(self, why: str = "") -> Order | None:
        """What an operator wants, once one does; None if the process is to end. ``why`` there is no run."""
        self._reason = f"{WAITS}; {why}" if why else WAITS
        self._begins = False
        self._begin_business()
        self.station.view.show(seen.WaitedForOperator(why))
        while not (self._ordered or self.over):
            self.step()
        order, self._order = self._order, None
        return None if self.over else order

    @property
    def _ordered(self) -> bool:
        return self._order is not None

    @property
    def over(self) -> bool:
        """Whether the process is to end."""
        return self.station.stop_requested or self.station.ended is not None

    def aside(self, work: Callable[[], T]) -> T:
        """Do what takes a while in a thread, and answer meanwhile."""
        self._reason, self._begins = BEGINS, True
        self._begin_business()
        found: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                found.append(work())
            except BaseException as error:  # noqa: BLE001 - the border of a thread: the owner raises it
                failed.append(error)

        thread = threading.Thread(target=run, name="preparing", daemon=True)
        thread.start()
        while thread.is_alive():
            self.step()
        if failed:
            raise failed[0]
        return found[0]

    def let_end(self, server: Server) -> None:
        """A run was stopped: nothing of it may be under way when it is gone on with."""
        self.station.business, self._begins = self, False
        while server.models.is_folding:
            self.step()
        for _ in range(INBOX_FRAMES):  # the end of its fold is among them
            if not self.station.inbox.empty():
                self.step()

    def _begin_business(self) -> None:
        self.station.business = self
        if self.station.connection is not None:
            self.announce()
            self.station.bulletin.hurry()

    def step(self) -> None:
        """Take one item from the queue, or let time pass."""
        try:
            item = self.station.inbox.get(timeout=LONGEST_WAIT_S)
        except queue.Empty:
            item = None
        now = time.monotonic()
        if item is not None:
            self.station.take_item(item, now)  # what is left of a run says nothing any more
        if now >= self._look_about_at:
            self._look_about_at = now + LOOK_ABOUT_S
            self.station.tick(now)
        if self.station.inbox.empty() and self.station.bulletin.is_due(now):
            self.station.bulletin.tell(now, self.rounds_done, self.accepts())

    # --- what is told -------------------------------------------------------------------------------------------

    def state(self) -> msg.RoundState:
        """What ``pub/round`` says: the run before, if there was one, with no round to come."""
        state = self.last.shown() if self.last else self._empty
        return replace(state, reason=self._reason[:300])

    def announce(self) -> None:
        self.station.presence.announce(self.state())

    def accepts(self) -> tuple[str, ...]:
        """The actions that would be accepted now."""
        newest = self.runs.newest
        fits = {msg.EVICT}
        if not self._begins:
            fits.add(msg.LAUNCH)
            if newest is not None:
                fits.add(msg.MORE)
                fits |= {msg.RESUME} if self.runs.launched(newest).rounds_left else set()
        return tuple(action for action in msg.ACTIONS if action in fits)

    # --- what the station hears ---------------------------------------------------------------------------------

    @property
    def rounds_done(self) -> int:
        return self.last.rounds_done if self.last else 0

    @property
    def round_number(self) -> int:
        return self.rounds_done

    def on_connected(self, connected: Connected) -> None:
        """The broker may have lost everything."""
        self.station.connected(connected.number)
        if self.last is not None:
            self.last.lay_out_model(connected)
        self.announce()
        self.station.presence.say_online()

    def happened(self, event: ev.Event) -> None:
        """A run that begins asks who is here."""

    def left(self, client_id: str) -> bool:
        return True

    def hear(self, topic: Topic, message: msg.Message) -> None:
        """No round, no updates: who has one offers it again."""

    def command(self, command: msg.Command) -> None:
        if command.action == msg.EVICT:
            self.station.evict(command.client)
        elif self._begins or self._ordered:
            raise ConfigError(BEGINS)
        elif command.action == msg.LAUNCH:
            self._order = Launch(checked_launch(command.settings or {}, self.given))
        elif command.action == msg.MORE:
            self._go_on(rounds_of(command.settings))
        elif command.action == msg.RESUME:
            self._go_on(0)
        else:
            raise ConfigError("no run is under way")

    def _go_on(self, more: int) -> None:
        newest = self.runs.newest
        if newest is None:
            raise ConfigError("there is no run yet: launch one")
        if not more and not self.runs.launched(newest).rounds_left:
            raise ConfigError(f"run {newest.name} has had its rounds: ask for more of them")
        self._order = GoOn(more)

    def farewell(self) -> list[tuple[str, bytes, bool]]:
        state = replace(self.state(), phase=msg.STOPPED, reason="")
        return self.station.presence.farewell(state)
