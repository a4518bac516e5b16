"""A line of rounds.jsonl, and config.json, as the pages show them: few numbers, all bounded. Pure and total.

What is odd in a line is missing, and no error: it may come from another version, or from a stranger.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

LAST_ROUND = 10**9
LARGEST = 1e15
MAX_NAME, MAX_TEXT = 64, 300
MAX_METRICS, MAX_SITES, MAX_REFUSED, MAX_SETTINGS = 24, 64, 20, 100
PHASES = ("download", "train", "upload", "wait")
SITE_FIGURES = ("auroc", "accuracy", "loss", "examples")
LISTS = ("cohort", "accepted", "stragglers")
YES = ("yes", "true", "1")


def parsed(text: bytes | str) -> Any:
    """The JSON value, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def round_of(body: Any) -> dict[str, Any] | None:
    """What the pages show of an ended round; None if the line is of no round."""
    number = body.get("round") if isinstance(body, dict) else None
    if type(number) is not int or not 0 < number <= LAST_ROUND:
        return None
    sizes = _sizes(body)
    best = body.get("best") if isinstance(body.get("best"), dict) else {}
    return {
        "round": number,
        "outcome": text_of(body.get("outcome"), 16),
        "cohort": sizes["cohort"],
        "accepted": sizes["accepted"],
        "stragglers": sizes["stragglers"],
        "missing": _missing(body, sizes),
        "late": _names(body.get("stragglers"))[:MAX_REFUSED],
        "stale": len(body["stale"]) if isinstance(body.get("stale"), list) else 0,
        "rejected": _refused(body.get("rejected"))[:MAX_REFUSED],
        "refusals": _by_reason(_refused(body.get("rejected"))),
        "num_examples": _count(body.get("num_examples")),
        "bytes_down": _count(body.get("bytes_down")),
        "bytes_up": _count(body.get("bytes_up")),
        "duration_s": max(0.0, number_of(body.get("duration_s")) or 0.0),
        "started_at": text_of(body.get("started_at"), 40),
        "phases": {name: max(0.0, value) for name, value in numbers(body.get("phases"), PHASES).items()},
        "metrics": numbers(body.get("metrics")),
        "client_metrics": numbers(body.get("client_metrics")),
        "sites": _sites(body.get("sites")),
        "attempts": max(1, _count(body.get("attempts"))),
        "best": _count(best.get("round")) or None,
        "ended_early": text_of(body.get("ended_early"), MAX_TEXT),
    }


def settings_of(body: Any) -> dict[str, dict[str, str]]:
    """Every setting in config.json, as text, with where it came from."""
    if not isinstance(body, dict):
        return {}
    return {
        text_of(name, MAX_NAME): _setting(entry)
        for name, entry in list(body.items())[:MAX_SETTINGS]
        if not any(word in str(name).lower() for word in ("password_value", "secret", "token"))
    }


def is_synthetic(settings: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether the images of the run were drawn by a program, which every page has to say."""
    return settings.get("synthetic", {}).get("value") in YES


def differing(runs: Iterable[Mapping[str, Mapping[str, str]]]) -> list[tuple[str, list[str]]]:
    """The settings in which ``runs`` differ: name, and the value in each run (empty: it has none)."""
    told = list(runs)
    names = dict.fromkeys(name for settings in told for name in settings)
    rows = [(name, [settings.get(name, {}).get("value", "") for settings in told]) for name in sorted(names)]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def thinned(rounds: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most ``most`` of them, evenly spread, the last among them."""
    if len(rounds) <= most:
        return rounds
    step = (len(rounds) - 1) / (most - 1)
    return [rounds[round(index * step)] for index in range(most)]


def text_of(value: Any, longest: int) -> str:
    """``value`` as a short text without control characters."""
    text = "" if value is None else str(value)[: 4 * longest]
    return "".join(sign if sign.isprintable() else " " for sign in text)[:longest]


def number_of(value: Any) -> float | None:
    """A finite number that can be a measurement."""
    usable = type(value) in (int, float) and abs(value) <= LARGEST and math.isfinite(value)
    return round(float(value), 6) if usable else None


def numbers(value: Any, names: Iterable[str] | None = None) -> dict[str, float]:
    """The numbers of a map, the first MAX_METRICS of them; those of ``names`` alone if given."""
    items = value.items() if isinstance(value, Mapping) else ()
    wanted = None if names is None else frozenset(names)
    found: dict[str, float] = {}
    for name, each in items:
        number = number_of(each)
        if number is not None and len(str(name)) <= MAX_NAME and (wanted is None or name in wanted):
            found[str(name)] = number
        if len(found) == MAX_METRICS:
            break
    return found


def _setting(entry: Any) -> dict[str, str]:
    held = isinstance(entry, dict) and "value" in entry
    value, source = (entry["value"], entry.get("source")) if held else (entry, "")
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, dict | list):
        shown = json.dumps(value, default=str) if value else ""
    else:
        shown = text_of(value, 200)
    return {"value": text_of(shown, 200), "source": text_of(source, 40)}


def _count(value: Any) -> int:
    return int(max(0.0, number_of(value) or 0.0))


def _names(value: Any) -> list[str]:
    return [text_of(item, MAX_NAME) for item in value] if isinstance(value, list) else []


def _refused(value: Any) -> list[dict[str, Any]]:
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    return [
        {"client": text_of(row.get("client_id"), MAX_NAME), "reason": text_of(row.get("reason"), 80),
         "count": max(1, _count(row.get("count", 1)))}
        for row in rows
    ]  # fmt: skip


def _by_reason(refused: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many updates were refused, by reason; the first MAX_REFUSED reasons."""
    found: dict[str, int] = {}
    for row in refused:
        if row["reason"] in found or len(found) < MAX_REFUSED:
            found[row["reason"]] = found.get(row["reason"], 0) + row["count"]
    return found


def _sizes(body: Mapping[str, Any]) -> dict[str, int]:
    """How many clients the lists of a line name; of one that was cut, ``cut`` says how many it named."""
    cut = body.get("cut")
    told = cut if isinstance(cut, dict) else {}
    lists = {name: body.get(name) for name in LISTS}
    return {
        name: max(len(each) if isinstance(each, list) else 0, _count(told.get(name)))
        for name, each in lists.items()
    }


def _missing(body: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    """Of those who were asked, who sent nothing that was judged: a refusal, and an eviction, is an answer."""
    answers = sizes["accepted"] + sizes["stragglers"]
    if refused := {row["client"] for row in _refused(body.get("rejected"))}:
        answers += len(refused - set(_names(body.get("accepted"))) - set(_names(body.get("stragglers"))))
    return max(0, sizes["cohort"] - answers)


def _sites(value: Any) -> dict[str, dict[str, float]]:
    items = list(value.items())[:MAX_SITES] if isinstance(value, dict) else []
    rows = {text_of(name, MAX_NAME): numbers(row, SITE_FIGURES) for name, row in items}
    return {name: row for name, row in rows.items() if row}
