"""What a model that leaves a run brings along for people: a model card (Mitchell et al. 2019), as JSON and Markdown.

Everything in it comes from the model file and the run directory. What neither says is ``None``, in words "not known":
nothing is supposed. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aggregator.report.evaluation import Evaluation
from aggregator.report.round_line import RoundLine
from aggregator.report.run_data import RunData
from aggregator.temperature import METADATA_KEY as TEMPERATURE

UNKNOWN = "not known"
USE = "For research, not for diagnosis. It was never examined as a medical device, and no decision about a person may rest on it."
LICENCE = "Not stated: whoever publishes this model names its licence here, with the consent of the sites that trained it."
LIMITS = (
    "It knows the kind of images that its sites hold, and no others: on images of other machines, ages or projections it may be wrong and sure of itself.",
    "Its probabilities are those of the mix of classes that its sites have; where a class is rarer, they are too high for it.",
    "A heat map shows where the model looked, which is not where a disease is.",
    "Whether it does equally well for women and men, the young and the old is nothing that Hilum measures.",
)
Card = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """The model itself, as its file has it."""

    digest: str
    metadata: Mapping[str, str]
    parameters: int


def card_of(subject: Subject, run: RunData | None, form: str) -> Card:
    """The card; ``run`` is the run that made the model, if it is at hand."""
    line = _line_of(subject.digest, run)
    mine = run if line is not None else None
    detail = mine.evaluation if mine and line and mine.evaluation else None
    detail = detail if detail and line and detail.round_number == line.number else None
    said = subject.metadata
    return {
        "name": _name(said), "digest": subject.digest, "format": form,
        "task": said.get("task"), "model": said.get("model"), "classes": _classes(said.get("classes")),
        "image_size": _whole(said.get("image_size")), "parameters": subject.parameters,
        "rounds": _whole(said.get("round")), "strategy": (mine.setting("strategy") or None) if mine else None,
        "training": _training(line), "data": _data(mine),
        "metrics": {"central": _central(line, detail), "sites": _sites(mine, line)},
        "calibration": _calibration(said, detail),
        "intended_use": USE, "limits": list(LIMITS), "licence": LICENCE,
    }  # fmt: skip


def _line_of(digest: str, run: RunData | None) -> RoundLine | None:
    """The round that made the model."""
    lines: Iterable[RoundLine] = run.rounds.recent if run else ()
    return next((line for line in reversed(list(lines)) if line.model_sha256 == digest), None)


def _name(said: Mapping[str, str]) -> str:
    words = [said.get("model", "model"), "for", said.get("task", "an unknown task")]
    return " ".join([*words, *(["of round", said["round"]] if "round" in said else [])])


def _classes(text: str | None) -> list[str] | None:
    try:
        found = json.loads(text or "")
    except ValueError:
        return None
    return [str(name) for name in found] if isinstance(found, list) else None


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() else None


def _training(line: RoundLine | None) -> dict[str, Any] | None:
    if line is None:
        return None
    return {
        "sites": len(line.accepted),
        "examples": line.num_examples or None,
        "date": line.started_at or None,
    }


def _data(run: RunData | None) -> dict[str, Any] | None:
    if run is None or run.parts is None:
        return None
    rows = [{"site": site, "classes": dict(counts)} for site, counts in run.parts.sites]
    return {"how": run.parts.how or None, "sites": rows, "more_sites": run.parts.hidden}


def _central(line: RoundLine | None, detail: Evaluation | None) -> dict[str, Any] | None:
    if line is None or not line.metrics:
        return None
    edges = (detail.interval if detail else None) or line.interval
    found: dict[str, Any] = {
        name: value for name, value in sorted(line.metrics.items()) if name not in ("auroc_low", "auroc_high")
    }
    found |= {"auroc_interval_95": list(edges) if edges else None}
    if detail is not None:
        found |= {"images": detail.images, "patients": detail.patients}
        found |= dict(detail.operating.rows())
    return found


def _sites(run: RunData | None, line: RoundLine | None) -> dict[str, Any] | None:
    """Sites measure the model that a round begins with: the one before this."""
    if run is None or line is None:
        return None
    told = {name: dict(news.figures) for name, news in run.rounds.sites.items() if news.number == line.number}
    return {"of_round": line.number - 1, "by_site": dict(sorted(told.items()))} if told else None


def _calibration(said: Mapping[str, str], detail: Evaluation | None) -> dict[str, Any]:
    measured = detail.calibration if detail else None
    return {
        "temperature": float(said[TEMPERATURE]) if _is_number(said.get(TEMPERATURE)) else None,
        "ece": list(measured.ece) if measured else None,
        "brier": list(measured.brier) if measured else None,
    }


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and 0 < float(text) < 1e3
    except ValueError:
        return False
