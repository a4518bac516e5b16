"""hilum.toml, from text to the defaults of commands."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import typer

from fl_protocol.errors import ConfigError
from fl_protocol.settings_file import SHARED_KEYS, TABLES, defaults_from, read_settings


def test_an_option_that_may_be_given_often_takes_a_list_or_a_table() -> None:
    options = {"start": {"strategy_option", "rounds"}}
    for value, wanted in (
        ({"server_lr": 0.1, "how": "up"}, ["server_lr=0.1", "how=up"]),
        (["server_lr=0.1"], ["server_lr=0.1"]),
        ("server_lr=0.1", ["server_lr=0.1"]),
    ):
        found = defaults_from({"start": {"strategy-option": value}}, options, several={"strategy_option"})
        assert found == {"start": {"strategy_option": wanted}}
    at_the_top = defaults_from({"data": "/srv/x rays"}, {"run": {"data"}}, several={"data"})
    assert at_the_top == {"run": {"data": ["/srv/x rays"]}}
    with pytest.raises(ConfigError, match=r"key 'data' .* holds several values"):
        defaults_from({"data": ["a", "b"]}, {"join": {"data"}})
    with pytest.raises(ConfigError, match=r"key 'rounds' .* holds several values"):
        defaults_from({"start": {"rounds": [1, 2]}}, options, several={"strategy_option"})


def test_what_stands_at_the_top_is_for_every_command_that_has_it_and_yields_to_the_commands_table() -> None:
    options = {"join": {"broker", "job"}, "predict": {"model"}}
    settings = {"broker": "hub", "job": "a", "join": {"job": "b"}, "start": {"rounds": 3}}
    assert defaults_from(settings, options) == {"join": {"broker": "hub", "job": "b"}, "predict": {}}


def test_every_command_may_have_a_table_and_what_is_shared_is_an_option_of_two() -> None:
    commands = {
        (program, name): {param.name for param in command.params}
        for program in ("aggregator.cli", "edge_client.cli", "fl_sim.cli")
        for name, command in commands_of(importlib.import_module(program).app).items()
    }
    assert {name for _, name in commands} == TABLES
    owners = {key: [command for command, names in commands.items() if key in names] for key in SHARED_KEYS}
    assert [key for key, found in owners.items() if len(found) < 2] == []


def commands_of(app: typer.Typer) -> dict[str, Any]:
    return dict(getattr(typer.main.get_command(app), "commands"))  # noqa: B009 - a group, typed as a command


def test_a_file_that_cannot_be_read_or_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_settings(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("job =")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_settings(tmp_path / "bad.toml")
