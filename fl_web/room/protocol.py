"""What the pages need of whoever reads images and knows models: plain values, no task code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

Row = dict[str, Any]
"""One image's answer, JSON-able: ``file`` and ``error``; or ``file``, ``class``, ``probability``, ``probabilities``,
``model``, ``round``, ``meaning``, ``band``, ``advice``, ``warnings`` ([{kind, text, serious}]). If it was asked for,
also ``shown`` (a JPEG) and ``heats`` (by class: bytes, one a place), in base64, and ``heat_side``.
"""

MAX_NAME = 120


@dataclass(frozen=True)
class Upload:
    """One image as it was handed in. ``name`` is for people alone, and no path."""

    name: str
    data: bytes = field(repr=False)


class Room(Protocol):
    """Every method may be called from any thread."""

    def read(self, upload: Upload, *, shown: bool) -> Row:
        """What the model in use says of one image. Takes its time; what cannot be read is a row with its ``error``."""
        ...

    def state(self) -> dict[str, Any]:
        """``in_use`` (digest or null), ``pinned``, ``follows`` (whether newer ones arrive), ``link`` (for people),
        ``refer_below``, ``models`` (newest first) and ``refused`` ([{digest, reason}]).
        """
        ...

    def choose(self, digest: str | None) -> str:
        """Stay with this model, or (None) use the newest from now on. Why not, or an empty text."""
        ...

    def listen(self, changed: Callable[[], None]) -> None:
        """``changed`` is called whenever :meth:`state` may say something else."""
        ...


def shown_name(name: str) -> str:
    """A file's name as a person may see it: no folders, no control characters, not long."""
    last = PurePosixPath(name.replace("\\", "/")).name
    text = "".join(sign if sign.isprintable() else "�" for sign in last).strip()
    return text[:MAX_NAME] or "image"
