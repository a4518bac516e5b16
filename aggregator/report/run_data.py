"""What the report reads from a run directory, as frozen values. Total: odd or cut files lose what is odd, no more.

A report is written while a run goes on and after it broke; it must never be the reason that a run stops.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aggregator.report.evaluation import Evaluation, read_evaluation
from aggregator.report.parts import FILE_NAME as PARTS_FILE
from aggregator.report.parts import Parts, read_parts
from aggregator.report.round_line import read_line
from aggregator.report.rounds import Rounds


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
        evaluation=read_evaluation(_json_file(run_dir / "evaluation.json")),
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
