"""How to reach a broker, from what a person says of it: an address, a login, certificates."""

from __future__ import annotations

import os
from pathlib import Path

from fl_protocol.broker import KEEPALIVE_S, PLAIN_PORT, TLS_PORT, BrokerOptions
from fl_protocol.errors import ConfigError

MIN_KEEPALIVE_S, MAX_KEEPALIVE_S = 2, 65_535
PASSWORD_VARIABLE = "FL_PASSWORD"  # noqa: S105 - the name of the variable


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
    tls = tls or ca is not None or cert is not None
    if key is not None and cert is None:
        raise ConfigError("--key needs --cert: give the certificate that belongs to it")
    for name, file in (("--ca", ca), ("--cert", cert), ("--key", key)):
        if file is not None and not os.access(file, os.R_OK):
            raise ConfigError(f"{name} {file}: no such file, or it cannot be read")
    if not MIN_KEEPALIVE_S <= keepalive <= MAX_KEEPALIVE_S:
        raise ConfigError(
            f"--keepalive {keepalive} is out of range: give {MIN_KEEPALIVE_S} to {MAX_KEEPALIVE_S} seconds"
        )
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
