"""A probability in words that a person can act on. Pure.

A calibrated probability is a frequency: of many images that a model scores alike, so many are of the class. In words
of ten it is understood better than in per cent (Gigerenzer and Hoffrage 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from fl_tasks.defaults import DEFAULT_TASK

REFER, CLEAR = "refer", "clear"
REFER_BELOW = 0.8
"""Probability of the class foretold below which a page says to refer."""
VOID = "The warnings say why: for this image the probability means nothing."
_WORDS = {"NORMAL": "are normal", "PNEUMONIA": "show pneumonia"}


@dataclass(frozen=True)
class Meaning:
    """``band`` is REFER or CLEAR; the rest is for people."""

    band: str
    advice: str
    meaning: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def meaning_of(
    task: str, classes: Sequence[str], probabilities: Sequence[float], *, calibrated: bool, doubtful: bool,
    refer_below: float = REFER_BELOW,
) -> Meaning:  # fmt: skip
    """``calibrated``: a temperature travels with the model. ``doubtful``: a serious caution stands beside the answer."""
    best = max(range(len(classes)), key=lambda index: probabilities[index])
    unsure = probabilities[best] < refer_below
    band = REFER if unsure or doubtful else CLEAR
    if doubtful:
        return Meaning(band, _advice(unsure, doubtful), VOID)
    return Meaning(
        band, _advice(unsure, doubtful), _meaning(task, classes[best], probabilities[best], calibrated)
    )


def share(probability: float) -> str:
    """``about 8 in 10``."""
    if probability > 0.975:
        return "more than 39 in 40"
    if probability > 0.925:
        return "about 19 in 20"
    if probability < 0.05:
        return "fewer than 1 in 20"
    return f"about {round(10 * probability)} in 10"


def _meaning(task: str, name: str, probability: float, calibrated: bool) -> str:
    things = "X-rays" if task == DEFAULT_TASK else "images"
    words = _WORDS.get(name, f"are of class {name}") if task == DEFAULT_TASK else f"are of class {name}"
    said = share(probability)
    text = f"{said[0].upper()}{said[1:]} {things} that this model scores like this {words}."
    return (
        text if calibrated else f"{text} This model was never calibrated: take the figure for a score alone."
    )


def _advice(unsure: bool, doubtful: bool) -> str:
    if doubtful:
        return "Refer to a radiologist: see the warnings, the model's answer does not count."
    if unsure:
        return "Refer to a radiologist: the model is not sure."
    return "The model is sure of this. It may be wrong all the same: a radiologist decides."
