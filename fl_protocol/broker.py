"""Where the broker is, how to log in there, and what its refusals mean to the person who can mend them."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field

from fl_protocol.errors import AccessRefused, ConfigError, HilumError

PLAIN_PORT, TLS_PORT = 1883, 8883
KEEPALIVE_S = 30
UNSUPPORTED_VERSION = 0x84
_BAD_LOGIN = frozenset({0x86, 0x87, 0x8A, 0x8C})
_BAD_CLIENT_ID = 0x85
_TAKEN_OVER = 0x8E
_OTHER_SERVER = frozenset({0x9C, 0x9D})


@dataclass(frozen=True)
class BrokerOptions:
    """How to reach and enter a broker. A ``ca``, ``cert`` or ``key`` means TLS as well."""

    host: str
    port: int = PLAIN_PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    keepalive_s: int = KEEPALIVE_S

    @property
    def where(self) -> str:
        """``HOST:PORT`` for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return bool(self.tls or self.ca or self.cert or self.key)


def tls_context(options: BrokerOptions) -> ssl.SSLContext | None:
    """The TLS settings, None for a plain connection. Certificate and host name are always verified."""
    if not options.encrypted:
        return None
    if options.key and not options.cert:
        raise ConfigError("--key needs --cert: the certificate that belongs to it")
    try:
        context = ssl.create_default_context(cafile=options.ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--ca {options.ca} cannot be used ({_short(error)}): give a PEM file") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.cert:
        try:  # the empty password keeps OpenSSL from asking on the terminal
            context.load_cert_chain(options.cert, options.key, password="")
        except (OSError, ssl.SSLError, ValueError) as error:
            what = f"--cert {options.cert}" + (f" with --key {options.key}" if options.key else "")
            raise ConfigError(
                f"{what} cannot be used ({_short(error)}): give unencrypted PEM files"
            ) from None
    return context


def _short(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        return error.strerror
    return (getattr(error, "reason", "") or str(error) or type(error).__name__).replace("_", " ").lower()


def connect_failure(error: OSError, options: BrokerOptions, first: bool) -> tuple[str, HilumError | None]:
    """What a failed connect means: a reason (beside which the address stands), and an error if trying again cannot help.

    ``first``: never connected before. A name that was known once may well come back, so it is fatal only then.
    """
    if isinstance(error, socket.gaierror):
        unknown = error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
        reason = f"no host is called {options.host}"
        return reason, AccessRefused(f"{reason}: check --broker") if unknown and first else None
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"the certificate of {options.where} is not accepted ({_short(error)})"
        return reason, AccessRefused(
            f"{reason}: give the authority that signed it with --ca, and use the host name in it"
        )
    if isinstance(error, (ssl.SSLEOFError, ConnectionResetError)) and options.encrypted:
        return f"{options.where} hung up during the TLS handshake: it may not be the broker's TLS port", None
    if isinstance(error, ssl.SSLError):
        return tls_failure(str(error), options)
    return _short(error), None


def tls_failure(text: str, options: BrokerOptions) -> tuple[str, HilumError | None]:
    """What an OpenSSL message means, seen in the handshake or just after it (TLS 1.3 refuses a client then)."""
    lowered = text.lower().replace("_", " ")
    if "wrong version number" in lowered or "record layer" in lowered:
        return "no TLS there", AccessRefused(
            f"{options.where} does not speak TLS: leave out --tls, or use its TLS port ({TLS_PORT})"
        )
    if "alert" in lowered:
        wanted = (
            "check --cert and --key" if options.cert else "give a client certificate with --cert and --key"
        )
        detail = lowered.partition("] ")[2].partition(" (")[0] or lowered
        return "TLS refused", AccessRefused(
            f"{options.where} refuses the TLS connection ({detail}): {wanted}"
        )
    return f"TLS with {options.where} failed: {text}", None


def refusal(code: int, name: str, options: BrokerOptions) -> HilumError | None:
    """What a reason code of CONNACK or DISCONNECT means; None if trying again may help."""
    if code in _BAD_LOGIN:
        if options.username is None and not options.cert:
            return AccessRefused(f"{options.where} asks for a login: give --username and --password-file")
        who = f"the login {options.username!r}" if options.username else f"the certificate {options.cert}"
        return AccessRefused(f"{options.where} refuses {who}: check --username and --password-file")
    if code == _BAD_CLIENT_ID:
        return AccessRefused(f"{options.where} refuses this client id: use one that the broker allows")
    if code == _TAKEN_OVER:
        return AccessRefused(
            f"another client joined {options.where} under the same id: use another --client-id"
        )
    if code in _OTHER_SERVER:
        return AccessRefused(f"{options.where} says to use another server: give that with --broker")
    if code == UNSUPPORTED_VERSION:
        return AccessRefused(f"{options.where} speaks neither MQTT 5 nor 3.1.1 ({name}): use another broker")
    return None
