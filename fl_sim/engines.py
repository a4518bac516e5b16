"""Engines by name."""

from __future__ import annotations

from fl_protocol.errors import ConfigError
from fl_sim.engine import Crew, Engine

LOCAL, RAY = "local", "ray"
ENGINES = (LOCAL, RAY)


def checked_engine(name: str) -> str:
    """``name`` itself, or a ConfigError with the names there are."""
    if name not in ENGINES:
        raise ConfigError(f"unknown --engine {name!r}: use {' or '.join(ENGINES)}")
    return name


def engine_of(name: str, workers: int, device: str, plugin: str | None) -> Engine:
    """The engine of that name. Raises ConfigError for an unknown one, or one that is not installed."""
    if checked_engine(name) == LOCAL:
        return Crew(workers, device=device, plugin=plugin)
    from fl_sim.ray_engine import RayCrew  # here: Ray is large, and may not be installed

    return RayCrew(workers, device=device, plugin=plugin)
