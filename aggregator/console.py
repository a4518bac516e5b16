"""Progress of the aggregator for the person who started it: a live area on a terminal, plain lines elsewhere.

The shell says what happened, in the past tense; a view shows it. A view never raises on odd data and never waits
for anything. Events carry no secret.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from fl_protocol.console import (
    FirstTimes,
    Lines,
    Quarters,
    clean,
    metric_words,
    names,
    pairs,
    part,
    seconds,
    share,
    wants_live,
)


@dataclass(frozen=True)
class BrokerStarted:
    """``kind`` is what serves: mosquitto, embedded, or found where one answered already."""

    address: str
    kind: str


@dataclass(frozen=True)
class JoinLine:
    """The command with which a client joins, without any secret."""

    command: str


@dataclass(frozen=True)
class WaitedForClients:
    present: int
    needed: int


@dataclass(frozen=True)
class ClientJoined:
    client_id: str
    num_examples: int = 0
    device: str = ""


@dataclass(frozen=True)
class ClientLeft:
    """``how`` is left (it said so) or lost (its last will)."""

    client_id: str
    how: str


@dataclass(frozen=True)
class ClientRefused:
    client_id: str
    reason: str


@dataclass(frozen=True)
class RoundOpened:
    round_number: int
    rounds: int
    cohort: tuple[str, ...]
    attempt: int = 1
    quorum: int = 0


@dataclass(frozen=True)
class TrainingAdvanced:
    client_id: str
    round_number: int
    fraction: float
    loss: float | None = None


@dataclass(frozen=True)
class UploadAdvanced:
    """Chunks of an update that the aggregator holds."""

    client_id: str
    round_number: int
    held: int
    total: int


@dataclass(frozen=True)
class UpdateAccepted:
    """``staleness`` is how many rounds older than the round the update is."""

    client_id: str
    round_number: int
    num_examples: int
    staleness: int = 0


@dataclass(frozen=True)
class UpdateRejected:
    client_id: str
    round_number: int
    reason: str


@dataclass(frozen=True)
class UpdateLate:
    client_id: str
    round_number: int


@dataclass(frozen=True)
class ClientDeclined:
    client_id: str
    round_number: int
    reason: str


@dataclass(frozen=True)
class AggregationStarted:
    round_number: int
    accepted: int


@dataclass(frozen=True)
class Evaluated:
    round_number: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RoundEnded:
    """``record`` is the line of rounds.jsonl."""

    record: Mapping[str, Any]


@dataclass(frozen=True)
class Resumed:
    """``held`` is how many accepted updates of the open round were on disk."""

    round_number: int
    rounds: int
    held: int = 0


@dataclass(frozen=True)
class ConnectionLost:
    reason: str


@dataclass(frozen=True)
class ConnectionRestored:
    address: str


@dataclass(frozen=True)
class EndedEarly:
    """The run ends before its last round; ``reason`` says why."""

    round_number: int
    reason: str


@dataclass(frozen=True)
class CommandTaken:
    """An operator asked for something; ``refusal`` says why it was not done."""

    action: str
    client_id: str = ""
    refusal: str = ""


@dataclass(frozen=True)
class WaitedForOperator:
    """``why`` there is no run; empty at the beginning."""

    why: str = ""


@dataclass(frozen=True)
class Stopped:
    """An operator stopped the run, which can be gone on with."""

    rounds: int


@dataclass(frozen=True)
class Finished:
    """``report`` is the address of report.html, ``model`` and ``best`` are paths of the global and the best model."""

    rounds: int
    report: str = ""
    model: str = ""
    best: str = ""


@dataclass(frozen=True)
class Noted:
    """Something to know once, such as where a page is."""

    text: str


@dataclass(frozen=True)
class Warned:
    text: str


Event = (
    BrokerStarted | JoinLine | WaitedForClients | ClientJoined | ClientLeft | ClientRefused | RoundOpened
    | TrainingAdvanced | UploadAdvanced | UpdateAccepted | UpdateRejected | UpdateLate | ClientDeclined
    | AggregationStarted | Evaluated | RoundEnded | Resumed | ConnectionLost | ConnectionRestored | EndedEarly | Finished
    | CommandTaken | WaitedForOperator | Stopped | Noted | Warned
)  # fmt: skip


class View(Protocol):
    """Where events go. ``close`` may be called more than once."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...


def make_view(stream: TextIO, force: str | None = None) -> View:
    """The view that suits ``stream``; ``force`` is live, plain or None. ConfigError for anything else."""
    if wants_live(stream, force, os.environ.get("TERM", "")):
        from aggregator.console_live import LiveView

        return LiveView(stream)
    return PlainView(stream)


class Refusals:
    """Which refusals are said: each once a round, and not thousands. All are counted in rounds.jsonl."""

    def __init__(self) -> None:
        self._first = FirstTimes()

    def silences(self, event: Event) -> bool:
        if isinstance(event, RoundOpened):
            self._first.forget()
        repeatable = isinstance(event, UpdateRejected | ClientRefused)
        return repeatable and not self._first.first(line_of(event))


class PlainView:
    """One line an event. Training and uploads speak at each quarter, and not at all in large cohorts."""

    SPEAKS_UP_TO = 16
    """Clients in a cohort beyond which single clients' progress stays unsaid."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = Lines(stream)
        self._quarters = Quarters()
        self._refusals = Refusals()
        self._cohort = 0
        self._waited: Event | None = None

    def show(self, event: Event) -> None:
        if isinstance(event, RoundOpened):
            self._cohort = len(event.cohort)
        if not self._refusals.silences(event) and not self._unsaid(event):
            self._lines.write(line_of(event))

    def close(self) -> None:
        """Nothing to take away."""

    def _unsaid(self, event: Event) -> bool:
        if isinstance(event, WaitedForClients):
            before, self._waited = self._waited, event
            return event == before
        if isinstance(event, TrainingAdvanced):
            key, fraction = f"train/{event.round_number}/{event.client_id}", event.fraction
        elif isinstance(event, UploadAdvanced):
            key, fraction = f"upload/{event.round_number}/{event.client_id}", part(event.held, event.total)
        else:
            return False
        return self._cohort > self.SPEAKS_UP_TO or not self._quarters.passed(key, fraction)


def line_of(event: Event) -> str:
    """The plain line of ``event``."""
    return _LINES[type(event)](event)


def _opened(event: RoundOpened) -> str:
    again = event.attempt if event.attempt > 1 else None
    words = pairs(of=event.rounds, cohort=len(event.cohort), quorum=event.quorum, attempt=again)
    return f"round={event.round_number} opened {words} clients={names(event.cohort)}"


def _joined(event: ClientJoined) -> str:
    return "client joined " + pairs(
        client=event.client_id, examples=event.num_examples or None, device=event.device or None
    )


def _in_round(what: str, event: Any, **more: object) -> str:
    return f"round={event.round_number} {what} {pairs(client=event.client_id, **more)}"


_LINES: dict[type[Any], Callable[[Any], str]] = {
    BrokerStarted: lambda e: pairs(broker=e.address, kind=e.kind),
    JoinLine: lambda e: f"join with: {clean(e.command, 400)}",
    WaitedForClients: lambda e: f"waiting for clients {pairs(present=e.present, needed=e.needed)}",
    ClientJoined: _joined,
    ClientLeft: lambda e: f"client {clean(e.how)} {pairs(client=e.client_id)}",
    ClientRefused: lambda e: f"client refused {pairs(client=e.client_id, reason=e.reason)}",
    RoundOpened: _opened,
    TrainingAdvanced: lambda e: _in_round("training", e, done=f"{100 * share(e.fraction):.0f}%", loss=e.loss),
    UploadAdvanced: lambda e: _in_round("uploading", e, chunks=f"{e.held}/{e.total}"),
    UpdateAccepted: lambda e: _in_round(
        "accepted", e, examples=e.num_examples, staleness=e.staleness or None
    ),
    UpdateRejected: lambda e: _in_round("rejected", e, reason=e.reason),
    UpdateLate: lambda e: _in_round("late", e),
    ClientDeclined: lambda e: _in_round("declined", e, reason=e.reason),
    AggregationStarted: lambda e: f"round={e.round_number} aggregating {pairs(updates=e.accepted)}",
    Evaluated: lambda e: f"round={e.round_number} evaluated {metric_words(e.metrics)}",
    RoundEnded: lambda e: record_line(e.record),
    Resumed: lambda e: f"resumed {pairs(round=e.round_number, rounds=e.rounds, held=e.held)}",
    ConnectionLost: lambda e: f"broker lost {pairs(reason=e.reason)}",
    ConnectionRestored: lambda e: f"broker back {pairs(broker=e.address)}",
    EndedEarly: lambda e: f"round={e.round_number} {clean(e.reason, 400)}",
    CommandTaken: lambda e: (
        "operator "
        + pairs(
            asked=e.action, client=e.client_id or None, refused=(e.refusal and clean(e.refusal, 200)) or None
        )
    ),
    WaitedForOperator: lambda e: "waiting for an operator" + (f": {clean(e.why, 400)}" if e.why else ""),
    Stopped: lambda e: f"stopped by an operator {pairs(rounds=e.rounds)}: the same command goes on",
    Finished: lambda e: (
        "finished "
        + pairs(rounds=e.rounds, model=e.model or None, best=e.best or None, report=e.report or None)
    ),
    Noted: lambda e: clean(e.text, 400),
    Warned: lambda e: f"warning: {clean(e.text, 400)}",
}
"""A line for every event; a test holds the table to the union."""


def record_line(record: Mapping[str, Any]) -> str:
    """The one canonical line of an ended round."""
    return " ".join(word for word in (
        pairs(round=record.get("round"), outcome=record.get("outcome"), cohort=count(record, "cohort"),
              accepted=count(record, "accepted"), rejected=count(record, "rejected"),
              stragglers=count(record, "stragglers"), stale=count(record, "stale") or None, examples=record.get("num_examples"),
              bytes_down=record.get("bytes_down"), bytes_up=record.get("bytes_up"),
              took=seconds(record.get("duration_s")).replace(" ", "")),
        metric_words(record.get("metrics")),
        " ".join(f"client_{word}" for word in metric_words(record.get("client_metrics"), 3).split()),
    ) if word)  # fmt: skip


def count(record: Mapping[str, Any], key: str) -> int:
    """How many names a field of the record holds."""
    value = record.get(key)
    return len(value) if isinstance(value, (list, tuple)) else 0
