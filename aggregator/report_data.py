"""What the report reads from a run directory, as frozen values. Total: odd or cut files lose what is odd, no more.

A report is written while a run goes on and after it broke; it must never be the reason that a run stops.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from aggregator.report_model import Calibration, Operating, read_calibration, read_operating
from aggregator.report_parts import FILE_NAME as PARTS_FILE
from aggregator.report_parts import Parts, read_parts

CLOSED, CLOSED_SHORT, ABANDONED = "closed", "closed_short", "abandoned"
LARGEST = 1e15
"""Numbers beyond this are no measurement; they are shown as missing."""


@dataclass(frozen=True)
class Refused:
    """Updates or frames of one client refused for one reason in one round."""

    client_id: str
    reason: str
    count: int = 1


@dataclass(frozen=True)
class RoundLine:
    """One line of rounds.jsonl."""

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

    @property
    def done(self) -> bool:
        return self.outcome in (CLOSED, CLOSED_SHORT)

    @cached_property
    def parts(self) -> dict[str, str]:
        """Who did what: accepted, late, rejected, or missing for one who was asked and gave none."""
        found = dict.fromkeys(self.cohort, "missing")
        found.update((refused.client_id, "rejected") for refused in self.rejected)
        found.update(dict.fromkeys(self.stragglers, "late"))
        found.update(dict.fromkeys(self.accepted, "accepted"))
        return found


@dataclass(frozen=True)
class ClientLine:
    """What one client did over the run. ``examples`` is 0 where no line says."""

    client_id: str
    cohort: int
    accepted: int
    late: int
    rejected: int
    missing: int
    examples: int


@dataclass(frozen=True)
class Evaluation:
    """The detail of the newest central evaluation."""

    round_number: int
    interval: tuple[float, float] | None
    sensitivity: float | None
    threshold: float | None
    confusion: tuple[tuple[int, ...], ...]
    roc: tuple[tuple[float, float], ...]
    images: int
    patients: int
    classes: tuple[str, ...]
    operating: Operating = field(default_factory=Operating)
    calibration: Calibration | None = None

    def operating_point(self) -> tuple[float, float] | None:
        """(false, true) positive rate of a two-class confusion matrix."""
        if len(self.confusion) != 2:
            return None
        (tn, fp), (fn, tp) = self.confusion
        return (fp / (fp + tn), tp / (fn + tp)) if fp + tn and fn + tp else None


@dataclass(frozen=True)
class Setting:
    """One effective setting and where it came from."""

    name: str
    value: str
    source: str


@dataclass(frozen=True)
class RunData:
    """All that the page is drawn from."""

    rounds: tuple[RoundLine, ...]
    settings: tuple[Setting, ...]
    evaluation: Evaluation | None
    parts: Parts | None = None
    unreadable_lines: int = 0

    def setting(self, name: str, default: str = "") -> str:
        return next((s.value for s in self.settings if s.name == name), default)

    @cached_property
    def clients(self) -> tuple[ClientLine, ...]:
        """Everyone who was asked or knocked, by name."""
        tallies: dict[str, dict[str, int]] = {}
        for line in self.rounds:
            asked = set(line.cohort)
            for client_id, part in line.parts.items():
                tally = tallies.setdefault(client_id, {})
                tally[part] = tally.get(part, 0) + 1
                tally["cohort"] = tally.get("cohort", 0) + (client_id in asked)
                if part == "accepted":
                    tally["examples"] = tally.get("examples", 0) + line.examples.get(client_id, 0)
        return tuple(_client_line(name, tallies[name]) for name in sorted(tallies))

    def refusals(self) -> list[tuple[str, int]]:
        """Reasons and how often, the most frequent first."""
        counts: dict[str, int] = {}
        for line in self.rounds:
            for refused in line.rejected:
                counts[refused.reason] = counts.get(refused.reason, 0) + refused.count
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def read_run(run_dir: Path) -> RunData:
    """The run in ``run_dir``; whatever is missing is empty."""
    by_number: dict[int, RoundLine] = {}
    unreadable = 0
    for text in _lines(run_dir / "rounds.jsonl"):
        line = _round_line(_parsed(text))
        if line is None:
            unreadable += 1
        else:
            by_number[line.number] = line
    return RunData(
        rounds=tuple(by_number[number] for number in sorted(by_number)),
        settings=_settings(_json_file(run_dir / "config.json")),
        evaluation=_evaluation(_json_file(run_dir / "evaluation.json")),
        parts=read_parts(_json_file(run_dir / PARTS_FILE)),
        unreadable_lines=unreadable,
    )


def _client_line(name: str, tally: Mapping[str, int]) -> ClientLine:
    def of(key: str) -> int:
        return tally.get(key, 0)

    return ClientLine(
        name, of("cohort"), of("accepted"), of("late"), of("rejected"), of("missing"), of("examples")
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8", errors="replace").split("\n") if line.strip()]
    except OSError:
        return []


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_file(path: Path) -> Any:
    return _parsed("\n".join(_lines(path)))


def _round_line(body: Any) -> RoundLine | None:
    if not isinstance(body, dict) or type(body.get("round")) is not int:
        return None
    return RoundLine(
        number=body["round"], outcome=str(body.get("outcome", "")),
        cohort=_names(body.get("cohort")), accepted=_names(body.get("accepted")),
        rejected=tuple(_refused(item) for item in _list(body.get("rejected")) if isinstance(item, dict)),
        stragglers=_names(body.get("stragglers")), num_examples=_count(body.get("num_examples")),
        bytes_down=_count(body.get("bytes_down")), bytes_up=_count(body.get("bytes_up")),
        started_at=str(body.get("started_at") or ""), duration_s=max(_number(body.get("duration_s")) or 0.0, 0.0),
        metrics=_numbers(body.get("metrics")), client_metrics=_numbers(body.get("client_metrics")),
        examples={name: int(n) for name, n in _numbers(body.get("client_examples")).items()},
        sites=_sites(body.get("sites")), model_sha256=str(body.get("model_sha256") or ""), attempts=max(_count(body.get("attempts")), 1),
    )  # fmt: skip


def _sites(value: Any) -> dict[str, Mapping[str, float]]:
    rows = {str(name): _numbers(row) for name, row in value.items()} if isinstance(value, dict) else {}
    return {name: row for name, row in rows.items() if row}


def _refused(item: Mapping[str, Any]) -> Refused:
    return Refused(
        str(item.get("client_id", "")), str(item.get("reason", "")), max(_count(item.get("count")), 1)
    )


def _settings(body: Any) -> tuple[Setting, ...]:
    if not isinstance(body, dict):
        return ()
    return tuple(_setting(str(name), value) for name, value in body.items())


def _setting(name: str, entry: Any) -> Setting:
    held = isinstance(entry, dict) and "value" in entry
    value, source = (entry["value"], str(entry.get("source", ""))) if held else (entry, "")
    secret = any(word in name.lower() for word in ("password", "secret", "token")) and not name.endswith(
        "_file"
    )
    shown = "hidden" if secret and value else "" if value is None else _shown(value)
    return Setting(name, shown, source)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _evaluation(body: Any) -> Evaluation | None:
    if not isinstance(body, dict):
        return None
    confusion = tuple(tuple(_count(n) for n in _list(row)) for row in _list(body.get("confusion")))
    square = len(confusion) in range(2, 13) and all(len(row) == len(confusion) for row in confusion)
    size = len(confusion) if square else 0
    interval = _pair(body.get("auroc_interval"))
    return Evaluation(
        round_number=_count(body.get("round")), interval=interval,
        sensitivity=_number(body.get("sensitivity_at_90_specificity")), threshold=_number(body.get("threshold")),
        confusion=confusion if square else (), roc=_roc(body.get("roc")),
        images=_count(body.get("images")), patients=_count(body.get("patients")),
        classes=(*_names(body.get("classes")), *(f"class {i}" for i in range(size)))[:max(size, 2)],
        operating=read_operating(body), calibration=read_calibration(body),
    )  # fmt: skip


def _roc(value: Any, most: int = 600) -> tuple[tuple[float, float], ...]:
    """The curve inside the unit square, thinned so that a large test set does not make a large page."""
    points = [pair for pair in map(_pair, _list(value)) if pair and min(pair) >= 0 and max(pair) <= 1]
    every = max(1, math.ceil(len(points) / most))
    return tuple(points[::every] + (points[-1:] if every > 1 else []))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in _list(value))


def _number(value: Any) -> float | None:
    usable = type(value) in (int, float) and math.isfinite(value) and abs(value) <= LARGEST
    return float(value) if usable else None


def _count(value: Any) -> int:
    return int(max(_number(value) or 0.0, 0.0))


def _pair(value: Any) -> tuple[float, float] | None:
    found = [number for number in map(_number, _list(value)) if number is not None]
    return (found[0], found[1]) if len(found) == 2 else None


def _numbers(value: Any) -> dict[str, float]:
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    found = {str(name): _number(number) for name, number in items}
    return {name: number for name, number in found.items() if number is not None}
