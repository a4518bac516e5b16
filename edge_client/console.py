"""Progress of an edge client for the person beside it: a live area on a terminal, plain lines elsewhere.

The shell says what happened, in the past tense; a view shows it. A view never raises on odd data and never waits
for anything. Events carry no secret. rich is imported on a terminal only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from edge_client.notices import (
    AggregatorLost,
    Connected,
    ConnectionTried,
    DataFound,
    Disconnected,
    Event,
    FetchAdvanced,
    Finished,
    ModelScored,
    ReconnectPlanned,
    Refused,
    RoundDeclined,
    RoundEnded,
    RoundJoined,
    TrainingAdvanced,
    UploadAdvanced,
    VerdictReceived,
    Warned,
    Welcomed,
    WorkCancelled,
)
from fl_protocol.console import Lines, Quarters, clean, metric_words, pairs, part, share, wants_live
from fl_protocol.messages import DataSummary

__all__ = [
    "AggregatorLost",
    "Connected",
    "ConnectionTried",
    "DataFound",
    "Disconnected",
    "Event",
    "FetchAdvanced",
    "Finished",
    "ModelScored",
    "PlainView",
    "ReconnectPlanned",
    "Refused",
    "RoundDeclined",
    "RoundEnded",
    "RoundJoined",
    "TrainingAdvanced",
    "UploadAdvanced",
    "VerdictReceived",
    "View",
    "Warned",
    "Welcomed",
    "WorkCancelled",
    "fraction_of",
    "line_of",
    "make_view",
    "summary_words",
]


class View(Protocol):
    """Where events go. ``close`` may be called more than once."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...


def make_view(stream: TextIO, force: str | None = None) -> View:
    """The view that suits ``stream``; ``force`` is live, plain or None. ConfigError for anything else."""
    if wants_live(stream, force, os.environ.get("TERM", "")):
        from edge_client.console_live import LiveView

        return LiveView(stream)
    return PlainView(stream)


class PlainView:
    """One line an event; fetching, training and uploading speak at each quarter."""

    def __init__(self, stream: TextIO) -> None:
        self._lines = Lines(stream)
        self._quarters = Quarters()

    def show(self, event: Event) -> None:
        if not isinstance(event, FetchAdvanced | TrainingAdvanced | UploadAdvanced) or self._quarters.passed(
            f"{type(event).__name__}/{event.round_number}", fraction_of(event)
        ):
            self._lines.write(line_of(event))

    def close(self) -> None:
        """Nothing to take away."""


def fraction_of(event: FetchAdvanced | TrainingAdvanced | UploadAdvanced) -> float:
    """How far the work is, 0 to 1."""
    return share(event.fraction) if isinstance(event, TrainingAdvanced) else part(event.held, event.total)


def line_of(event: Event) -> str:
    """The plain line (for DataFound: lines) of ``event``."""
    return _LINES[type(event)](event)


def summary_words(summary: DataSummary) -> str:
    """A folder as counts."""
    classes = {clean(name, 30): n for name, n in (summary.classes or {}).items()}
    return " ".join(word for word in (
        pairs(images=summary.images, patients=summary.patients, train=summary.train_images,
              validation=summary.val_images, unreadable=summary.unreadable or None,
              duplicates=summary.duplicates or None),
        " ".join(f"{name.replace(' ', '_')}={n}" for name, n in classes.items()),
    ) if word)  # fmt: skip


def _data_lines(event: DataFound) -> str:
    notes = [f"data note: {clean(note, 300)}" for note in event.notes]
    return "\n".join([f"data {pairs(folder=event.folder)} {summary_words(event.summary)}", *notes])


def _in_round(what: str, event: Any, **more: object) -> str:
    return f"round={event.round_number} {what} {pairs(**more)}".rstrip()


_LINES: dict[type[Any], Callable[[Any], str]] = {
    ConnectionTried: lambda e: (
        f"connecting {pairs(broker=e.address, attempt=e.attempt if e.attempt > 1 else None)}"
    ),
    Connected: lambda e: f"connected {pairs(broker=e.address, mqtt=e.protocol or None)}",
    Welcomed: lambda e: f"joined {pairs(job=e.job, client=e.client_id)}",
    Refused: lambda e: f"refused {pairs(reason=e.reason)}",
    DataFound: _data_lines,
    RoundJoined: lambda e: _in_round("joined", e, of=e.rounds, cohort=e.cohort_size),
    FetchAdvanced: lambda e: _in_round("fetching", e, blocks=f"{e.held}/{e.total}"),
    TrainingAdvanced: lambda e: _in_round("training", e, done=f"{100 * share(e.fraction):.0f}%", loss=e.loss),
    ModelScored: lambda e: f"{_in_round('scored', e)} {metric_words(e.figures)}",
    UploadAdvanced: lambda e: _in_round("uploading", e, chunks=f"{e.held}/{e.total}"),
    VerdictReceived: lambda e: _in_round("update", e, verdict=e.verdict, reason=e.reason or None),
    RoundDeclined: lambda e: _in_round("declined", e, reason=e.reason),
    RoundEnded: lambda e: f"{_in_round('over', e, outcome=e.outcome)} {metric_words(e.metrics)}".rstrip(),
    WorkCancelled: lambda e: _in_round("cancelled", e, reason=e.reason or None),
    AggregatorLost: lambda _: "aggregator away, waiting for it",
    Disconnected: lambda e: (
        ("disconnected " if e.before else "no broker yet, trying again ") + pairs(reason=e.reason)
    ),
    ReconnectPlanned: lambda e: f"reconnecting {pairs(in_s=round(e.delay_s, 1), attempt=e.attempt)}",
    Finished: lambda e: f"finished {pairs(rounds=e.rounds, reason=e.reason or None, model=e.model or None)}",
    Warned: lambda e: f"warning: {clean(e.text, 400)}",
}
"""A line for every event; a test holds the table to the union."""
