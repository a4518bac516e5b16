"""A strategy's options: the fields of its dataclass, with bounds, read from ``key=value`` and told to people. Pure."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from fl_protocol.errors import ConfigError

ANY = "(-inf, inf)"
INTERVAL = re.compile(r"([\[(])\s*([^,\s]+)\s*,\s*([^,\s]+)\s*([\])])")


def option(
    default: Any, text: str, *, within: str = ANY, choices: Sequence[str] = (), unset: str = "none"
) -> Any:
    """A field of a strategy that an operator may set.

    ``within``: an interval as in mathematics, ``[0, 1)``. ``unset``: in words, what None stands for.
    """
    return field(default=default, metadata={"option": (text, within, tuple(choices), unset)})


@dataclass(frozen=True)
class Option:
    """One option, as people are told of it. ``kind`` is int, float or str."""

    name: str
    kind: type[Any]
    default: Any
    text: str
    within: str = ANY
    choices: tuple[str, ...] = ()
    unset: str = "none"
    optional: bool = False

    @property
    def domain(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind is str:
            return "text"
        noun = "a whole number" if self.kind is int else "a number"
        return noun if self.within == ANY else f"{noun} in {self.within}"

    @property
    def default_text(self) -> str:
        return self.unset if self.default is None else _shown(self.default)

    def parse(self, text: str) -> Any:
        """The value of ``text``. Raises ValueError if it is none."""
        if self.optional and text == self.unset:
            return None
        if self.kind is str:
            if self.choices and text not in self.choices:
                raise ValueError(text)
            return text
        value = self.kind(text)
        if not math.isfinite(value) or not _is_within(value, self.within):
            raise ValueError(text)
        return value


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_within(value: float, interval: str) -> bool:
    found = INTERVAL.fullmatch(interval)
    if found is None:
        raise TypeError(f"not an interval: {interval}")
    opening, lowest, highest, closing = found.groups()
    low, high = float(lowest), float(highest)
    return (low < value or (opening == "[" and low == value)) and (
        value < high or (closing == "]" and value == high)
    )


def options_of(strategy: type[Any]) -> list[Option]:
    """The options of a strategy's class, sorted by name. Raises TypeError for a field of no known type."""
    hints = typing.get_type_hints(strategy)
    declared = fields(strategy) if hasattr(strategy, "__dataclass_fields__") else ()
    return sorted((_option(each, hints[each.name]) for each in declared), key=lambda each: each.name)


def _option(declared: Any, hint: Any) -> Option:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kind = next(each for each in kinds if each is not type(None))
    if kind not in (int, float, str) or declared.default is MISSING:
        raise TypeError(f"option {declared.name}: an option is an int, float or str with a default, or None")
    text, within, choices, unset = declared.metadata.get("option", ("", ANY, (), "none"))
    return Option(
        declared.name, kind, declared.default, text, within, choices, unset, optional=type(None) in kinds
    )


def split_options(pairs: Iterable[str]) -> dict[str, str]:
    """``key=value`` pairs as a mapping; of two with one key the last one counts. Raises ConfigError."""
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ConfigError(f"--strategy-option {pair!r} is not key=value: write it as server_lr=0.1")
        found[key.strip().replace("-", "_")] = value.strip()
    return found


def parse_options(strategy: type[Any], texts: Mapping[str, str], name: str) -> dict[str, Any]:
    """The values of the options given. Raises ConfigError, with the known ones, for a key or value that is none."""
    known = {each.name: each for each in options_of(strategy)}
    found = {}
    for key, text in texts.items():
        if key not in known:
            raise ConfigError(_unknown(key, known, name))
        try:
            found[key] = known[key].parse(text)
        except ValueError:
            others = f", or {known[key].unset}" if known[key].optional else ""
            raise ConfigError(
                f"--strategy-option {key}={text}: {key} of {name} is {known[key].domain}{others} "
                f"(default {known[key].default_text}); its options: {', '.join(known)}"
            ) from None
    return found


def _unknown(key: str, known: Mapping[str, Option], name: str) -> str:
    if not known:
        return f"--strategy-option {key}: strategy {name} has no options"
    close = get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"--strategy-option {key}: strategy {name} has no such option: {hint}it has {', '.join(known)}"
