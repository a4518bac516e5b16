"""Settings from four places, groups of options, and exit codes of every command line."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from fl_protocol import commandline
from fl_protocol.commandline import (
    CertOption,
    ConfigOption,
    JobOption,
    KeyOption,
    PluginOption,
    TlsOption,
    effective_settings,
    option,
    spread,
)
from fl_protocol.errors import AccessRefused, ConfigError, QuorumNotMet


def app_of_two() -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, add_completion=False)

    @app.callback()
    def common(ctx: typer.Context, config: ConfigOption = None) -> None:
        """A program."""
        commandline.load_config(ctx, config)

    @app.command()
    def join(
        ctx: typer.Context,
        job: JobOption = "default",
        min_clients: Annotated[int, option("min-clients", "How many.")] = 2,
        quorum: Annotated[str | None, option("quorum", "How many.")] = None,
        tls: TlsOption = False,
        plugin: PluginOption = None,
    ) -> None:
        """Join."""
        print(json.dumps(effective_settings(ctx)))

    @app.command()
    def fail(how: str) -> None:
        """Fail."""
        raise {
            "config": ConfigError("mend it"),
            "access": AccessRefused("no"),
            "quorum": QuorumNotMet("few"),
            "stop": KeyboardInterrupt(),
            "exit": typer.Exit(5),
            "bug": ZeroDivisionError("boom"),
        }[how]

    return app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FL_JOB", "FL_MIN_CLIENTS", "FL_PASSWORD", "FL_TLS", "FL_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def settings(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[object, str]]:
    code = commandline.exit_code(app_of_two(), "prog", [*arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return {name: (entry["value"], entry["source"]) for name, entry in json.loads(out).items()}


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert commandline.exit_code(app_of_two(), "prog", [*arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("prog: ")
    return err


def test_each_source_yields_to_the_one_before_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(capsys, "join")["min_clients"] == (2, "default")
    Path("hilum.toml").write_text("[join]\nmin_clients = 3\n")
    assert settings(capsys, "join")["min_clients"] == (3, "hilum.toml")
    monkeypatch.setenv("FL_MIN_CLIENTS", "4")
    assert settings(capsys, "join")["min_clients"] == (4, "environment")
    assert settings(capsys, "join", "--min-clients", "5")["min_clients"] == (5, "option")


def test_a_settings_file_may_use_hyphens_numbers_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    Path("hilum.toml").write_text(
        'job = "xray"\ntls = true\nusername = "unused-here"\n'
        '[join]\nmin-clients = 7\nquorum = 0.5\nplugin = "a.b"\n[start]\nrounds = 3\n'
    )
    found = settings(capsys, "join")
    assert found["job"] == ("xray", "hilum.toml")
    assert found["tls"] == (True, "hilum.toml")
    assert found["min_clients"] == (7, "hilum.toml")
    assert found["quorum"] == ("0.5", "hilum.toml")
    assert found["plugin"] == ("a.b", "hilum.toml")
    assert settings(capsys, "join", "--no-tls")["tls"] == (False, "option")


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[join]\nmin_client = 3\n", "did you mean 'min_clients'"),
        ("jobb = 'x'\n", "'jobb'"),
        ("[jion]\nmin_clients = 3\n", "did you mean 'join'"),
        ("[join.min_clients]\na = 3\n", "min_clients"),
        ("[join]\nplugin = ['a', 'b']\n", "plugin"),
        ("job = \n", "not valid TOML"),
        ("[join]\nmin_clients = 'many'\n", "--min-clients"),
    ],
)
def test_a_wrong_settings_file_is_named(capsys: pytest.CaptureFixture[str], toml: str, named: str) -> None:
    Path("hilum.toml").write_text(toml)
    assert named in refusal(capsys, "join")


def test_a_settings_file_that_was_asked_for_must_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.toml" in refusal(capsys, "--config", "none.toml", "join")


@pytest.mark.parametrize(
    "arguments", [("join", "--min-clients", "x"), ("join", "--mni-clients", "3"), ("jion",), ("fail",)]
)
def test_a_usage_error_is_one_line(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert "--help)" in refusal(capsys, *arguments)


def test_an_option_of_another_command_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    app = app_of_two()

    @app.command()
    def look(listen: Annotated[str, option("listen", "Where.")] = "here") -> None:
        """Look."""

    assert commandline.exit_code(app, "prog", ["join", "--listen", "x"]) == 2
    assert "it is one of prog look; see prog join --help" in capsys.readouterr().err
    assert "it is one of" not in refusal(capsys, "join", "--lisp", "x")


def test_what_another_command_would_be_given_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.toml").write_text("[look]\nlisten = 'there'\ncert = 'file'\n")
    monkeypatch.setenv("FL_CERT", "variable")
    app, found = app_of_two(), {}

    @app.command()
    def look(listen: Annotated[str, option("listen", "Where.")] = "here", cert: CertOption = None, key: KeyOption = None) -> None:  # fmt: skip
        """Look."""

    @app.command()
    def ask(ctx: typer.Context) -> None:
        found.update(commandline.unsaid(ctx, "look"))

    assert commandline.exit_code(app, "prog", ["--config", "mine.toml", "ask"]) == 0
    assert found == {"listen": "there", "cert": "variable", "key": None}


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("config", 2, "prog: mend it\n"),
        ("access", 3, "prog: no\n"),
        ("quorum", 4, "prog: few\n"),
        ("stop", 130, ""),
        ("exit", 5, ""),
    ],
)
def test_errors_have_their_exit_code_and_one_line(
    capsys: pytest.CaptureFixture[str], how: str, code: int, said: str
) -> None:
    assert commandline.exit_code(app_of_two(), "prog", ["fail", how]) == code
    assert capsys.readouterr().err == said


def test_a_bug_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert commandline.exit_code(app_of_two(), "prog", ["fail", "bug"]) == 1
    assert "ZeroDivisionError: boom" in capsys.readouterr().err


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert commandline.exit_code(app_of_two(), "prog", []) == 2
    out, err = capsys.readouterr()
    assert "Usage" in out + err
    assert "prog: name a command" in err


def test_of_two_options_that_exclude_one_another_the_one_said_here_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = typer.Typer()
    dropped: list[dict[str, None]] = []

    @asked.command()
    def command(
        ctx: typer.Context,
        broker: Annotated[str | None, commandline.option("broker", "A broker.")] = None,
        model: Annotated[str | None, commandline.option("model", "A file.")] = None,
    ) -> None:
        dropped.append(commandline.overruled(ctx, "broker", "model"))

    monkeypatch.setenv("FL_BROKER", "elsewhere")
    for words in (["--model", "file"], [], ["--model", "file", "--broker", "here"]):
        asked(words, standalone_mode=False)
    assert dropped == [{"broker": None}, {}, {}], "what was said twice here is for the command to refuse"


@dataclass(frozen=True)
class Pace:
    speed: Annotated[int, option("speed", "How fast.", rich_help_panel="PACE")]
    rests: Annotated[list[str] | None, option("rests", "Where.")] = None
    tls: TlsOption = False


def test_a_group_of_options_stands_in_its_place_and_comes_whole() -> None:
    heard: list[object] = []

    @spread
    def walk(
        ctx: typer.Context, *, job: JobOption = "default", pace: Pace, plugin: PluginOption = None
    ) -> None:
        heard.extend([job, pace, plugin, sorted(ctx.params)])

    assert list(inspect.signature(walk).parameters) == ["ctx", "job", "speed", "rests", "tls", "plugin"]
    app = typer.Typer()
    app.command()(walk)
    app(["--speed", "3", "--rests", "a", "--rests", "b", "--tls"], standalone_mode=False)
    names = ["job", "plugin", "rests", "speed", "tls"]
    assert heard == ["default", Pace(3, ["a", "b"], tls=True), None, names]
    told = commandline.options_of(walk)
    assert (told["speed"].panel, told["speed"].is_number, told["rests"].spelled) == ("PACE", True, "--rests")
    with pytest.raises(ConfigError, match="'--speed'"):
        commandline.values_of(walk, "walk", [("--rests", "a")])
    found = commandline.values_of(walk, "walk", [("--speed", "3")])
    assert (sorted(found), found["job"], found["speed"]) == (names, "default", 3)


def test_a_login_is_what_the_options_say(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("word")
    found = commandline.LoginOptions("nurse", str(secret), tls=True).at("hub", keepalive=9)
    assert (found.where, found.username, found.password, found.keepalive_s) == (
        "hub:8883",
        "nurse",
        "word",
        9,
    )
