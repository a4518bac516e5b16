"""Charts that stand alone: in a notebook, or in a file. The drawing is that of the report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

from aggregator.report import paper
from aggregator.report.charts import Line, line_chart
from aggregator.report.page import chart_style

ROW = 20.0
"""Height of a line of the legend."""


@dataclass(frozen=True)
class Picture:
    """An SVG image. A notebook shows it; :meth:`save` writes it."""

    svg: str
    title: str
    width: float

    def save(self, path: str | Path) -> Path:
        """Write the picture as an SVG file."""
        target = Path(path)
        target.write_text(self.svg, "utf-8")
        return target

    def _repr_html_(self) -> str:
        """As an image, so that the notebook's styles and ours keep apart."""
        data = base64.b64encode(self.svg.encode()).decode()
        return f'<img alt="{escape(self.title)}" width="{self.width:.0f}" src="data:image/svg+xml;base64,{data}">'


def curves(title: str, lines: Sequence[Line], *, floor: float | None = None, ceiling: float | None = None) -> Picture:  # fmt: skip
    """Curves over rounds with a title above and a legend below, ``lines`` in the order given."""
    chart = line_chart("curves", title, lines, floor=floor, ceiling=ceiling)
    top, below = 30.0, ROW * len(lines) + 8
    height = top + paper.HEIGHT + below
    words = paper.text(paper.LEFT, 20, title, "strong")
    rows = "".join(_key(line, top + paper.HEIGHT + ROW * (index + 0.5)) for index, line in enumerate(lines))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{paper.WIDTH * 1.5:.0f}" height="{height * 1.5:.0f}" '
        f'viewBox="0 0 {paper.WIDTH:.0f} {height:.0f}" font-family="system-ui, sans-serif">'
        f'<style>{chart_style()}</style><rect width="100%" height="100%" fill="var(--card)"/>'
        f'{words}<svg y="{top:.0f}" width="{paper.WIDTH:.0f}" height="{paper.HEIGHT:.0f}">{chart}</svg>{rows}</svg>'
    )
    return Picture(svg, title, paper.WIDTH * 1.5)


def _key(line: Line, y: float) -> str:
    """A row of the legend: how the line looks, and its name."""
    stroke = paper.path([(paper.LEFT, y), (paper.LEFT + 28, y)], f"line c{line.colour}")
    return stroke + paper.text(paper.LEFT + 36, y + 4, line.name, "tick")
