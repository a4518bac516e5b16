"""What is known of a model file beside the file itself: its model card, or the rounds of the run that it lies in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_BYTES = 4 * 1024**2
FIGURES = ("auroc", "auroc_low", "auroc_high", "accuracy")
Told = tuple[int | None, dict[str, float]]
"""How many sites trained it in its last round, and its figures on a central test set."""


def told_beside(model_file: Path, digest: str) -> Told:
    """None and nothing where nobody says. What is of another model does not count."""
    card = _parsed(_text(model_file.with_name(f"{model_file.stem}.card.json")))
    if isinstance(card, dict) and card.get("digest") == digest:
        return _of_card(card)
    for text in reversed(list(_lines(model_file.with_name("rounds.jsonl")))):
        line = _parsed(text)
        if isinstance(line, dict) and line.get("model_sha256") == digest:
            accepted = line.get("accepted")
            return len(accepted) if isinstance(accepted, list) else None, _figures(line.get("metrics"))
    return None, {}


def _of_card(card: dict[str, Any]) -> Told:
    training, metrics = card.get("training"), card.get("metrics")
    central = metrics.get("central") if isinstance(metrics, dict) else None
    found = _figures(central)
    edges = central.get("auroc_interval_95") if isinstance(central, dict) else None
    if isinstance(edges, list) and len(edges) == 2:
        found |= _figures({"auroc_low": edges[0], "auroc_high": edges[1]})
    sites = training.get("sites") if isinstance(training, dict) else None
    return sites if isinstance(sites, int) else None, found


def _figures(body: Any) -> dict[str, float]:
    held: dict[str, Any] = body if isinstance(body, dict) else {}
    return {name: float(held[name]) for name in FIGURES if name in held and _is_finite(held[name])}


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _lines(path: Path) -> Iterator[str]:
    """The last lines of a file, which may be long."""
    yield from (line for line in _text(path).splitlines() if line.strip())


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MOST_BYTES))
            return file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
