"""What the command lines share: options that several have, settings from four places, and the end of every run.

Precedence: option > ``FL_*`` variable > ``hilum.toml`` > default.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args, get_type_hints

import typer

from fl_protocol.broker import KEEPALIVE_S, TLS_PORT, BrokerOptions
from fl_protocol.errors import ConfigError, HilumError
from fl_protocol.login import MAX_KEEPALIVE_S, PASSWORD_VARIABLE, broker_options
from fl_protocol.settings_file import CONFIG_FILE, defaults_from, read_settings

SOURCES = {"COMMANDLINE": "option", "ENVIRONMENT": "environment", "DEFAULT_MAP": CONFIG_FILE}

USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[
    2
]  # click's base class, wherever typer keeps its click


Context = typer.Context
"""For commands that stand in modules of their own."""


@dataclass(frozen=True)
class Option:
    """An option as people are told of it."""

    spelled: str
    help: str
    default: Any
    panel: str
    is_number: bool


def option(name: str, help_text: str, *, flag: bool = False, **more: Any) -> Any:
    """A typer option ``--name`` that can also be set as ``FL_NAME``, unless ``envvar`` says otherwise."""
    spelling = f"--{name}/--no-{name}" if flag else f"--{name}"
    more.setdefault("envvar", "FL_" + name.upper().replace("-", "_"))
    more.setdefault("show_default", not flag)
    return typer.Option(spelling, help=help_text, **more)


def program(name: str, help_text: str) -> typer.Typer:
    """A program of ours: a bug shows a plain traceback, and nothing writes into anybody's shell settings."""
    return typer.Typer(
        name=name, help=help_text, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command some of whose parameters are groups: dataclasses of options, which stand in its signature in their place.

    So options that several commands share are written once, with their defaults. A command's parameters have names
    only: those after a group may have no default.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)
    }
    members = {name: [each.name for each in fields(group)] for name, group in groups.items()}
    spread_out: list[Parameter] = []
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            spread_out += _parameters(groups[name])
        else:
            spread_out.append(parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY))

    @wraps(command)
    def with_groups(**given: Any) -> None:
        grouped = {name: groups[name](**{each: given.pop(each) for each in members[name]}) for name in groups}
        command(**given, **grouped)

    with_groups.__annotations__ = {each.name: each.annotation for each in spread_out}
    setattr(with_groups, "__signature__", Signature(spread_out))  # noqa: B010 - functions are not known to have one
    return with_groups


def _parameters(group: type[Any]) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            each.name, Parameter.KEYWORD_ONLY, annotation=hints[each.name],
            default=Parameter.empty if each.default is MISSING else each.default,
        )
        for each in fields(group)
    ]  # fmt: skip


BROKER, PAGE = "BROKER", "PAGE"
"""Headings of options in --help."""

JOB = "default"
JobOption = Annotated[
    str, option("job", "Name of the training job: everyone who names the same job works together.")
]
UsernameOption = Annotated[
    str | None, option("username", "Name to log in to the broker with.", rich_help_panel=BROKER)
]
PasswordFileOption = Annotated[
    str | None,
    option(
        "password-file",
        f"File whose first line is the broker password. Or set {PASSWORD_VARIABLE}; there is no --password.",
        metavar="FILE",
        rich_help_panel=BROKER,
    ),
]
TlsOption = Annotated[
    bool,
    option(
        "tls",
        f"Encrypt the connection; the port is then {TLS_PORT} unless you give one. Implied by --ca and --cert.",
        flag=True,
        rich_help_panel=BROKER,
    ),
]
CaOption = Annotated[
    str | None,
    option(
        "ca",
        "Certificate of the authority that signed the broker's (default: those of this system).",
        metavar="FILE",
        rich_help_panel=BROKER,
    ),
]
CertOption = Annotated[
    str | None,
    option(
        "cert",
        "Our own certificate, where the broker asks for one.",
        metavar="FILE",
        rich_help_panel=BROKER,
    ),
]
KeyOption = Annotated[
    str | None, option("key", "The private key of --cert.", metavar="FILE", rich_help_panel=BROKER)
]
KeepaliveOption = Annotated[
    int,
    option(
        "keepalive",
        "Seconds of silence after which either end looks whether the other is there: a site that is cut off is "
        f"noticed after one and a half of them. At most {MAX_KEEPALIVE_S}.",
        metavar="S",
        rich_help_panel=BROKER,
    ),
]
WebCertOption = Annotated[
    str | None,
    option("web-cert", "Certificate of the page (PEM), for https.", metavar="FILE", rich_help_panel=PAGE),
]
WebKeyOption = Annotated[
    str | None, option("web-key", "The private key of --web-cert.", metavar="FILE", rich_help_panel=PAGE)
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")]
ChecksAsJsonOption = Annotated[
    bool, typer.Option("--json", help="An array with an object a check, for programs.")
]
PluginOption = Annotated[
    str | None,
    option("plugin", "Python module that registers further tasks.", metavar="MODULE"),
]
ConfigOption = Annotated[
    str | None,
    option("config", f"Settings file (default: {CONFIG_FILE} here, if there is one).", metavar="FILE"),
]


@dataclass(frozen=True)
class LoginOptions:
    """How one enters a broker: what every command has that speaks to one."""

    username: UsernameOption = None
    password_file: PasswordFileOption = None
    tls: TlsOption = False
    ca: CaOption = None
    cert: CertOption = None
    key: KeyOption = None

    def at(self, broker: str, keepalive: int = KEEPALIVE_S) -> BrokerOptions:
        """The broker at ``HOST[:PORT]``, entered so. Raises ConfigError for what cannot be right."""
        return broker_options(broker, **asdict(self), keepalive=keepalive)


def load_config(ctx: typer.Context, path: str | None) -> None:
    """Make ``hilum.toml`` the defaults of the command about to run. Call it in the app's callback.

    Raises ConfigError if the file named does not exist, is no TOML, or has a key that is no option.
    """
    chosen = Path(path or CONFIG_FILE)
    if path is None and not chosen.is_file():
        return
    commands = getattr(ctx.command, "commands").items()  # noqa: B009 - a group, typed as a command
    options = {
        name: {param.name for param in command.params if param.name} - {"help"} for name, command in commands
    }
    several = {param.name for _, command in commands for param in command.params if param.multiple}
    ctx.default_map = defaults_from(read_settings(chosen), options, str(chosen), several)


def effective_settings(ctx: typer.Context) -> dict[str, dict[str, Any]]:
    """Every option of the running command: its value, and ``source`` option, environment, hilum.toml or default.

    Passwords are not among them: they are never options.
    """
    found = {}
    for name, value in sorted(ctx.params.items()):
        source = ctx.get_parameter_source(name)
        found[name] = {"value": value, "source": SOURCES.get(source.name if source else "", "default")}
    return found


def unsaid(ctx: typer.Context, command: str) -> dict[str, Any]:
    """What another command of the running program would be given without a word: by the environment, by the settings file."""
    program = ctx.find_root()
    found = getattr(program.command, "commands")[command]  # noqa: B009 - a group, typed as a command
    return dict(found.make_context(command, [], parent=program).params)


def overruled(ctx: typer.Context, *rivals: str) -> dict[str, None]:
    """Of options that exclude one another those that only the environment or a file gives, if another is said here."""
    here = {name for name in rivals if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    return dict.fromkeys(name for name in rivals if here and name not in here)


def options_of(command: Callable[..., Any]) -> dict[str, Option]:
    """The options of a command by the names of its parameters, read from its signature: typer's own objects differ by
    version.
    """
    hints = get_type_hints(command, include_extras=True)
    found = {}
    for name, parameter in signature(command).parameters.items():
        bare, *details = get_args(hints[name]) if hasattr(hints[name], "__metadata__") else (hints[name],)
        for info in details:
            kinds = set(get_args(bare)) or {bare}
            found[name] = Option(
                "--" + name.replace("_", "-"), info.help or "", parameter.default, info.rich_help_panel or "",
                is_number=bool(kinds & {int, float}),
            )  # fmt: skip
    return found


def values_of(command: Callable[..., None], spelled: str, said: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What ``--option`` and text, pairs of them, mean to a command, by the names of its parameters, beside all that it
    has without them. Raises ConfigError with the line that a command ``spelled`` so would end with.
    """
    app = typer.Typer(add_completion=False)
    app.command()(command)
    try:
        found = typer.main.get_command(app).make_context(spelled, [f"{name}={text}" for name, text in said])
    except USAGE_ERROR as error:
        raise ConfigError(_usage(spelled, error)) from None
    return dict(found.params)


def say(line: str) -> None:
    """A line on stdout, from commands that stand in modules of their own."""
    print(line)


def run(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``app`` as the program ``name`` and end the process with its exit code.

    An error that a person can mend is one line on stderr; anything else is a bug of ours, with its traceback.
    """
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(exit_code(app, name, arguments))


def _terminated(_number: int, _frame: object) -> NoReturn:
    """SIGTERM ends the process through every ``finally``, as Ctrl-C does."""
    raise SystemExit(0)


def exit_code(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> int:
    """As :func:`run`, but returns the code."""
    try:
        found = typer.main.get_command(app)(args=arguments, prog_name=name, standalone_mode=False)
        return found if isinstance(found, int) else 0
    except HilumError as error:
        return _complain(name, str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except USAGE_ERROR as error:
        return _complain(name, _usage(name, error), 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush complains
        return 1
    except Exception:  # noqa: BLE001 - the edge of the process: whatever is left is a bug
        traceback.print_exc()
        return _complain(name, "this is a bug of ours: please report it with the lines above", 1)


def _usage(name: str, error: Any) -> str:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)  # empty where rich has printed the help already
        return "name a command"
    text = " ".join(str(error.format_message()).split()).rstrip(".")
    return f"{text} ({_elsewhere(error, context)}see {getattr(context, 'command_path', name)} --help)"


def _elsewhere(error: Any, context: Any) -> str:
    """Which other commands of the program have an option that this one has not."""
    wanted, above = getattr(error, "option_name", None), getattr(context, "parent", None)
    if above is None:
        return ""
    others: dict[str, Any] = getattr(above.command, "commands", {})
    have = [name for name, each in others.items() if any(wanted in param.opts for param in each.params)]
    return f"it is one of {' and '.join(f'{above.info_name} {name}' for name in have)}; " if have else ""


def _complain(name: str, message: str, code: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return code
