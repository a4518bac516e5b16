"""Bounds of message fields, said once beside the field and checked on every decode.

A check takes whatever msgpack produced and returns the value the message holds, or raises DecodeError.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field, fields
from typing import Any, TypeVar

from fl_protocol.errors import DecodeError

Check = Callable[[Any], Any]
M = TypeVar("M")


def bounded(check: Check, default: Any = MISSING) -> Any:
    """A dataclass field that ``check`` guards on the wire."""
    return field(default=default, metadata={"check": check})


def whole(low: int = 0, high: int = 2**53) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise DecodeError("bad_field", f"not a whole number in {low}..{high}")
        return value

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite float (or int) in ``low..high``."""

    def check(value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            raise DecodeError("bad_field", f"not a finite number in {low}..{high}")
        return float(value)

    return check


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise DecodeError("bad_field", "not a boolean")
    return value


def text(longest: int = 200, pattern: re.Pattern[str] | None = None) -> Check:
    def check(value: Any) -> str:
        if type(value) is not str or len(value) > longest or (pattern and not pattern.fullmatch(value)):
            raise DecodeError("bad_field", f"not a text of at most {longest} characters of the right form")
        return value

    return check


def blob(longest: int) -> Check:
    def check(value: Any) -> bytes:
        if type(value) is not bytes or len(value) > longest:
            raise DecodeError("bad_field", f"not bytes of at most {longest}")
        return value

    return check


def maybe(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)


def many(inner: Check, longest: int) -> Check:
    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > longest:
            raise DecodeError("bad_field", f"not a list of at most {longest}")
        return tuple(inner(item) for item in value)

    return check


def table(inner: Check, longest: int = 64) -> Check:
    """A map from short text to values that pass ``inner``."""
    key_check = text(200)

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > longest:
            raise DecodeError("bad_field", f"not a map of at most {longest}")
        return {key_check(key): inner(item) for key, item in value.items()}

    return check


def record(cls: type[M]) -> Check:
    """A nested dataclass whose own fields are bounded."""
    return lambda value: build(cls, value)


def build(cls: type[M], value: Any) -> M:
    """``cls`` from a decoded map. Unknown keys are ignored, so that a later minor version may add some."""
    if not isinstance(value, Mapping):
        raise DecodeError("bad_field", f"{cls.__name__} is not a map")
    found: dict[str, Any] = {}
    for name, check, is_required in _bounds(cls):
        if name in value:
            found[name] = _checked(cls, name, check, value[name])
        elif is_required:
            raise DecodeError("missing_field", f"{cls.__name__}.{name}")
    return cls(**found)


def _bounds(cls: type[Any]) -> tuple[tuple[str, Check, bool], ...]:
    """Name, check and whether it must be there, for every field: read once, every frame needs it."""
    known = _BOUNDS.get(cls)
    if known is None:
        known = tuple((item.name, item.metadata["check"], item.default is MISSING) for item in fields(cls))
        _BOUNDS[cls] = known
    return known


_BOUNDS: dict[type[Any], tuple[tuple[str, Check, bool], ...]] = {}


def _checked(cls: type[Any], name: str, check: Check, value: Any) -> Any:
    try:
        return check(value)
    except DecodeError as error:
        raise DecodeError(error.reason, f"{cls.__name__}.{name}: {error.detail}") from None


def plain(message: Any) -> dict[str, Any]:
    """The map that :func:`build` reads back."""
    return {name: _plain(getattr(message, name)) for name, _, _ in _bounds(type(message))}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return plain(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
