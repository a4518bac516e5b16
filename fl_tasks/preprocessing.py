"""How pixels become what a model sees, as it travels with every model (metadata key ``preprocessing``, JSON).

Version 1: the image resized to its model's size, bilinear, in 1 or 3 channels, then brought to mean 0 and deviation 1
by itself (augment.standardise). A reader that does not know the version must not guess.
"""

from __future__ import annotations

import json
from typing import Any

VERSION = 1
CHANNELS = (1, 3)


def preprocessing(channels: int) -> dict[str, Any]:
    """What a model of so many channels says."""
    return {"version": VERSION, "channels": channels, "resize": "bilinear", "standardise": "image"}


def channels_of(text: str) -> int | None:
    """The channels that ``text`` names, or None if it wants what is not known here. Raises ValueError for no JSON."""
    said = json.loads(text)
    return next((count for count in CHANNELS if said == preprocessing(count)), None)
