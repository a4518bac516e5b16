"""What the page knows, in parts that change one by one, and what changed since a version. Pure.

A part is named ``kind/job/...`` and is a JSON value; null says that it is gone. Whoever shows the parts keeps the
version it has seen and asks for what came after it: a slow browser gets the newest of each part, never a queue.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

MAX_GONE = 2000
GONE = "null"


@dataclass
class _Part:
    version: int
    value: Any
    text: str | None = None


class Parts:
    """Versioned parts. ``epoch`` changes when a difference would no longer tell all: then everything is told anew."""

    def __init__(self) -> None:
        self.version, self.epoch = 0, 0
        self._parts: OrderedDict[str, _Part] = OrderedDict()
        self._gone = 0

    def put(self, name: str, value: Any) -> None:
        """``name`` is ``value`` now; it is encoded when somebody first asks."""
        self.version += 1
        old = self._parts.pop(name, None)
        self._gone -= old is not None and old.text == GONE
        self._parts[name] = _Part(self.version, value)

    def drop(self, name: str) -> None:
        """``name`` is gone, which is told as well."""
        known = self._parts.get(name)
        if known is None or known.text == GONE:
            return
        self.put(name, None)
        self._parts[name].text = GONE
        self._gone += 1
        if self._gone > MAX_GONE:
            self._forget_gone()

    def forget(self, name: str) -> None:
        """``name`` goes without a word: those who show it drop it by the same rule."""
        old = self._parts.pop(name, None)
        self._gone -= old is not None and old.text == GONE

    def _forget_gone(self) -> None:
        self.epoch += 1
        self._gone = 0
        for name in [name for name, part in self._parts.items() if part.text == GONE]:
            del self._parts[name]

    def __len__(self) -> int:
        return len(self._parts) - self._gone

    def since(self, version: int) -> dict[str, str]:
        """JSON by name of all that changed after ``version``, oldest change first; 0: all there is."""
        found: dict[str, str] = {}
        for name in reversed(self._parts):
            part = self._parts[name]
            if part.version <= version:
                break
            if version or part.text != GONE:
                found[name] = _text(part)
        return dict(reversed(found.items()))


def _text(part: _Part) -> str:
    if part.text is None:
        part.text, part.value = json.dumps(part.value, separators=(",", ":"), allow_nan=False), None
    return part.text
