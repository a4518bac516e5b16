"""The models of a reading room: which are here, what is known of them, which one reads. Kept across restarts.

``room.json`` in the work folder holds which model was pinned, and for each model when it came and what its round told.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fl_protocol.modelfile import ModelFile
from fl_tasks.calibration import METADATA_KEY as TEMPERATURE
from fl_tasks.predict import Described

NOTES = "room.json"
MOST = 6
MOST_REFUSED = 5
MOST_TOLD = 32
MOST_NOTES = 4 * MOST
"""Those of models that a restart has yet to find among them."""


@dataclass(frozen=True)
class Shelved:
    """One model. ``sites`` and ``figures`` are what its round told of it, if it did."""

    digest: str
    file: ModelFile
    described: Described
    arrived: float
    runs_on: str = ""
    sites: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def round_number(self) -> int | None:
        text = self.file.metadata.get("round", "")
        return int(text) if text.isascii() and text.isdecimal() else None

    @property
    def calibrated(self) -> bool:
        return TEMPERATURE in self.file.metadata

    def as_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest, "name": f"{self.described.model} for {self.described.task}", "round": self.round_number,
            "sites": self.sites, "figures": dict(self.figures), "arrived": self.arrived, "classes": list(self.described.classes),
            "image_size": self.described.image_size, "calibrated": self.calibrated, "runs_on": self.runs_on,
        }  # fmt: skip


class Shelf:
    """Safe to use from any thread. Newest first."""

    def __init__(self, workdir: Path, *, follows: bool, refer_below: float) -> None:
        self._path = workdir / NOTES
        self._follows, self._refer_below = follows, refer_below
        self._lock = threading.RLock()
        self._models: list[Shelved] = []
        self._told: OrderedDict[int, tuple[int | None, dict[str, float]]] = OrderedDict()
        self._refused: deque[dict[str, str]] = deque(maxlen=MOST_REFUSED)
        self._listeners: list[Callable[[], None]] = []
        self._link = ""
        notes = _read(self._path)
        self._pinned: str | None = notes.get("pinned") if isinstance(notes.get("pinned"), str) else None
        held = notes.get("models")
        self._notes: dict[str, Any] = held if isinstance(held, dict) else {}

    # --- what is known ------------------------------------------------------------------------------------

    def in_use(self) -> Shelved | None:
        """The model that reads: the pinned one if it is here, else the newest."""
        with self._lock:
            pinned = (each for each in self._models if each.digest == self._pinned)
            return next(pinned, self._models[0] if self._models else None)

    @property
    def pinned(self) -> str | None:
        return self._pinned

    def holds(self, digest: str) -> bool:
        with self._lock:
            return any(each.digest == digest for each in self._models)

    def state(self) -> dict[str, Any]:
        """As fl_web.room.protocol.Room says."""
        with self._lock:
            used = self.in_use()
            return {
                "in_use": used.digest if used else None, "pinned": used is not None and used.digest == self._pinned,
                "follows": self._follows, "link": self._link, "refer_below": self._refer_below,
                "models": [each.as_json() for each in self._models], "refused": list(self._refused),
            }  # fmt: skip

    # --- what happens -------------------------------------------------------------------------------------

    def listen(self, changed: Callable[[], None]) -> None:
        self._listeners.append(changed)

    def put(self, model: Shelved) -> None:
        """A model is here, the newest."""
        note = self._notes.get(model.digest)
        if isinstance(note, dict):
            model = _recalled(model, note)
        with self._lock:
            model = self._with_what_was_told(model)
            others = [each for each in self._models if each.digest != model.digest]
            self._models = [model, *others]
            while len(self._models) > MOST:
                self._models.remove(
                    next(each for each in reversed(self._models) if each.digest != self._pinned)
                )
        self._changed()

    def tell(self, round_number: int, sites: int | None, figures: Mapping[str, float]) -> None:
        """What a round told of the model that it made, which may be on its way yet."""
        with self._lock:
            before = self._told.pop(round_number, (None, {}))
            self._told[round_number] = before[0] if sites is None else sites, {**before[1], **figures}
            while len(self._told) > MOST_TOLD:
                self._told.popitem(last=False)
            self._models = [self._with_what_was_told(each) for each in self._models]
        self._changed()

    def _with_what_was_told(self, model: Shelved) -> Shelved:
        sites, figures = self._told.get(model.round_number or 0, (None, {}))
        return replace(
            model, sites=model.sites if sites is None else sites, figures={**model.figures, **figures}
        )

    def refuse(self, digest: str, reason: str) -> None:
        """A model was announced that is not what it is called."""
        row = {"digest": digest, "reason": reason}
        if row not in self._refused:
            self._refused.append(row)
            self._changed()

    def choose(self, digest: str | None) -> str:
        """Stay with a model (None: with the newest). Why not, or an empty text."""
        if digest is not None and not self.holds(digest):
            return "this model is not here any more: choose another"
        self._pinned = digest
        self._changed()
        return ""

    def say(self, link: str) -> None:
        """Where models come from, and how that stands, for people."""
        if link != self._link:
            self._link = link
            self._changed(keep=False)

    def _changed(self, *, keep: bool = True) -> None:
        if keep:
            self._keep()
        for listener in self._listeners:
            listener()

    def _keep(self) -> None:
        """On disk, for the next start. A full disk costs that, and nothing else."""
        with self._lock:
            models = {
                each.digest: {"arrived": each.arrived, "sites": each.sites, "figures": dict(each.figures)}
                for each in self._models
            }
            others = {digest: note for digest, note in self._notes.items() if digest not in models}
            self._notes = dict(list({**others, **models}.items())[-MOST_NOTES:])
            draft = self._path.with_suffix(".tmp")
            with contextlib.suppress(OSError):
                draft.write_text(json.dumps({"pinned": self._pinned, "models": self._notes}))
                draft.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _recalled(model: Shelved, note: Mapping[str, Any]) -> Shelved:
    arrived, sites, figures = (note.get(name) for name in ("arrived", "sites", "figures"))
    return replace(
        model,
        arrived=float(arrived) if isinstance(arrived, int | float) else model.arrived,
        sites=sites if isinstance(sites, int) else model.sites,
        figures={**model.figures, **figures} if isinstance(figures, dict) else model.figures,
    )
