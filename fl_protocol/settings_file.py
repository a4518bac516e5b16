"""``hilum.toml``: keys at the top are options that several programs know, a table named after a command holds its options::

broker = "hub.example.org:8883"
tls = true

[join]
data = "/srv/xrays"
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from fl_protocol.errors import ConfigError

CONFIG_FILE = "hilum.toml"
SHARED_KEYS = frozenset({
    "broker", "job", "username", "password_file", "tls", "ca", "cert", "key", "keepalive", "seed", "plugin", "data",
})  # fmt: skip
"""Options that may stand at the top, for every program that has them."""
TABLES = frozenset({
    "start", "strategies", "demo", "status", "dashboard", "doctor", "export", "join", "predict", "serve", "run", "compare",
    "chaos",
})  # fmt: skip
"""The commands of all programs: a table may be for another than the one that reads it."""


def defaults_from(
    settings: Mapping[str, Any],
    options: Mapping[str, Iterable[str]],
    file: str = CONFIG_FILE,
    several: Collection[str] = (),
) -> dict[str, Any]:
    """Defaults by command from a settings file; ``options`` are the options of each command of this program.

    Those in ``several`` may hold a list, or a table, which means ``["key=value", ...]``.
    """
    shared: dict[str, Any] = {}
    found: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            known = options.get(key)
            if known is not None:
                found[key] = _table(value, known, f"[{key}] of {file}", several)
            elif key not in TABLES:
                raise ConfigError(_unknown(f"table [{key}]", key, {*options, *TABLES}, file))
        else:
            shared |= _table({key: value}, SHARED_KEYS, f"the top of {file}", several)
    return {
        command: {key: value for key, value in shared.items() if key in set(known)} | found.get(command, {})
        for command, known in options.items()
    }


def _table(
    values: Mapping[str, Any], known: Iterable[str], where: str, several: Collection[str] = ()
) -> dict[str, Any]:  # fmt: skip
    found = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in set(known):
            raise ConfigError(_unknown(f"key {key!r}", name, known, where))
        if isinstance(value, dict | list) and name not in several:
            raise ConfigError(f"key {key!r} in {where} holds several values: give it one")
        found[name] = _texts(value) if name in several else value
    return found


def _texts(value: Any) -> list[str]:
    """What an option that may be given several times has in the settings file."""
    if isinstance(value, dict):
        return [f"{key}={each}" for key, each in value.items()]
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _unknown(what: str, name: str, known: Iterable[str], where: str) -> str:
    close = get_close_matches(name, sorted(known), 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known there: {', '.join(sorted(known))}"
    return f"unknown {what} in {where}: {hint}"


def read_settings(path: Path) -> dict[str, Any]:
    """What the file says. Raises ConfigError if it cannot be read, or is no TOML."""
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return dict(toml.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
