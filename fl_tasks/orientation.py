"""Whether a chest X-ray stands upright, lies on a side or hangs upside down: a template of ranks, numpy alone.

An 8 x 8 thumbnail, its greys replaced by their ranks, is compared with the mean of upright ones in each of the four
quarter turns. The template is the mean over 1,500 training images of the Kermany set (children), made symmetric, so
that it says nothing of mirrored images. What it gets wrong is in docs/data.md; it is a remark, never a reason to
leave an image out.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 8
MARGIN = 0.1
"""How much better (in correlation) another turn must fit before it is told."""
TURNS = ("upright", "lying on a side", "upside down", "lying on a side")
_LEFT_HALF = (
    (-110, -65, -6, 84), (-107, -6, 23, 74), (-129, 9, -22, 77), (-144, -9, -27, 113),
    (-148, -36, -1, 138), (-153, -56, 14, 137), (-150, -13, 90, 158), (-136, 74, 150, 178),
)  # fmt: skip


def quarter_turns(pixels: np.ndarray) -> int:
    """By how many quarter turns (0 to 3, counter-clockwise) the grey image (s, s) seems to be turned."""
    found = fits(pixels)
    best = int(found.argmax())
    return best if found[best] - found[0] > MARGIN else 0


def fits(pixels: np.ndarray) -> np.ndarray:
    """(4,): how well the grey image (s, s) agrees with an upright chest in each quarter turn, -1 to 1."""
    small = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    ranks = np.asarray(small).reshape(-1).argsort(kind="stable").argsort(kind="stable").reshape(SIDE, SIDE)
    found: np.ndarray = _TEMPLATES @ _standard(ranks.astype(np.float64)).reshape(-1) / SIDE**2
    return found


def _standard(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    found: np.ndarray = centred / centred.std()
    return found


def _templates() -> np.ndarray:
    left = np.array(_LEFT_HALF, dtype=np.float64)
    upright = _standard(np.hstack([left, left[:, ::-1]]))
    return np.stack([np.rot90(upright, turns).reshape(-1) for turns in range(4)])


_TEMPLATES = _templates()
