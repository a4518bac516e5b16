"""Why one should not trust what a model says of an image: four remarks from the image alone, numpy and Pillow.

They are made from few and simple figures, and docs/design.md ("The reading room") says how often each is wrong. What
an image shows is compared with frontal chest X-rays of children (orientation.py): X-rays of another hospital look far
from those to it as well, which is what the remark is for, and a model that was trained on them knows better.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from fl_tasks.orientation import TURNS, fits, quarter_turns
from fl_tasks.pictures import Picture

NOT_AN_XRAY, ORIENTATION, FAR, RESOLUTION = (
    "not-an-x-ray",
    "orientation",
    "far-from-training",
    "low-resolution",
)
COLOURFUL = 10.0
"""Mean distance of the strongest from the weakest channel, of 255, above which an image is in colour."""
FLAT = 0.6
"""Share of pixels of almost one grey above which an image is a page or a drawing."""
GREY_BINS = 16
UNLIKE, FAMILIAR = 0.15, 0.55
"""Correlation with the template, in the turn that fits best: below UNLIKE it is no chest X-ray, below FAMILIAR one
such as 199 in 200 training images of the Kermany set are not.
"""


@dataclass(frozen=True)
class Caution:
    """``kind`` for programs, ``text`` for people. ``serious``: the model's answer means nothing."""

    kind: str
    text: str
    serious: bool = False

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def cautions(picture: Picture, *, chest: bool = True) -> list[Caution]:
    """The remarks on one image; ``chest``: the model knows frontal chest X-rays, and not any other images."""
    found = [_resolution(picture)]
    if chest:
        grey = grey_of(picture.thumbnail)
        foreign = _not_an_xray(picture.thumbnail, grey)
        found += [foreign] if foreign else [_orientation(grey), _far(grey)]
    return [each for each in found if each is not None]


def grey_of(colours: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> uint8 (h, w), weighted as Pillow does (ITU-R 601)."""
    found: np.ndarray = (colours @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return found


def colourfulness(colours: np.ndarray) -> float:
    """0 for grey, 255 for pure colours."""
    return float((colours.max(axis=2).astype(float) - colours.min(axis=2)).mean())


def flatness(grey: np.ndarray) -> float:
    """The largest share of pixels within one of sixteen grey levels."""
    counts = np.bincount(grey.reshape(-1) // (256 // GREY_BINS), minlength=GREY_BINS)
    return float(counts.max() / grey.size)


def _not_an_xray(colours: np.ndarray, grey: np.ndarray) -> Caution | None:
    if colourfulness(colours) > COLOURFUL:
        text = "This is a picture in colour, and X-rays are grey. Hand in the X-ray itself, not a photograph of it."
    elif flatness(grey) > FLAT:
        text = "This looks like a page or a drawing: most of it is one grey."
    elif fits(grey).max() < UNLIKE:
        text = "This does not look like a frontal chest X-ray, or it is a negative."
    else:
        return None
    return Caution(NOT_AN_XRAY, f"{text} The model answers all the same, but its answer means nothing.", True)


def _orientation(grey: np.ndarray) -> Caution | None:
    turns = quarter_turns(grey)
    if not turns:
        return None
    text = f"The chest seems to be {TURNS[turns]}. The model knows upright images alone: turn it and hand it in again."
    return Caution(ORIENTATION, text, True)


def _far(grey: np.ndarray) -> Caution | None:
    if fits(grey).max() >= FAMILIAR:
        return None
    text = (
        "This image looks unlike the X-rays that this check was made from (frontal, of children): the model may never "
        "have seen one like it, and its probability may not hold."
    )
    return Caution(FAR, text)


def _resolution(picture: Picture) -> Caution | None:
    wanted = picture.pixels.shape[0]
    if min(picture.width, picture.height) >= wanted:
        return None
    text = (
        f"The image has {picture.width} x {picture.height} pixels, fewer than the {wanted} x {wanted} that the model "
        "looks at: what is missing cannot be seen."
    )
    return Caution(RESOLUTION, text)
