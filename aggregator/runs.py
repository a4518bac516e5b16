"""The runs of an aggregator that waits for operators: OUT/001, OUT/002, ..., each with what it was launched with.

launch.json says what the run was launched with, and whether it is under way: then a start goes on with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aggregator.rundir import locked
from fl_protocol.errors import ConfigError, DataError

NAME = re.compile(r"\d{3,9}")
NOTE = "launch.json"


@dataclass(frozen=True)
class Launched:
    """A run: its options by name, as rule_of takes them."""

    options: dict[str, Any] = field(hash=False)
    under_way: bool = True
    rounds_left: bool = True
    ended_early: bool = False
    """No more of its rounds were worth while."""


class Runs:
    """The folder ``out`` and the runs in it. ``open`` it first."""

    def __init__(self, out: Path) -> None:
        self.out = out

    @contextmanager
    def opened(self) -> Iterator[None]:
        """For us alone. Raises ConfigError if it holds a run of its own, AccessRefused if another process has it."""
        if (self.out / "journal.sqlite").exists():
            raise ConfigError(
                f"{self.out} holds a run that was started without --wait: give another --out, or leave --wait out"
            )
        with locked(self.out):
            try:
                yield
            finally:
                if self.newest is None:  # nobody launched anything
                    with contextlib.suppress(OSError):
                        (self.out / "lock").unlink()
                        self.out.rmdir()

    @property
    def newest(self) -> Path | None:
        """The folder of the run that was launched last."""
        found = [each for each in self.out.glob("*") if NAME.fullmatch(each.name) and (each / NOTE).exists()]
        return max(found, key=lambda each: int(each.name), default=None)

    def begin(self, options: dict[str, Any]) -> Path:
        """A new run."""
        taken = [int(each.name) for each in self.out.glob("*") if NAME.fullmatch(each.name)]
        path = self.out / f"{max(taken, default=0) + 1:03d}"
        path.mkdir(parents=True)
        self.note(path, Launched(options))
        return path

    def launched(self, path: Path) -> Launched:
        """What a run was launched with. Raises DataError if its note cannot be read."""
        try:
            found = json.loads((path / NOTE).read_text("utf-8"))
            return Launched(
                dict(found["options"]), found["under_way"], found["rounds_left"], found["ended_early"]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path / NOTE} cannot be used ({error}): restore it, or move that folder away"
            ) from None

    def note(self, path: Path, launched: Launched) -> None:
        """Replace the note in one step."""
        draft = path / f".{NOTE}.{os.getpid()}.tmp"
        draft.write_text(json.dumps(asdict(launched), indent=1, sort_keys=True) + "\n", "utf-8")
        draft.replace(path / NOTE)

    def forget_unused(self, path: Path) -> None:
        """A run that never had a model was a mistake in its settings, and leaves nothing."""
        if not (path / "journal.sqlite").exists():
            with contextlib.suppress(OSError):  # somebody put something there
                (path / NOTE).unlink(missing_ok=True)
                path.rmdir()
