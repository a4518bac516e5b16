"""A model card (model_card.py) as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aggregator.model_card import UNKNOWN, Card

_FIGURES = {
    "accuracy": "Accuracy", "auroc": "AUROC", "loss": "Loss (cross entropy)", "images": "Images", "patients": "Patients",
}  # fmt: skip
_SITE_COLUMNS = ("examples", "patients", "auroc", "accuracy", "sensitivity", "specificity", "ece")


def markdown(card: Card) -> str:
    """The whole card."""
    parts = [
        f"# {_safe(card['name'])}", f"**{card['intended_use']}**", _facts(card), "## Data", *_data(card["data"]),
        "## How well it does", *_central(card["metrics"]["central"]), *_sites(card["metrics"]["sites"]),
        "## Calibration", *_calibration(card["calibration"]), "## Limits", "\n".join(f"- {each}" for each in card["limits"]),
        "## Licence", card["licence"],
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _facts(card: Card) -> str:
    training = card["training"] or {}
    rows = [
        ("Digest (SHA-256 of the tensors)", f"`{card['digest']}`"), ("Format", card["format"]), ("Task", card["task"]),
        ("Model", card["model"]), ("Classes", ", ".join(map(_safe, card["classes"] or [])) or None),
        ("Image size", f"{card['image_size']} x {card['image_size']}" if card["image_size"] else None),
        ("Parameters", f"{card['parameters']:,}"), ("Rounds", card["rounds"]), ("Strategy", card["strategy"]),
        ("Sites in its last round", training.get("sites")), ("Training images in its last round", training.get("examples")),
        ("Its last round began", training.get("date")),
    ]  # fmt: skip
    return _table(("", ""), rows)


def _data(data: dict[str, Any] | None) -> list[str]:
    if data is None:
        return [f"How many images of each class the sites hold is {UNKNOWN}."]
    classes = list(dict.fromkeys(name for row in data["sites"] for name in row["classes"]))
    rows = [(row["site"], *(row["classes"].get(name, 0) for name in classes)) for row in data["sites"]]
    more = [f"And {data['more_sites']} more sites."] if data["more_sites"] else []
    how = (
        f"Images a class, as each site counted them ({data['how']})."
        if data["how"]
        else "Images a class, as each site counted them."
    )
    return [_safe(how), _table(("Site", *classes), rows), *more]


def _central(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [f"On a central test set: {UNKNOWN}."]
    rows = []
    for name, value in found.items():
        if name == "auroc_interval_95" or value is None:
            continue
        edges = found["auroc_interval_95"] if name == "auroc" else None
        shown = _figure(value) + (
            f" (95 % interval by patient: {edges[0]:.3f} to {edges[1]:.3f})" if edges else ""
        )
        rows.append((_FIGURES.get(name, name), shown))
    return ["On a central test set:", _table(("Figure", "Value"), rows)]


def _sites(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [f"At the sites, on patients whom they hold out: {UNKNOWN}."]
    rows = [
        (site, *(_figure(figures[name]) if name in figures else UNKNOWN for name in _SITE_COLUMNS))
        for site, figures in found["by_site"].items()
    ]
    text = (
        f"At the sites, on patients whom they hold out. Sites measure the model that a round begins with, so these are "
        f"figures of the model of round {found['of_round']}."
    )
    return [text, _table(("Site", *_SITE_COLUMNS), rows)]


def _calibration(found: dict[str, Any]) -> list[str]:
    pairs = {name: found[name] for name in ("ece", "brier")}
    rows = [("Temperature", UNKNOWN if found["temperature"] is None else f"{found['temperature']:.4f}")]
    names = (("ece", "Expected calibration error"), ("brier", "Brier score"))
    for name, words in names:
        both = pairs[name]
        rows.append((words, f"{both[0]:.4f} before, {both[1]:.4f} at the temperature" if both else UNKNOWN))
    return [_table(("Figure", "Value"), rows)]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [_row(head), _row(["---"] * len(head))]
    return "\n".join([*lines, *(_row(row) for row in rows)])


def _row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(_safe(UNKNOWN if cell is None else cell) for cell in cells)} |"


def _safe(value: Any) -> str:
    """Text of a peer's must not become markup."""
    return str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _figure(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) or float(value).is_integer() else f"{value:.4f}"
