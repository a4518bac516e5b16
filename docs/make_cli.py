"""Write docs/cli.md from the commands themselves: ``python docs/make_cli.py``; with ``--check``, exit 1 if it is stale."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("cli.md")
PROGRAMS = {"fl-agg": "aggregator.cli", "fl-edge": "edge_client.cli", "fl-sim": "fl_sim.cli"}
HEAD = """# Commands

Written by `python docs/make_cli.py` from the commands themselves; do not edit.

An option on the command line wins over its `FL_*` variable, that over `hilum.toml`, that over the default.
Exit codes: 0 done; 1 a bug of ours; 2 usage, configuration or data; 3 broker unreachable or access refused;
4 quorum not met; 130 after Ctrl-C.
"""


def page() -> str:
    """The whole page."""
    import typer

    parts = [HEAD]
    for program, module in PROGRAMS.items():
        parts.extend(_program(typer.main.get_command(importlib.import_module(module).app), program))
    return "\n".join(parts).rstrip() + "\n"


def _program(command: Any, program: str) -> Iterator[str]:
    yield f"## {program}\n"
    yield _prose(command.help)
    shared = [p for p in command.params if not _plumbing(p)]
    yield _options(shared)
    for name, sub in getattr(command, "commands", {}).items():
        if not sub.hidden:
            yield f"### {program} {name}\n"
            yield _prose(sub.help)
            yield f"```\n{_usage(program, name, sub)}\n```\n"
            yield _options([p for p in sub.params if not _plumbing(p)])


def _plumbing(param: Any) -> bool:
    return getattr(param, "hidden", False) or param.name in ("help", "install_completion", "show_completion")


def _prose(text: str | None) -> str:
    """Help text as a paragraph; form feeds and no-rewrap marks are for terminals."""
    body = inspect.cleandoc(text or "").replace("\b\n", "").split("\f")[0].strip()
    return f"{body}\n" if body else ""


def _usage(program: str, name: str, command: Any) -> str:
    words = [program, name]
    if any(_is_option(p) for p in command.params if not _plumbing(p)):
        words.append("[OPTIONS]")
    for param in command.params:
        if not _is_option(param):
            word = (param.metavar or param.name or "").upper() + ("..." if param.nargs == -1 else "")
            words.append(word if param.required else f"[{word}]")
    return " ".join(words)


def _is_option(param: Any) -> bool:
    return str(param.param_type_name) == "option"


def _options(params: list[Any]) -> str:
    if not params:
        return ""
    rows = ["| option | what it does | default | variable |", "| --- | --- | --- | --- |"]
    rows += [_row(param) for param in params]
    return "\n".join(rows) + "\n"


def _row(param: Any) -> str:
    cells = _name(param), getattr(param, "help", None) or "", _default(param), _variables(param)
    return f"| {' | '.join(map(_cell, cells))} |"


def _name(param: Any) -> str:
    if not _is_option(param):
        return f"`{(param.metavar or param.name or '').upper()}`"
    names = ", ".join([*param.opts, *param.secondary_opts])
    kind = "" if param.is_flag else f" {_kind(param)}"
    return f"`{names}{kind}`" + (" (required)" if param.required else "")


def _kind(param: Any) -> str:
    """What stands for the value: the metavar, else what the default tells (typer's own word differs by version)."""
    if param.metavar:
        return str(param.metavar)
    return {int: "NUMBER", float: "NUMBER", str: "TEXT"}.get(type(param.default), "VALUE")


def _default(param: Any) -> str:
    shown = getattr(param, "show_default", None)
    if isinstance(shown, str):
        return shown
    value = param.default
    if value is None or callable(value) or value == () or param.required or "UNSET" in repr(value).upper():
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{getattr(value, 'value', value)}`"


def _variables(param: Any) -> str:
    found = param.envvar or ()
    return ", ".join(f"`{name}`" for name in ([found] if isinstance(found, str) else found))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if docs/cli.md is stale")
    wanted = page()
    if not parser.parse_args(arguments).check:
        PAGE.write_text(wanted, "utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text("utf-8") == wanted:
        return 0
    print("docs/cli.md is stale: run python docs/make_cli.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
