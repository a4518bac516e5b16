"""What sites measured: a row for each of them, and the mean over them. Pure.

Metrics that begin with ``eval_`` are *figures*: of the round's base model, before it was trained, on patients whom the
site holds out (federated evaluation). They come with an update, or alone from a client that only scores. All others
are of a client's training, but for the times it took (round_times.py). Clients choose names and values: both are bounded here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aggregator.round_times import TIMES
from aggregator.strategy import MAX_METRICS, weighted_metrics
from fl_protocol.messages import FIGURE, figures_of

EXAMPLES = "examples"
COUNTS = (EXAMPLES, "patients")
"""Figures that are added up instead of averaged."""
MAX_FIGURES, MAX_NAME = 16, 40


@dataclass(frozen=True)
class Report:
    """What one client told in a round. ``fresh``: of the round's own base model, not of an earlier one."""

    client_id: str
    num_examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    fresh: bool = True


def site_rows(reports: Iterable[Report]) -> dict[str, dict[str, float]]:
    """The figures of every site that shares any, by client id, counts as told."""
    rows = {report.client_id: _figures(report) for report in reports if report.fresh}
    return {client_id: rows[client_id] for client_id in sorted(rows) if rows[client_id]}


def client_means(reports: Sequence[Report]) -> dict[str, float]:
    """Training metrics weighted by num_examples, figures by the examples they were measured on.

    A client's weight in the figures is at most its num_examples, which it cannot make up: it declared them before.
    """
    trained = [
        (
            each.num_examples,
            {k: v for k, v in each.metrics.items() if not k.startswith(FIGURE) and k not in TIMES},
        )
        for each in reports
    ]
    scored = [(_weight(each), _figures(each)) for each in reports if each.fresh]
    means = _means([(weight, _without(figures, COUNTS)) for weight, figures in scored], MAX_FIGURES)
    for name in COUNTS:
        told = [min(max(0.0, figures[name]), weight) for weight, figures in scored if name in figures]
        if told:
            means[name] = float(sum(told))
    training = _means(trained, MAX_METRICS - MAX_FIGURES - len(COUNTS))
    return training | {f"{FIGURE}{name}": value for name, value in sorted(means.items())}


def _means(told: Sequence[tuple[int, Mapping[str, float]]], most: int) -> dict[str, float]:
    """Weighted means of the ``most`` names that most clients tell."""
    counts = Counter(name for _, metrics in told for name in metrics)
    kept = set(sorted(counts, key=lambda name: (-counts[name], name))[:most])
    return weighted_metrics((weight, {k: v for k, v in each.items() if k in kept}) for weight, each in told)


def _without(figures: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name not in names}


def _figures(report: Report) -> dict[str, float]:
    found = {k: v for k, v in figures_of(report.metrics).items() if len(k) <= MAX_NAME and math.isfinite(v)}
    return {name: found[name] for name in sorted(found)[:MAX_FIGURES]}


def _weight(report: Report) -> int:
    told = report.metrics.get(FIGURE + EXAMPLES, report.num_examples)
    return int(min(max(0.0, told), report.num_examples)) if math.isfinite(told) else 0
