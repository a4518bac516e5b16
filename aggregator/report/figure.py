"""What the report's page is made of: charts with captions, headline figures, and figures as text."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Figure:
    """A chart with its caption. ``legend`` is (colour, name) for charts of more than one line."""

    title: str
    note: str
    svg: Markup
    legend: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Tile:
    """A headline figure: its name, the figure and one line about it."""

    name: str
    figure: str
    note: str


def figure_text(value: float | None) -> str:
    """A metric to three decimals, or a dash."""
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
