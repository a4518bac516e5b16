"""A run in figures for a monitoring system: what is counted, and under which few labels. Pure; time is an argument.

Counters follow rounds.jsonl: they move when a round ends, begin with the rounds that a resumed run has had, and agree
with it to the last digit. Gauges tell what is under way. Peers choose their names and their words, so neither is ever a
label: reasons are ours, and beyond MAX_REASONS of them all are ``other``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fl_protocol.messages import CLIENT_STATES

PHASES = ("waiting", "open", "aggregating", "finished", "stopped")
OUTCOMES = ("closed", "closed_short", "abandoned")
OTHER, DECLINED = "other", "declined"
MAX_REASONS = 40
ROUND_BOUNDS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_REASON = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Histogram:
    """How many durations were at most so long."""

    def __init__(self, bounds: tuple[float, ...] = ROUND_BOUNDS_S) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, seconds: float) -> None:
        self.total += seconds
        self._counts[sum(seconds > bound for bound in self.bounds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them: ``(upper bound, count)``."""
        found, running = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self._counts, strict=True):
            running += count
            found.append((bound, float(running)))
        return found


@dataclass
class Tally:
    """The sums over ended rounds."""

    rounds: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(OUTCOMES, 0)))
    refused: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    stragglers: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    durations: Histogram = field(default_factory=Histogram)
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the last central evaluation."""

    def add(self, record: Mapping[str, Any]) -> None:
        """A line of rounds.jsonl."""
        outcome = record["outcome"]
        self.rounds[outcome if outcome in OUTCOMES else OTHER] += 1
        self.accepted += len(record["accepted"])
        self.stragglers += len(record["stragglers"])
        for refusal in record["rejected"]:
            self.refused[self._reason(refusal["reason"])] += refusal.get("count", 1)
        self.bytes_up += record.get("bytes_up", 0)
        self.bytes_down += record.get("bytes_down", 0)
        self.durations.observe(record["duration_s"])
        if record.get("metrics"):
            self.metrics = dict(record["metrics"])

    def _reason(self, text: str) -> str:
        """The label of a refusal: a name of ours. What a client says when it declines is its own affair."""
        if text.startswith(f"{DECLINED}:"):
            return DECLINED
        known = text in self.refused or len(self.refused) < MAX_REASONS
        return text if known and _REASON.fullmatch(text) else OTHER


@dataclass(frozen=True)
class Live:
    """What is under way, as the owner of the run last saw it."""

    phase: str = "waiting"
    round_number: int = 0
    rounds: int = 0
    cohort: int = 0
    accepted: int = 0
    refused: int = 0
    bytes_up: int = 0
    """Since the process began, as is bytes_down."""
    bytes_down: int = 0
    edges: Mapping[str, int] = field(default_factory=dict)
    connected: bool = True


def edges_by_state(states: Mapping[str, int]) -> dict[str, int]:
    """Every state there is, those without an edge too, so that a curve begins at nought."""
    return {state: states.get(state, 0) for state in CLIENT_STATES}
