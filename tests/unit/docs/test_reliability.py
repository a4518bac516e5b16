"""docs/reliability.md names tests that exist, and every wait in the code with the bound that it has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
PACKAGES = ("aggregator", "edge_client", "fl_protocol", "fl_tasks")
PAUSES = {
    ("aggregator/bulletin.py", "EVERY_S"), ("aggregator/bulletin.py", "LOOK_S"),
    ("aggregator/metrics.py", "ROUND_BOUNDS_S"), ("aggregator/recording.py", "REPORT_EVERY_S"),
    ("aggregator/server.py", "LONGEST_WAIT_S"), ("aggregator/server.py", "LOOK_ABOUT_S"),
    ("aggregator/server.py", "REFRESH_S"), ("edge_client/agent.py", "IDLE_S"), ("edge_client/agent.py", "DELIVERY_S"),
    ("edge_client/agent.py", "LEISURE_S"), ("edge_client/follower.py", "DELIVERY_S"), ("edge_client/session.py", "PROGRESS_EVERY_S"),
    ("edge_client/telling.py", "SETTLED_S"), ("fl_protocol/login.py", "MIN_KEEPALIVE_S"), ("fl_protocol/login.py", "MAX_KEEPALIVE_S"),
    ("fl_protocol/doctor.py", "EARLIEST_CLOCK_S"), ("fl_protocol/doctor.py", "DRIFT_S"),
    ("fl_protocol/doctor.py", "DAY_S"), ("fl_protocol/transport.py", "TICK_S"),
    ("fl_tasks/image_cache.py", "STALE_DRAFT_S"), ("fl_tasks/worker.py", "PROGRESS_EVERY_S"),
    ("fl_tasks/worker.py", "ALIVE_EVERY_S"),
}  # fmt: skip
"""Constants in seconds that bound no wait: intervals of what is done anyhow, and limits of judgements."""


def constants() -> dict[tuple[str, str], float]:
    """Every number in seconds at the top of a module, by file and name."""
    found: dict[tuple[str, str], float] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.Assign):
                    found |= {(str(path.relative_to(ROOT)), name): value for name, value in _numbers(node)}
    return found


def _numbers(node: ast.Assign) -> list[tuple[str, float]]:
    target, value = node.targets[0], node.value
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    values = value.elts if isinstance(value, ast.Tuple) and isinstance(target, ast.Tuple) else [value]
    return [
        (name.id, float(each.value) if isinstance(each, ast.Constant) and isinstance(each.value, int | float) else 0.0)
        for name, each in zip(names, values, strict=True)
        if isinstance(name, ast.Name) and name.id.endswith("_S")
    ]  # fmt: skip


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip().strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def waits() -> dict[tuple[str, str], float]:
    """What the page says: an empty first cell means the file above."""
    found, file = {}, ""
    for where, names, seconds, _ in table("Waits"):
        file = where.strip("`") or file
        for name, value in zip(names.split(", "), seconds.split(", "), strict=True):
            found[file, name.strip("`")] = float(value)
    return found


def test_every_wait_is_there_with_its_bound() -> None:
    real = {key: value for key, value in constants().items() if key not in PAUSES}
    assert waits() == real


def test_what_is_called_a_pause_exists() -> None:
    assert PAUSES - set(constants()) == set()


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 20
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).is_file() or f"def {test}" not in (ROOT / file).read_text("utf-8")
    ]
    assert missing == []


def test_every_promise_has_its_four_cells() -> None:
    rows = table("Promises")
    assert len(rows) >= 14 and all(len(row) == 4 and row[0] and row[1] and row[2] for row in rows)
