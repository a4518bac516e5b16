"""Charts as inline SVG: axes with round numbers, lines with bands, bars, a ROC curve, who was in when.

Colour never stands alone: a second line is dashed, a third dotted, and outcomes differ in shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

from aggregator.report import paper

MARKERS_UP_TO = 40
"""Points of a line get a dot, with its value as a tooltip, up to this many."""


@dataclass(frozen=True)
class Line:
    """One curve. A point whose value is None leaves a gap; ``band`` holds (x, low, high)."""

    name: str
    points: Sequence[tuple[float, float | None]]
    colour: int = 1
    band: Sequence[tuple[float, float, float]] = ()

    def values(self) -> list[float]:
        return [y for _, y in self.points if y is not None] + [v for _, *edges in self.band for v in edges]


@dataclass(frozen=True)
class Bar:
    """One bar at ``x``: ``parts`` are stacked, each with the class of its colour; ``tip`` is its tooltip."""

    x: int
    parts: Sequence[tuple[float, str]]
    tip: str = ""


def line_chart(key: str, title: str, lines: Sequence[Line], *, x_label: str = "round", floor: float | None = None,
               ceiling: float | None = None) -> Markup:  # fmt: skip
    """Curves over rounds. The vertical axis spans the values; rounds are whole numbers."""
    low, high, step = paper.nice_range(
        (v for line in lines for v in line.values()), floor=floor, ceiling=ceiling
    )
    rounds = [x for line in lines for x, _ in line.points] or [1.0]
    across = _round_axis(min(rounds), max(rounds))
    up = paper.Axis(low, high, paper.HEIGHT - paper.BOTTOM, paper.TOP)
    body = [
        paper.grid(up, paper.ticks(low, high, step), paper.plain_number(step)),
        _rounds_below(across, x_label),
    ]
    for line in lines:
        body += [_band(line, across, up)] if line.band else []
    body += [_curve(line, across, up) for line in lines]
    said = "; ".join(_spoken(line) for line in lines)
    return paper.svg(key, title, said, paper.WIDTH, paper.HEIGHT, body)


def bar_chart(key: str, title: str, bars: Sequence[Bar], *, unit: str, x_label: str = "round") -> Markup:
    """One bar a round, from zero."""
    tops = [sum(size for size, _ in bar.parts) for bar in bars]
    low, high, step = paper.nice_range([0.0, *tops], floor=0.0)
    xs = [bar.x for bar in bars] or [1]
    across = _round_axis(min(xs) - 0.5, max(xs) + 0.5)
    up = paper.Axis(low, high, paper.HEIGHT - paper.BOTTOM, paper.TOP)
    width = max(0.8, min(30.0, 0.68 * (across.end - across.start) / (across.high - across.low)))
    body = [
        paper.grid(up, paper.ticks(low, high, step), paper.plain_number(step)),
        _rounds_below(across, x_label),
    ]
    body += [_bar(bar, across.at(bar.x) - width / 2, width, up) for bar in bars]
    said = f"{len(bars)} rounds; highest {max(tops, default=0.0):.4g} {unit}, last {tops[-1] if tops else 0.0:.4g} {unit}"
    return paper.svg(key, title, said, paper.WIDTH, paper.HEIGHT, body)


def roc_chart(key: str, title: str, curve: Sequence[tuple[float, float]],
              point: tuple[float, float] | None = None) -> Markup:  # fmt: skip
    """True against false positive rate, with the diagonal of chance and the operating point."""
    side = paper.HEIGHT - paper.TOP - paper.BOTTOM
    start = paper.LEFT + (paper.WIDTH - paper.LEFT - paper.RIGHT - side) / 2
    across, up = (
        paper.Axis(0, 1, start, start + side),
        paper.Axis(0, 1, paper.HEIGHT - paper.BOTTOM, paper.TOP),
    )
    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    body = [paper.grid(up, marks, paper.plain_number(0.25), start, start + side)]
    body += [
        paper.text(across.at(x), paper.HEIGHT - paper.BOTTOM + 16, f"{x:g}", "tick mid")
        for x in (0.0, 0.5, 1.0)
    ]
    body += [paper.text(start + side / 2, paper.HEIGHT - 6, "1 − specificity", "label mid"),
             paper.text(start - 44, paper.TOP + side / 2, "sensitivity", "label mid turned", turned=True)]  # fmt: skip
    body.append(paper.path([(across.at(0), up.at(0)), (across.at(1), up.at(1))], "chance"))
    drawn = [(across.at(x), up.at(y)) for x, y in curve]
    area = [*drawn, (across.at(1), up.at(0)), (across.at(0), up.at(0))]
    body += [paper.path(area, "band b1", closed=True), paper.path(drawn, "line c1")] if drawn else []
    if point:
        tip = f"operating point: sensitivity {point[1]:.3f}, specificity {1 - point[0]:.3f}"
        body.append(paper.dot(across.at(point[0]), up.at(point[1]), "point", tip, radius=5.5))
    return paper.svg(key, title, f"curve through {len(curve)} points", paper.WIDTH, paper.HEIGHT, body)


def tally_chart(key: str, title: str, rows: Sequence[tuple[str, int]]) -> Markup:
    """Counts by name as horizontal bars, the largest first."""
    most = max((count for _, count in rows), default=1) or 1
    body: list[str] = []
    for i, (name, count) in enumerate(rows):
        top = 8.0 + 34 * i
        length = max(2.0, (paper.WIDTH - 60) * count / most)
        body.append(paper.text(0, top + 10, paper.short(name, 46), "tick"))
        body.append(f'<rect class="bar k2" x="0" y="{top + 15:.1f}" width="{length:.1f}" height="9" rx="2"/>')
        body.append(paper.text(length + 8, top + 23, f"{count:,}", "tick strong"))
    said = "; ".join(f"{name}: {count}" for name, count in rows) or "none"
    return paper.svg(key, title, said, paper.WIDTH, 16.0 + 34 * max(len(rows), 1), body)


def presence_chart(key: str, title: str, names: Sequence[str], rounds: Sequence[int],
                   state: Callable[[str, int], str]) -> Markup:  # fmt: skip
    """A row a client, a column a round. ``state`` names the mark: accepted, late, rejected, missing or empty."""
    cell, left, top = 20.0, 124.0, 6.0
    bottom = top + cell * len(names)
    body: list[str] = []
    for i, name in enumerate(names):
        y = top + cell * i + cell / 2
        body.append(paper.text(left - 10, y + 4, paper.short(name, 16), "tick end"))
        for j, number in enumerate(rounds):
            how = state(name, number)
            body.append(
                _mark(left + cell * j + cell / 2, y, how, f"{name}, round {number}: {how or 'not asked'}")
            )
    every = max(1, round(paper.nice_step(len(rounds), 12)))
    for j, number in enumerate(rounds):
        if j == 0 or number % every == 0:
            body.append(paper.text(left + cell * j + cell / 2, bottom + 14, str(number), "tick mid"))
    width = left + cell * max(len(rounds), 1) + 6
    return paper.svg(
        key, title, f"{len(names)} clients over {len(rounds)} rounds", width, bottom + 22, body, fixed=True
    )


def spark_range(key: str, title: str, low: float, value: float, high: float) -> Markup:
    """A value with its interval on a scale from 0.5 to 1: the small picture under a large figure."""
    across = paper.Axis(0.5, 1.0, 6, 334)
    a, v, b = (across.at(min(1.0, max(0.5, x))) for x in (low, value, high))
    body = ['<line class="axis" x1="6" x2="334" y1="12" y2="12"/>',
            f'<rect class="bar k1 soft" x="{a:.1f}" y="7" width="{max(2.0, b - a):.1f}" height="10" rx="5"/>',
            f'<circle class="dot d1" cx="{v:.1f}" cy="12" r="5.5"/>']  # fmt: skip
    body += [paper.text(across.at(x), 32, f"{x:g}", "tick mid" if 0.5 < x < 1 else "tick" if x < 1 else "tick end")
             for x in (0.5, 0.75, 1.0)]  # fmt: skip
    return paper.svg(key, title, f"{value:.3f}, interval {low:.3f} to {high:.3f}", 340, 38, body)


def _round_axis(first: float, last: float) -> paper.Axis:
    if last - first < 1:
        first, last = first - 0.5, last + 0.5
    return paper.Axis(first, last, paper.LEFT + 6, paper.WIDTH - paper.RIGHT - 6)


def _rounds_below(across: paper.Axis, label: str) -> str:
    step = max(1.0, float(math.ceil(paper.nice_step(across.high - across.low, 7))))
    marks = paper.ticks(across.low, across.high, step)
    if step > 1 and across.low <= 1 and (not marks or across.at(marks[0]) - across.at(1) > 28):
        marks = [1.0, *marks]
    labels = [
        paper.text(across.at(x), paper.HEIGHT - paper.BOTTOM + 16, f"{x:.0f}", "tick mid")
        for x in marks
        if x >= 1
    ]
    return "".join(labels) + paper.text((across.start + across.end) / 2, paper.HEIGHT - 6, label, "label mid")


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The stretches between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _curve(line: Line, across: paper.Axis, up: paper.Axis) -> str:
    runs = _runs(line.points)
    known = sum(map(len, runs))
    parts = [
        paper.path([_placed(a[-1], across, up), _placed(b[0], across, up)], "bridge")
        for a, b in pairwise(runs)
    ]
    for run in runs:
        drawn = [_placed(point, across, up) for point in run]
        if len(drawn) > 1:
            parts.append(paper.path(drawn, f"line c{line.colour}"))
        if known <= MARKERS_UP_TO or len(drawn) == 1:
            parts += [paper.dot(px, py, f"dot d{line.colour}", f"{line.name}, round {x:.0f}: {y:.4g}")
                      for (px, py), (x, y) in zip(drawn, run, strict=True)]  # fmt: skip
    return "".join(parts)


def _placed(point: tuple[float, float], across: paper.Axis, up: paper.Axis) -> tuple[float, float]:
    return across.at(point[0]), up.at(point[1])


def _band(line: Line, across: paper.Axis, up: paper.Axis) -> str:
    upper = [(across.at(x), up.at(high)) for x, _, high in line.band]
    lower = [(across.at(x), up.at(low)) for x, low, _ in line.band]
    if len(upper) > 1:
        return paper.path([*upper, *reversed(lower)], f"band b{line.colour}", closed=True)
    (x, top), (_, base) = upper[0], lower[0]
    return f'<line class="whisker c{line.colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{base:.1f}"/>'


def _spoken(line: Line) -> str:
    known = [(x, y) for x, y in line.points if y is not None]
    if not known:
        return f"{line.name}: no values"
    return f"{line.name}: {known[0][1]:.4g} in round {known[0][0]:.0f}, {known[-1][1]:.4g} in round {known[-1][0]:.0f}"


def _bar(bar: Bar, left: float, width: float, up: paper.Axis) -> str:
    parts, below = [], 0.0
    for size, kind in bar.parts:
        top, base = up.at(below + size), up.at(below)
        if base - top > 0.05:
            parts.append(f'<rect class="bar {kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
                         f'height="{base - top:.1f}" rx="1.5"/>')  # fmt: skip
        below += size
    return f"<g><title>{escape(bar.tip)}</title>{''.join(parts)}</g>"


def _mark(x: float, y: float, how: str, tip: str) -> str:
    shapes = {
        "accepted": f'<rect class="bar k1" x="{x - 7:.0f}" y="{y - 7:.0f}" width="14" height="14" rx="3"/>',
        "late": f'<path class="bar k2" d="M{x - 7:.0f} {y + 7:.0f}h14v-14z"/>',
        "rejected": f'<path class="stroke s4" d="M{x - 5:.0f} {y - 5:.0f}l10 10m0 -10l-10 10"/>',
        "missing": f'<rect class="hollow" x="{x - 6:.0f}" y="{y - 6:.0f}" width="12" height="12" rx="3"/>',
    }
    shape = shapes.get(how, f'<circle class="absent" cx="{x:.0f}" cy="{y:.0f}" r="1.6"/>')
    return f"<g><title>{escape(tip)}</title>{shape}</g>"
