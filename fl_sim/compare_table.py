"""A comparison for people: rows of a table, and the gap in words."""

from __future__ import annotations

from collections.abc import Sequence

from fl_sim.comparison import CENTRALISED, FEDERATED, LOCAL, Comparison, Result

NONE = "\N{EN DASH}"
OTHERS = {
    "over_centralised": "the centralised model", "over_mean_local": "the mean of the local models",
    "over_best_local": "the best local model",
}  # fmt: skip


def ordered(comparison: Comparison) -> list[Result]:
    """Local first, then federated, then centralised: from what a site has to what nobody may have."""
    return [*comparison.of(LOCAL), *comparison.of(FEDERATED), *comparison.of(CENTRALISED)]


def columns(comparison: Comparison) -> list[str]:
    """What the figures of a row are: of the pooled test first, then of every site's own held-out patients."""
    measure = comparison.measure
    rest = [name for name in ("accuracy", "loss") if name != measure]
    return [f"pooled {name}" for name in (measure, *rest)] + [
        f"{measure} at {name}" for name in comparison.sites
    ]


def figures(comparison: Comparison, result: Result) -> list[float | None]:
    """A row's figures in the order of :func:`columns`."""
    measure = comparison.measure
    rest = [name for name in ("accuracy", "loss") if name != measure]
    at_sites = [result.sites.get(name, {}).get(measure) for name in comparison.sites]
    return [*(result.pooled.get(name) for name in (measure, *rest)), *at_sites]


def label(result: Result) -> str:
    return f"{LOCAL}: {result.title}" if result.kind == LOCAL else result.kind


def figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def gaps_in_words(comparison: Comparison) -> list[str]:
    """A sentence for each gap."""
    told = []
    for name, gap in comparison.gaps().items():
        side = "above" if gap >= 0 else "below"
        told.append(
            f"On the pooled test the federated model is {abs(gap):.4f} {comparison.measure} {side} {OTHERS[name]}."
        )
    return told


def lines(comparison: Comparison) -> list[str]:
    """The table and the gaps as plain text, columns aligned."""
    rows = [["", *columns(comparison)]]
    rows += [[label(each), *map(figure, figures(comparison, each))] for each in ordered(comparison)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [*(_aligned(row, widths) for row in rows), "", *gaps_in_words(comparison)]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()
