"""Engines by name."""

from __future__ import annotations

from fl_protocol.errors import ConfigError
from fl_sim.engine import Crew, Engine

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


def engine_of(name: str, workers: int, device: str, plugin: str | None) -> Engine:
    """The engine of that name. Raises ConfigError for an unknown one, or one that is not installed."""
    if name == LOCAL:
        return Crew(workers, device=device, plugin=plugin)
    raise ConfigError(f"unknown --engine {name!r}: use {' or '.join(ENGINES)}")
