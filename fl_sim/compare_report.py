"""report.html of a comparison: the table, the curves and the gap on one self-contained page."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from aggregator.report import charts
from aggregator.report.charts import Line
from aggregator.report.page import style
from aggregator.report.run_data import settings_in
from fl_sim.compare_table import columns, figure, figures, gaps_in_words, label, ordered
from fl_sim.comparison import CENTRALISED, FEDERATED, LOCAL, Comparison, Result

FILE_NAME = "report.html"


def write_report(folder: Path, comparison: Comparison, settings: Mapping[str, Any]) -> Path:
    """Draw ``folder/report.html``; readers see the old page or the new, never half."""
    target, draft = folder / FILE_NAME, folder / f".{FILE_NAME}.{os.getpid()}"
    draft.write_text(render(comparison, folder.name, settings), "utf-8", errors="replace")
    draft.replace(target)
    return target


def render(comparison: Comparison, name: str, settings: Mapping[str, Any]) -> str:
    """The page as text. ``settings`` are those of config.json."""
    env = Environment(
        loader=PackageLoader("fl_sim"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    sheet, digest = style()
    return env.get_template("compare.html.j2").render(
        name=name, style=sheet, style_digest=digest, measure=comparison.measure, columns=columns(comparison),
        rows=[(each.kind, label(each), [figure(value) for value in figures(comparison, each)]) for each in ordered(comparison)],
        sites=list(zip(comparison.sites, comparison.examples, strict=True)), gaps=gaps_in_words(comparison),
        curve=curve(comparison), settings=settings_in(dict(settings)),
        synthetic=bool(settings.get("synthetic", {}).get("value")),
    )  # fmt: skip


def curve(comparison: Comparison) -> Any:
    """The pooled measure over rounds, as :func:`compared_lines` has it."""
    title = f"{comparison.measure} on the pooled test"
    return charts.line_chart("c-gap", title, compared_lines(comparison), ceiling=1.0)


def compared_lines(comparison: Comparison) -> list[Line]:
    """The pooled measure over rounds: federated, centralised, and the local models' mean with their range."""
    measure = comparison.measure
    rounds = list(zip(*(result.curve for result in comparison.of(LOCAL)), strict=False))
    values = [[each[measure] for each in at_once if measure in each] for at_once in rounds]
    numbered = [(float(number), found) for number, found in enumerate(values, 1) if found]
    mean = [(number, statistics.fmean(found)) for number, found in numbered]
    band = [(number, min(found), max(found)) for number, found in numbered]
    return [
        Line(FEDERATED, _points(comparison.of(FEDERATED)[0], measure), 1),
        Line(CENTRALISED, _points(comparison.of(CENTRALISED)[0], measure), 2),
        Line(f"{LOCAL}, mean and range", mean, 3, band),
    ]


def _points(result: Result, measure: str) -> list[tuple[float, float | None]]:
    return [(float(number), metrics.get(measure)) for number, metrics in enumerate(result.curve, 1)]
