"""What the command lines share: options of the broker, settings from three places, and the end of every run.

Precedence: option > ``FL_*`` variable > ``hilum.toml`` > default. In ``hilum.toml`` the keys at the top are options
that several programs know; a table named after a command holds that command's options::

    broker = "hub.example.org:8883"
    tls = true

    [join]
    data = "/srv/xrays"
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args, get_type_hints

import typer

from fl_protocol.errors import ConfigError, HilumError

if TYPE_CHECKING:
    from fl_protocol.transport import BrokerOptions

CONFIG_FILE = "hilum.toml"
PLAIN_PORT, TLS_PORT = 1883, 8883
KEEPALIVE_S, MIN_KEEPALIVE_S = 30, 2
PASSWORD_VARIABLE = "FL_PASSWORD"  # noqa: S105 - the name of the variable
SHARED_KEYS = frozenset(
    {
        "broker",
        "job",
        "username",
        "password_file",
        "tls",
        "ca",
        "cert",
        "key",
        "keepalive",
        "seed",
        "plugin",
        "data",
    }
)
"""Options that may stand at the top of ``hilum.toml``, for every program that has them."""
OTHER_TABLES = frozenset(
    {
        "start",
        "demo",
        "status",
        "join",
        "doctor",
        "predict",
        "run",
        "compare",
        "strategies",
        "chaos",
        "dashboard",
        "export",
        "serve",
    }
)
"""Tables of commands that another program may own."""
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


BROKER = "BROKER"  # heading of the options below in --help

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
        "noticed after one and a half of them. At most 65535.",
        metavar="S",
        rich_help_panel=BROKER,
    ),
]
PluginOption = Annotated[
    str | None,
    option("plugin", "Python module that registers further tasks.", metavar="MODULE"),
]
ConfigOption = Annotated[
    str | None,
    option("config", f"Settings file (default: {CONFIG_FILE} here, if there is one).", metavar="FILE"),
]


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
    ctx.default_map = defaults_from(_read_toml(chosen), options, str(chosen), several)


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
            elif key not in OTHER_TABLES:
                raise ConfigError(_unknown(f"table [{key}]", key, {*options, *OTHER_TABLES}, file))
        else:
            shared |= _table({key: value}, SHARED_KEYS, f"the top of {file}")
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


def _read_toml(path: Path) -> dict[str, Any]:
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        return dict(toml.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def effective_settings(ctx: typer.Context) -> dict[str, dict[str, Any]]:
    """Every option of the running command: its value, and ``source`` option, environment, hilum.toml or default.

    Passwords are not among them: they are never options.
    """
    found = {}
    for name, value in sorted(ctx.params.items()):
        source = ctx.get_parameter_source(name)
        found[name] = {"value": value, "source": SOURCES.get(source.name if source else "", "default")}
    return found


def overruled(ctx: typer.Context, *rivals: str) -> dict[str, None]:
    """Of options that exclude one another those that only the environment or a file gives, if another is said here."""
    here = {name for name in rivals if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    return dict.fromkeys(name for name in rivals if here and name not in here)


def broker_options(
    broker: str,
    username: str | None = None,
    password_file: str | None = None,
    tls: bool = False,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    keepalive: int = KEEPALIVE_S,
) -> BrokerOptions:
    """What the transport needs to reach ``HOST[:PORT]``. Raises ConfigError for what cannot be right."""
    from fl_protocol.transport import BrokerOptions  # here, so that commands without a broker load no paho

    tls = tls or ca is not None or cert is not None
    if key is not None and cert is None:
        raise ConfigError("--key needs --cert: give the certificate that belongs to it")
    for name, file in (("--ca", ca), ("--cert", cert), ("--key", key)):
        if file is not None and not os.access(file, os.R_OK):
            raise ConfigError(f"{name} {file}: no such file, or it cannot be read")
    if not MIN_KEEPALIVE_S <= keepalive <= 65_535:
        raise ConfigError(f"--keepalive {keepalive} is out of range: give {MIN_KEEPALIVE_S} to 65535 seconds")
    host, port = parse_address(broker, TLS_PORT if tls else PLAIN_PORT)
    password = read_password(password_file)
    if password is not None and username is None:
        raise ConfigError("a broker password needs a name: give --username as well")
    return BrokerOptions(
        host=host, port=port, username=username, password=password, tls=tls, ca=ca, cert=cert, key=key,
        keepalive_s=keepalive,
    )  # fmt: skip


def parse_address(text: str, default_port: int = PLAIN_PORT) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT``, ``[IPv6]`` or ``[IPv6]:PORT``."""
    wrong = f"--broker {text!r} is not HOST or HOST:PORT"
    if any(sign in text for sign in "/ @"):
        raise ConfigError(f"{wrong}: give a host name or address, without mqtt:// and without a user")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigError(f"{wrong}: write an IPv6 address as [::1]:1883")
        port_text = rest[1:] if rest else None
    else:
        if text.count(":") > 1:
            raise ConfigError(f"{wrong}: put an IPv6 address in brackets")
        host, colon, tail = text.partition(":")
        port_text = tail if colon else None
    if not host:
        raise ConfigError(f"{wrong}: give a host name or address")
    if port_text is None:
        return host, default_port
    if not port_text.isascii() or not port_text.isdigit() or not 1 <= int(port_text) <= 65_535:
        raise ConfigError(f"{wrong}: the port is a number from 1 to 65535")
    return host, int(port_text)


def read_password(file: str | None) -> str | None:
    """The first line of ``file``; without a file, what FL_PASSWORD holds."""
    if file is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        lines = Path(file).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"--password-file {file}: no such file, or it cannot be read") from None
    if not lines or not lines[0]:
        raise ConfigError(f"--password-file {file} is empty: its first line is the password")
    return lines[0]


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


def values_of(app: typer.Typer, command: str, said: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What ``--option`` and text, pairs of them, mean to a command, by the names of its parameters, beside all that it
    has without them. Raises ConfigError with the line that the command would end with.
    """
    found = getattr(typer.main.get_command(app), "commands")[command]  # noqa: B009 - a group, typed as a command
    try:
        return dict(
            found.make_context(
                f"{app.info.name} {command}", [f"{option}={text}" for option, text in said]
            ).params
        )
    except USAGE_ERROR as error:
        raise ConfigError(_usage(command, error)) from None


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
    return f"{text} (see {getattr(context, 'command_path', name)} --help)"


def _complain(name: str, message: str, code: int) -> int:
    print(f"{name}: {message}", file=sys.stderr)
    return code
