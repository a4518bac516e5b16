"""Which patient an image is of, by the file name conventions of public chest X-ray sets.

Kermany (chest_xray): ``person80_virus_150.jpeg`` is patient ``person80_virus``, number *and* cause, since numbers
restart for each cause; ``IM-0115-0001.jpeg`` is ``IM-0115`` and ``NORMAL2-IM-0383-0001.jpeg`` is
``NORMAL2-IM-0383``, two series counted apart. NIH ChestX-ray14: ``00000001_000.png`` is ``00000001``.
Any other file is a patient of its own.
"""

from __future__ import annotations

import re

UNKNOWN = "file:"
"""Begins the name of a patient of whom only the file is known."""
_KERMANY = re.compile(r"(person\d+_(?:bacteria|virus))_\d+", re.ASCII)
_NORMAL = re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+", re.ASCII)
_NIH = re.compile(r"(\d{6,})_\d+", re.ASCII)


def patient_of(stem: str, own: str) -> str:
    """The patient of the image whose name without suffix is ``stem``; ``own`` names it if no convention fits."""
    for pattern in (_KERMANY, _NORMAL, _NIH):
        if found := pattern.match(stem):
            return found.group(1)
    return UNKNOWN + own
