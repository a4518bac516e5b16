"""What happens at an aggregator, a line an event; and which of many alike are said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aggregator import notices as seen
from fl_protocol.console import FirstTimes, clean, metric_words, names, pairs, seconds, share


class Refusals:
    """Which refusals are said: each once a round, and not thousands. All are counted in rounds.jsonl."""

    def __init__(self) -> None:
        self._first = FirstTimes()

    def silences(self, event: seen.Event) -> bool:
        if isinstance(event, seen.RoundOpened):
            self._first.forget()
        repeatable = isinstance(event, seen.UpdateRejected | seen.ClientRefused)
        return repeatable and not self._first.first(line_of(event))


def line_of(event: seen.Event) -> str:
    """The plain line of ``event``."""
    return _LINES[type(event)](event)


def _opened(event: seen.RoundOpened) -> str:
    again = event.attempt if event.attempt > 1 else None
    words = pairs(of=event.rounds, cohort=len(event.cohort), quorum=event.quorum, attempt=again)
    return f"round={event.round_number} opened {words} clients={names(event.cohort)}"


def _joined(event: seen.ClientJoined) -> str:
    return "client joined " + pairs(
        client=event.client_id, examples=event.num_examples or None, device=event.device or None
    )


def _in_round(what: str, event: Any, **more: object) -> str:
    return f"round={event.round_number} {what} {pairs(client=event.client_id, **more)}"


_LINES: dict[type[Any], Callable[[Any], str]] = {
    seen.BrokerStarted: lambda e: pairs(broker=e.address, kind=e.kind),
    seen.JoinLine: lambda e: f"join with: {clean(e.command, 400)}",
    seen.WaitedForClients: lambda e: f"waiting for clients {pairs(present=e.present, needed=e.needed)}",
    seen.ClientJoined: _joined,
    seen.ClientLeft: lambda e: f"client {clean(e.how)} {pairs(client=e.client_id)}",
    seen.ClientRefused: lambda e: f"client refused {pairs(client=e.client_id, reason=e.reason)}",
    seen.RoundOpened: _opened,
    seen.TrainingAdvanced: lambda e: _in_round(
        "training", e, done=f"{100 * share(e.fraction):.0f}%", loss=e.loss
    ),
    seen.UploadAdvanced: lambda e: _in_round("uploading", e, chunks=f"{e.held}/{e.total}"),
    seen.UpdateAccepted: lambda e: _in_round(
        "accepted", e, examples=e.num_examples, staleness=e.staleness or None
    ),
    seen.UpdateRejected: lambda e: _in_round("rejected", e, reason=e.reason),
    seen.UpdateLate: lambda e: _in_round("late", e),
    seen.ClientDeclined: lambda e: _in_round("declined", e, reason=e.reason),
    seen.AggregationStarted: lambda e: f"round={e.round_number} aggregating {pairs(updates=e.accepted)}",
    seen.Evaluated: lambda e: f"round={e.round_number} evaluated {metric_words(e.metrics)}",
    seen.RoundEnded: lambda e: record_line(e.record),
    seen.Resumed: lambda e: f"resumed {pairs(round=e.round_number, rounds=e.rounds, held=e.held)}",
    seen.ConnectionLost: lambda e: f"broker lost {pairs(reason=e.reason)}",
    seen.ConnectionRestored: lambda e: f"broker back {pairs(broker=e.address)}",
    seen.EndedEarly: lambda e: f"round={e.round_number} {clean(e.reason, 400)}",
    seen.CommandTaken: lambda e: (
        "operator "
        + pairs(
            asked=e.action, client=e.client_id or None, refused=(e.refusal and clean(e.refusal, 200)) or None
        )
    ),
    seen.WaitedForOperator: lambda e: "waiting for an operator" + (f": {clean(e.why, 400)}" if e.why else ""),
    seen.Stopped: lambda e: f"stopped by an operator {pairs(rounds=e.rounds)}: the same command goes on",
    seen.Finished: lambda e: (
        "finished "
        + pairs(rounds=e.rounds, model=e.model or None, best=e.best or None, report=e.report or None)
    ),
    seen.Noted: lambda e: clean(e.text, 400),
    seen.Warned: lambda e: f"warning: {clean(e.text, 400)}",
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
