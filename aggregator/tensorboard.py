"""``--tensorboard DIR``: the figures of every ended round as event files, for those who live in TensorBoard.

tensorboardX is imported here alone, and only if it was asked for. A start writes all rounds anew from the journal, so
that a run that goes on has no step twice, whatever the process before it had written.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from fl_protocol.errors import ConfigError

SUFFIX = ".hilum"
"""Ends the names of our files: others in the folder are not ours to replace."""
MOST_SITES = 200
"""Sites that have a curve of their own."""

Scalars = dict[str, float]


class EventFiles:
    """The event file of one run in ``folder``."""

    def __init__(self, folder: Path, records: Iterable[Mapping[str, Any]] = ()) -> None:
        """``records`` are those of the rounds that have ended. Raises ConfigError if it cannot be written."""
        self._event, writer = _tensorboardx()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for before in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
                before.unlink()
            self._writer = writer(str(folder / "events"), SUFFIX)
            for record in records:
                self._write(record)
            self._writer.flush()
        except OSError as error:
            raise ConfigError(f"--tensorboard {folder} cannot be written ({error.strerror})") from None

    def add(self, record: Mapping[str, Any]) -> None:
        """A round ended. Raises OSError if the disk does not take it."""
        self._write(record)
        self._writer.flush()

    def _write(self, record: Mapping[str, Any]) -> None:
        values = [{"tag": tag, "simple_value": value} for tag, value in scalars_of(record).items()]
        at = wall_time(record)
        self._writer.write_event(
            self._event(wall_time=at, step=int(record["round"]), summary={"value": values})
        )

    def close(self) -> None:
        self._writer.close()


def scalars_of(record: Mapping[str, Any]) -> Scalars:
    """What a round has curves of, by tag: those before the slash are TensorBoard's headings."""
    found: dict[str, Any] = {}
    for heading, key in (("central", "metrics"), ("clients", "client_metrics"), ("phases", "phases")):
        found |= {f"{heading}/{name}": value for name, value in (record.get(key) or {}).items()}
    sites = list((record.get("sites") or {}).items())[:MOST_SITES]
    found |= {f"sites_auroc/{name}": figures.get("auroc") for name, figures in sites}
    found |= {"bytes/up": record.get("bytes_up"), "bytes/down": record.get("bytes_down")}
    found |= {f"round/{key}": record.get(key) for key in ("duration_s", "num_examples", "attempts")}
    found |= {f"round/{key}": len(record.get(key) or ()) for key in ("accepted", "stragglers")}
    return {
        tag: float(value)
        for tag, value in found.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def wall_time(record: Mapping[str, Any]) -> float:
    """When the round ended, in seconds since 1970; 0 if nobody noted when it began."""
    try:
        began = datetime.fromisoformat(record.get("started_at") or "").timestamp()
    except ValueError:
        return 0.0
    return began + float(record.get("duration_s") or 0.0)


def check_installed() -> None:
    """Raises ConfigError if the package is missing."""
    _tensorboardx()


def _tensorboardx() -> tuple[Any, Any]:
    """The class of an event and of its writer, which has no thread."""
    try:
        with _torch_left_out():
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event
    except ImportError:
        raise ConfigError("--tensorboard needs tensorboardX: pip install 'hilum[tensorboard]'") from None
    return Event, EventsWriter


@contextmanager
def _torch_left_out() -> Iterator[None]:
    """tensorboardX imports torch where it can, for tensors that we do not give it: 200 MB that nobody needs here."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
