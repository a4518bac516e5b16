"""The report's part about who holds what: parts.json, written by who deals or counts, drawn as a chart. Total."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FILE_NAME = "parts.json"
MOST_SITES, MOST_CLASSES = 100, 12


@dataclass(frozen=True)
class Parts:
    """Images of each class by site. ``hidden`` are sites beyond MOST_SITES."""

    classes: tuple[str, ...]
    sites: tuple[tuple[str, dict[str, int]], ...]
    hidden: int
    how: str


def parts_json(sites: Iterable[tuple[str, Mapping[str, int]]], how: str = "") -> dict[str, Any]:
    """What parts.json holds: counts alone. ``how`` says how the data were dealt."""
    return {"how": how, "sites": [{"site": site, "classes": dict(counts)} for site, counts in sites]}


def read_parts(body: Any) -> Parts | None:
    """What parts.json says; None if that is nothing. Odd rows are left out."""
    rows = body.get("sites") if isinstance(body, dict) else None
    found = []
    for row in rows if isinstance(rows, list) else ():
        counts = row.get("classes") if isinstance(row, dict) else None
        if isinstance(counts, dict):
            sound = {str(k): int(v) for k, v in counts.items() if type(v) is int and 0 <= v < 10**12}
            found.append((str(row.get("site", "")), sound))
    if not found:
        return None
    classes = tuple(dict.fromkeys(name for _, counts in found for name in counts))[:MOST_CLASSES]
    how = body.get("how")
    return Parts(
        classes,
        tuple(found[:MOST_SITES]),
        max(0, len(found) - MOST_SITES),
        how if isinstance(how, str) else "",
    )
