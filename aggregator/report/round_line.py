"""One line of rounds.jsonl as the report sees it. Total: what is odd in a line is missing, and no error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

CLOSED, CLOSED_SHORT, ABANDONED = "closed", "closed_short", "abandoned"
LARGEST = 1e15
"""Numbers beyond this are no measurement; they are shown as missing."""
LAST_ROUND = 10**9


@dataclass(frozen=True)
class Refused:
    """Updates or frames of one client refused for one reason in one round."""

    client_id: str
    reason: str
    count: int = 1


@dataclass(frozen=True)
class Best:
    """The best model of the run so far, by the round that made it."""

    round_number: int
    metric: str
    value: float


@dataclass(frozen=True)
class RoundLine:
    """One round that ended."""

    number: int
    outcome: str
    cohort: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    rejected: tuple[Refused, ...] = ()
    stragglers: tuple[str, ...] = ()
    num_examples: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    started_at: str = ""
    duration_s: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    client_metrics: Mapping[str, float] = field(default_factory=dict)
    examples: Mapping[str, int] = field(default_factory=dict)
    sites: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By client: what the round's base model scored on patients held out there."""
    model_sha256: str = ""
    attempts: int = 1
    best: Best | None = None
    ended_early: str = ""
    """Why the run ended with this round, if it did so before its last."""

    @property
    def done(self) -> bool:
        return self.outcome in (CLOSED, CLOSED_SHORT)

    @property
    def interval(self) -> tuple[float, float] | None:
        return interval_of(self.metrics)

    def parts(self) -> dict[str, str]:
        """Who did what: accepted, late, rejected, or missing for one who was asked and gave none."""
        found = dict.fromkeys(self.cohort, "missing")
        found.update((refused.client_id, "rejected") for refused in self.rejected)
        found.update(dict.fromkeys(self.stragglers, "late"))
        found.update(dict.fromkeys(self.accepted, "accepted"))
        return found


def interval_of(metrics: Mapping[str, float]) -> tuple[float, float] | None:
    """That of the central AUROC."""
    low, high = metrics.get("auroc_low"), metrics.get("auroc_high")
    return (low, high) if low is not None and high is not None else None


def read_line(body: Any) -> RoundLine | None:
    """None if it is of no round."""
    if (
        not isinstance(body, dict)
        or type(body.get("round")) is not int
        or not 0 < body["round"] <= LAST_ROUND
    ):
        return None
    return RoundLine(
        number=body["round"], outcome=str(body.get("outcome", "")),
        cohort=texts(body.get("cohort")), accepted=texts(body.get("accepted")),
        rejected=tuple(_refused(item) for item in list_of(body.get("rejected")) if isinstance(item, dict)),
        stragglers=texts(body.get("stragglers")), num_examples=count(body.get("num_examples")),
        bytes_down=count(body.get("bytes_down")), bytes_up=count(body.get("bytes_up")),
        started_at=str(body.get("started_at") or ""), duration_s=max(number(body.get("duration_s")) or 0.0, 0.0),
        metrics=_numbers(body.get("metrics")), client_metrics=_numbers(body.get("client_metrics")),
        examples={name: int(n) for name, n in _numbers(body.get("client_examples")).items()},
        sites=_sites(body.get("sites")), model_sha256=str(body.get("model_sha256") or ""), attempts=max(count(body.get("attempts")), 1),
        best=_best(body.get("best")), ended_early=str(body.get("ended_early") or "")[:300],
    )  # fmt: skip


def _sites(value: Any) -> dict[str, Mapping[str, float]]:
    rows = {str(name): _numbers(row) for name, row in value.items()} if isinstance(value, dict) else {}
    return {name: row for name, row in rows.items() if row}


def _best(value: Any) -> Best | None:
    body = value if isinstance(value, dict) else {}
    found = number(body.get("value"))
    return None if found is None else Best(count(body.get("round")), str(body.get("metric"))[:64], found)


def _refused(item: Mapping[str, Any]) -> Refused:
    return Refused(
        str(item.get("client_id", "")), str(item.get("reason", "")), max(count(item.get("count")), 1)
    )


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def texts(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in list_of(value))


def number(value: Any) -> float | None:
    """A finite number that can be a measurement."""
    usable = type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST
    return float(value) if usable else None


def count(value: Any) -> int:
    """A whole number from 0 on."""
    return int(max(number(value) or 0.0, 0.0))


def _numbers(value: Any) -> dict[str, float]:
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    found = {str(name): number(each) for name, each in items}
    return {name: each for name, each in found.items() if each is not None}
