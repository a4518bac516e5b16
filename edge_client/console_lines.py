"""What happens at an edge, a line an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_client import notices as seen
from fl_protocol.console import clean, metric_words, pairs, part, share
from fl_protocol.messages import DataSummary


def fraction_of(event: seen.FetchAdvanced | seen.TrainingAdvanced | seen.UploadAdvanced) -> float:
    """How far the work is, 0 to 1."""
    return (
        share(event.fraction) if isinstance(event, seen.TrainingAdvanced) else part(event.held, event.total)
    )


def line_of(event: seen.Event) -> str:
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


def _data_lines(event: seen.DataFound) -> str:
    notes = [f"data note: {clean(note, 300)}" for note in event.notes]
    return "\n".join([f"data {pairs(folder=event.folder)} {summary_words(event.summary)}", *notes])


def _in_round(what: str, event: Any, **more: object) -> str:
    return f"round={event.round_number} {what} {pairs(**more)}".rstrip()


_LINES: dict[type[Any], Callable[[Any], str]] = {
    seen.ConnectionTried: lambda e: (
        f"connecting {pairs(broker=e.address, attempt=e.attempt if e.attempt > 1 else None)}"
    ),
    seen.Connected: lambda e: f"connected {pairs(broker=e.address, mqtt=e.protocol or None)}",
    seen.Welcomed: lambda e: f"joined {pairs(job=e.job, client=e.client_id)}",
    seen.Refused: lambda e: f"refused {pairs(reason=e.reason)}",
    seen.DataFound: _data_lines,
    seen.RoundJoined: lambda e: _in_round("joined", e, of=e.rounds, cohort=e.cohort_size),
    seen.FetchAdvanced: lambda e: _in_round("fetching", e, blocks=f"{e.held}/{e.total}"),
    seen.TrainingAdvanced: lambda e: _in_round(
        "training", e, done=f"{100 * share(e.fraction):.0f}%", loss=e.loss
    ),
    seen.ModelScored: lambda e: f"{_in_round('scored', e)} {metric_words(e.figures)}",
    seen.UploadAdvanced: lambda e: _in_round("uploading", e, chunks=f"{e.held}/{e.total}"),
    seen.VerdictReceived: lambda e: _in_round("update", e, verdict=e.verdict, reason=e.reason or None),
    seen.RoundDeclined: lambda e: _in_round("declined", e, reason=e.reason),
    seen.RoundEnded: lambda e: (
        f"{_in_round('over', e, outcome=e.outcome)} {metric_words(e.metrics)}".rstrip()
    ),
    seen.WorkCancelled: lambda e: _in_round("cancelled", e, reason=e.reason or None),
    seen.AggregatorLost: lambda _: "aggregator away, waiting for it",
    seen.Disconnected: lambda e: (
        ("disconnected " if e.before else "no broker yet, trying again ") + pairs(reason=e.reason)
    ),
    seen.ReconnectPlanned: lambda e: f"reconnecting {pairs(in_s=round(e.delay_s, 1), attempt=e.attempt)}",
    seen.Finished: lambda e: (
        f"finished {pairs(rounds=e.rounds, reason=e.reason or None, model=e.model or None)}"
    ),
    seen.Warned: lambda e: f"warning: {clean(e.text, 400)}",
}
"""A line for every event; a test holds the table to the union."""
