"""What every chart is drawn with: scales with round numbers, a grid, text, paths and dots, and the frame around them.

No script, no style attribute, no font of its own: colours are classes that a style sheet gives a value
for light, dark and print. Every text is escaped, every chart has a title and a description for those who hear it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 400.0, 236.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 12.0, 12.0, 40.0

Format = Callable[[float], str]


@dataclass(frozen=True)
class Axis:
    """A linear scale from values ``low..high`` to ``start..end`` in the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def nice_step(span: float, count: int) -> float:
    """1, 2, 2.5 or 5 times a power of ten, so that about ``count`` steps cover ``span``."""
    rough = max(span, 1e-12) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return power * next(f for f in (1.0, 2.0, 2.5, 5.0, 10.0) if f * power >= rough * (1 - 1e-9))


def nice_range(values: Iterable[float], *, floor: float | None = None, ceiling: float | None = None,
               count: int = 4) -> tuple[float, float, float]:  # fmt: skip
    """(low, high, step) that hold all ``values``, on round numbers, inside ``floor..ceiling`` where given."""
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-3):
        pad = max(abs(high) * 0.1, 0.05)
        low, high = low - pad, high + pad
    step = nice_step(high - low, count)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    if floor is not None:
        low = max(low, floor)
    if ceiling is not None:
        high = min(high, ceiling)
    return (low, high, step) if high > low else (low, low + step, step)


def ticks(low: float, high: float, step: float) -> list[float]:
    """The multiples of ``step`` in ``low..high``."""
    first = math.ceil(low / step - 1e-6)
    return [i * step for i in range(first, min(first + 40, math.floor(high / step + 1e-6) + 1))]


def plain_number(step: float) -> Format:
    """Labels with as many decimals as a ``step`` needs."""
    if step >= 1e5 or step < 1e-5:
        return lambda value: f"{value:.2g}"
    decimals = next((d for d in range(6) if abs(step * 10**d - round(step * 10**d)) < 1e-6 * 10**d), 5)
    return lambda value: f"{value:.{decimals}f}"


def short(text: str, longest: int) -> str:
    """``text`` with its middle left out where it is too long."""
    if len(text) <= longest:
        return text
    head = (longest - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def svg(key: str, title: str, said: str, width: float, height: float, body: Iterable[str],
         fixed: bool = False) -> Markup:  # fmt: skip
    size = f' width="{width:.0f}" height="{height:.0f}"' if fixed else ""
    head = (
        f'<svg{size} viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{escape(key)}-t {escape(key)}-d">'
        f'<title id="{escape(key)}-t">{escape(title)}</title><desc id="{escape(key)}-d">{escape(said)}</desc>'
    )
    return Markup(head + "".join(body) + "</svg>")  # noqa: S704  every text in it went through escape


def text(x: float, y: float, said: str, kind: str, *, turned: bool = False) -> str:
    how = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{how}>{escape(said)}</text>'


def path(points: Sequence[tuple[float, float]], kind: str, closed: bool = False) -> str:
    steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{kind}" d="M{steps}{"Z" if closed else ""}"/>'


def dot(x: float, y: float, kind: str, tip: str, radius: float = 3.2) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"><title>{escape(tip)}</title></circle>'


def grid(
    up: Axis, marks: Sequence[float], label: Format, left: float = LEFT, right: float = WIDTH - RIGHT
) -> str:
    parts = []
    for value in marks:
        y = up.at(value)
        kind = "axis" if abs(y - up.start) < 0.5 else "tickline"
        parts.append(f'<line class="{kind}" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(left - 7, y + 4, label(value), "tick end"))
    return "".join(parts)
