"""What the report reads from a run directory, as frozen values. Total: odd or cut files lose what is odd, no more.

A report is written while a run goes on and after it broke; it must never be the reason that a run stops.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aggregator.report.evaluation import Calibration, Operating, read_calibration, read_operating
from aggregator.report.parts import FILE_NAME as PARTS_FILE
from aggregator.report.parts import Parts, read_parts
from aggregator.report.round_line import count, list_of, number, read_line, texts
from aggregator.report.rounds import Rounds


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

    rounds: Rounds
    settings: tuple[Setting, ...]
    evaluation: Evaluation | None
    parts: Parts | None = None
    unreadable_lines: int = 0

    def setting(self, name: str, default: str = "") -> str:
        return next((s.value for s in self.settings if s.name == name), default)


def read_run(run_dir: Path) -> RunData:
    """The run in ``run_dir``; whatever is missing is empty. Lines are read one by one, and few are kept."""
    rounds, unreadable = Rounds(), 0
    for text in _lines(run_dir / "rounds.jsonl"):
        line = read_line(_parsed(text))
        unreadable += line is None or not rounds.add(line)
    return RunData(
        rounds=rounds,
        settings=settings_in(_json_file(run_dir / "config.json")),
        evaluation=_evaluation(_json_file(run_dir / "evaluation.json")),
        parts=read_parts(_json_file(run_dir / PARTS_FILE)),
        unreadable_lines=unreadable,
    )


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("r", encoding="utf-8", errors="replace") as file:
            yield from (line for line in file if line.strip())
    except OSError:
        return


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_file(path: Path) -> Any:
    return _parsed("".join(_lines(path)))


def settings_in(body: Any) -> tuple[Setting, ...]:
    """What config.json says, as the page shows it; empty if that is no object."""
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
    confusion = tuple(tuple(count(n) for n in list_of(row)) for row in list_of(body.get("confusion")))
    square = len(confusion) in range(2, 13) and all(len(row) == len(confusion) for row in confusion)
    size = len(confusion) if square else 0
    interval = _pair(body.get("auroc_interval"))
    return Evaluation(
        round_number=count(body.get("round")), interval=interval,
        sensitivity=number(body.get("sensitivity_at_90_specificity")), threshold=number(body.get("threshold")),
        confusion=confusion if square else (), roc=_roc(body.get("roc")),
        images=count(body.get("images")), patients=count(body.get("patients")),
        classes=(*texts(body.get("classes")), *(f"class {i}" for i in range(size)))[:max(size, 2)],
        operating=read_operating(body), calibration=read_calibration(body),
    )  # fmt: skip


def _roc(value: Any, most: int = 600) -> tuple[tuple[float, float], ...]:
    """The curve inside the unit square, thinned so that a large test set does not make a large page."""
    points = [pair for pair in map(_pair, list_of(value)) if pair and min(pair) >= 0 and max(pair) <= 1]
    every = max(1, math.ceil(len(points) / most))
    return tuple(points[::every] + (points[-1:] if every > 1 else []))


def _pair(value: Any) -> tuple[float, float] | None:
    found = [each for each in map(number, list_of(value)) if each is not None]
    return (found[0], found[1]) if len(found) == 2 else None
