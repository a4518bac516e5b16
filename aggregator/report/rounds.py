"""All rounds of a run in a space that does not grow with their number: sums, the newest lines, and thinned curves.

The report is drawn from this, so that neither the page nor the aggregator that writes it grows in a long run.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from aggregator.report.round_line import ABANDONED, CLOSED_SHORT, RoundLine, interval_of

MOST_ROUNDS = 300
"""Rounds that have a row in the table: the newest."""
MOST_POINTS = 300
MOST_REASONS = 200
OTHER_REASONS = "other reasons"
_WORST = (ABANDONED, CLOSED_SHORT)


@dataclass(frozen=True)
class Stretch:
    """Successive rounds that are one point of a curve, and one bar. ``metrics`` are the newest of each name."""

    first: int
    last: int
    rounds: int
    outcome: str
    """The worst of them."""
    duration_s: float
    bytes_down: int
    bytes_up: int
    metrics: dict[str, float]
    client_metrics: dict[str, float]

    def __add__(self, later: Stretch) -> Stretch:
        outcome = next((bad for bad in _WORST if bad in (self.outcome, later.outcome)), later.outcome)
        return Stretch(
            self.first, later.last, self.rounds + later.rounds, outcome, self.duration_s + later.duration_s,
            self.bytes_down + later.bytes_down, self.bytes_up + later.bytes_up,
            self.metrics | later.metrics, self.client_metrics | later.client_metrics,
        )  # fmt: skip

    @property
    def interval(self) -> tuple[float, float] | None:
        return interval_of(self.metrics)


@dataclass
class Curve:
    """At most ``most`` stretches over all rounds: when there are more, neighbours are made one."""

    most: int = MOST_POINTS
    every: int = 1
    """Rounds in a stretch; the last one may have fewer."""
    points: list[Stretch] = field(default_factory=list)

    def add(self, line: RoundLine) -> None:
        """A round later than all before."""
        point = Stretch(
            line.number, line.number, 1, line.outcome, line.duration_s, line.bytes_down, line.bytes_up,
            dict(line.metrics), dict(line.client_metrics),
        )  # fmt: skip
        if self.points and self.points[-1].rounds < self.every:
            self.points[-1] += point
        else:
            self.points.append(point)
        if len(self.points) > self.most:
            self.every *= 2
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            odd = self.points[-1:] if len(self.points) % 2 else []
            self.points = [*(first + second for first, second in pairs), *odd]


@dataclass
class ClientLine:
    """What one client did over the run. ``examples`` is 0 where no line says."""

    client_id: str
    cohort: int = 0
    accepted: int = 0
    late: int = 0
    rejected: int = 0
    missing: int = 0
    examples: int = 0


@dataclass
class SiteNews:
    """The newest figures of one site, of which round, and its first AUROC."""

    number: int
    figures: dict[str, float]
    first: float | None = None


class Rounds:
    """Told every line in order by :meth:`add`; one that is out of order is left out (False)."""

    def __init__(self) -> None:
        self.count = self.done = self.abandoned = self.short = 0
        self.bytes_down = self.bytes_up = 0
        self.seconds = 0.0
        self.started_at = ""
        self.model_sha256 = ""
        self.num_examples = 0
        """Behind the newest model."""
        self.recent: deque[RoundLine] = deque(maxlen=MOST_ROUNDS)
        self.curve = Curve()
        self.central: dict[str, RoundLine] = {}
        """The newest line that has a central metric, by its name."""
        self.client_metrics: set[str] = set()
        self._clients: dict[str, ClientLine] = {}
        self.sites: dict[str, SiteNews] = {}
        self._refusals: dict[str, int] = {}

    @property
    def last(self) -> RoundLine | None:
        return self.recent[-1] if self.recent else None

    def add(self, line: RoundLine) -> bool:
        """A round that ended after those before; False if it did not."""
        if self.last is not None and line.number <= self.last.number:
            return False
        self._sum_up(line)
        self._tell_clients_apart(line)
        for refused in line.rejected:
            known = refused.reason in self._refusals or len(self._refusals) < MOST_REASONS
            reason = refused.reason if known else OTHER_REASONS
            self._refusals[reason] = self._refusals.get(reason, 0) + refused.count
        kept = replace(line, sites={}, examples={})
        self.central.update(dict.fromkeys(line.metrics, kept))
        self.client_metrics |= set(line.client_metrics)
        self.recent.append(kept)
        self.curve.add(line)
        return True

    def _sum_up(self, line: RoundLine) -> None:
        self.count += 1
        self.done += line.done
        self.abandoned += line.outcome == ABANDONED
        self.short += line.outcome == CLOSED_SHORT
        self.bytes_down += line.bytes_down
        self.bytes_up += line.bytes_up
        self.seconds += line.duration_s
        self.started_at = self.started_at if self.count > 1 else line.started_at
        self.model_sha256 = line.model_sha256 or self.model_sha256
        self.num_examples = line.num_examples if line.done else self.num_examples

    def _tell_clients_apart(self, line: RoundLine) -> None:
        asked = set(line.cohort)
        for client_id, part in line.parts().items():
            tally = self._clients.setdefault(client_id, ClientLine(client_id))
            setattr(tally, part, getattr(tally, part) + 1)
            tally.cohort += client_id in asked
            if part == "accepted":
                tally.examples += line.examples.get(client_id, 0)
        for client_id, figures in line.sites.items():
            before = self.sites.get(client_id)
            first = figures.get("auroc") if before is None or before.first is None else before.first
            self.sites[client_id] = SiteNews(line.number, dict(figures), first)

    def clients(self) -> list[ClientLine]:
        """Everyone who was asked or knocked, by name."""
        return [self._clients[name] for name in sorted(self._clients)]

    def refusals(self) -> list[tuple[str, int]]:
        """Reasons and how often, the most frequent first."""
        return sorted(self._refusals.items(), key=lambda item: (-item[1], item[0]))
