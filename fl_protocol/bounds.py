"""The bounds of what a person gives on a command line. Those of what goes over the wire are in messages.py."""

from __future__ import annotations

from typing import Any

from fl_protocol.errors import ConfigError

MOST = 10**8
"""Seconds (three years), rounds or anything else that is counted."""


def at_least(value: Any, lowest: Any, name: str, highest: Any = MOST) -> Any:
    """``value``, unless it is outside ``lowest`` to ``highest``: then a ConfigError that names the option."""
    if value > highest:
        raise ConfigError(f"{name} {value} is too large: give at most {highest}")
    if not value >= lowest:  # also not a number
        raise ConfigError(f"{name} {value} is too small: give at least {lowest}")
    return value
