"""The report's table of sites: how the global model did on patients whom each site holds out."""

from __future__ import annotations

from dataclasses import dataclass

from aggregator.report.paper import short
from aggregator.report.run_data import RunData

COUNTS = ("examples", "patients")
KNOWN = ("auroc", "loss", "accuracy", "sensitivity", "specificity", "ece")
MOST_COLUMNS, MOST_SITES = 9, 200
UNSHOWN = "log_temperature"
"""For the mean of the sites (temperature.py), not for people."""
TITLES = {"auroc": "AUROC", "ece": "ECE"}


@dataclass(frozen=True)
class SiteRow:
    """One site's newest figures, in the order of the columns; None where it told none."""

    client_id: str
    round_number: int
    counts: tuple[int | None, ...]
    figures: tuple[float | None, ...]
    first: float | None
    """Its first AUROC, to see what the rounds did for it."""


@dataclass(frozen=True)
class SiteTable:
    """``columns`` are titles of figures. ``silent`` are clients whose updates count and of whom there are none: a
    record does not say whether they were asked.
    """

    columns: tuple[str, ...]
    rows: tuple[SiteRow, ...]
    hidden: int
    silent: tuple[str, ...]


def site_table(run: RunData) -> SiteTable | None:
    """The newest figures of every site; None if no site ever shared any."""
    told = run.rounds.sites
    if not told:
        return None
    found = {name for news in told.values() for name in news.figures}
    found -= {*COUNTS, UNSHOWN}
    names = [name for name in KNOWN if name in found]
    names += sorted(found - set(KNOWN))[: MOST_COLUMNS - len(names)]
    rows = tuple(
        SiteRow(
            client_id, news.number,
            tuple(int(value) if (value := news.figures.get(name)) is not None else None for name in COUNTS),
            tuple(news.figures.get(name) for name in names), news.first,
        )
        for client_id, news in sorted(told.items())
    )  # fmt: skip
    silent = {client.client_id for client in run.rounds.clients() if client.accepted} - set(told)
    titles = tuple(TITLES.get(name, short(name, 20)) for name in names)
    return SiteTable(titles, rows[:MOST_SITES], max(0, len(rows) - MOST_SITES), tuple(sorted(silent)))
