"""uvicorn around an application of ours: on a socket that is bound first, as the main loop or in a thread, ended in order.

Two ways in::

    with bound("127.0.0.1:8080") as door:      # port 0: any free one; door.url says which
        door.serve(app, on_end=feed.close)     # until Ctrl-C or SIGTERM

    thread = door.serve_in_thread(app, on_end=feed.close)
    ...
    thread.stop()

``on_end`` is called in the server's loop before it waits for open answers: it must end those that have no end by
themselves. Log lines of uvicorn go nowhere but to the logging that is set up already.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from starlette.types import ASGIApp
from uvicorn import Config, Server

from fl_protocol.errors import ConfigError, HilumError
from fl_web.security import is_loopback

GRACE_S = 3.0
STARTED_S = 10.0
MOST_CONNECTIONS = 512
Ended = Callable[[], None]


@dataclass(frozen=True)
class Papers:
    """A certificate and its key (PEM files), for TLS of our own."""

    cert: str
    key: str


def papers_of(cert: str | None, key: str | None) -> Papers | None:
    """From ``--web-cert`` and ``--web-key``. Raises ConfigError if they cannot be used."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("--web-cert and --web-key belong together: give both")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"--web-cert {cert} with --web-key {key} cannot be used ({error}): give unencrypted PEM files"
        ) from None
    return Papers(cert, key)


def parse_listen(text: str, option: str = "--listen", default_port: int = 8080) -> tuple[str, int]:
    """Host and port of ``HOST``, ``:PORT``, ``HOST:PORT`` or ``[IPv6]:PORT``. Raises ConfigError."""
    host, bracket, tail = text.removeprefix("[").partition("]") if text.startswith("[") else ("", "", text)
    if not bracket:
        host, colon, port = text.partition(":")
    else:
        colon, port = tail[:1], tail[1:]
    is_port = port.isascii() and port.isdecimal() and int(port) <= 65_535
    if colon not in ("", ":") or (colon and not is_port) or any(sign in text for sign in "/ @"):
        raise ConfigError(f"{option} {text!r} is not HOST:PORT: write 127.0.0.1:{default_port}")
    return host or "127.0.0.1", int(port) if colon else default_port


def bound(
    text: str, papers: Papers | None = None, option: str = "--listen", default_port: int = 8080
) -> Door:
    """A socket on ``text`` (see :func:`parse_listen`). Raises ConfigError if it cannot be had."""
    host, port = parse_listen(text, option, default_port)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        held = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"{option}: {host} is no address of this machine ({error.strerror})") from None
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((host, port))
        held.listen(128)
    except OSError as error:
        held.close()
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"the page cannot be served on {host} port {port} ({why}): give another {option}"
        ) from None
    return Door(held, host, papers)


class Door:
    """A bound socket, and how to serve behind it."""

    def __init__(self, held: socket.socket, host: str, papers: Papers | None) -> None:
        self._socket, self.host, self._papers = held, host, papers
        self.port = int(held.getsockname()[1])

    def __enter__(self) -> Door:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close()

    @property
    def secure(self) -> bool:
        """Whether TLS of our own protects what is sent: cookies are marked so then."""
        return self._papers is not None

    @property
    def local(self) -> bool:
        """Whether only this machine can come in."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """The address to open, for a person on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.secure else 'http'}://{shown}:{self.port}"

    def warning(self) -> str | None:
        """What to tell whoever lets others in without encryption."""
        if self.local or self.secure:
            return None
        return (
            f"the page on {self.host} port {self.port} is open to the network without encryption: give --web-cert and "
            "--web-key (FL_WEB_CERT, FL_WEB_KEY), or listen on 127.0.0.1 behind a proxy that encrypts"
        )

    def serve(self, app: ASGIApp, on_end: Ended = lambda: None) -> None:
        """Serve until Ctrl-C (which goes on as KeyboardInterrupt) or SIGTERM (as the process takes it)."""
        _Server(self._config(app), on_end).run([self._socket])

    def serve_in_thread(self, app: ASGIApp, on_end: Ended = lambda: None) -> ServingThread:
        """Serve beside what the caller does; returns when the first visitor may come."""
        return ServingThread(_Server(self._config(app), on_end), self._socket)

    def _config(self, app: ASGIApp) -> Config:
        papers: dict[str, Any] = (
            {"ssl_certfile": self._papers.cert, "ssl_keyfile": self._papers.key} if self._papers else {}
        )
        return Config(
            app, log_config=None, log_level="critical", access_log=False, lifespan="off", ws="none", http="h11",
            loop="asyncio", proxy_headers=False, server_header=False, limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=int(GRACE_S), **papers,
        )  # fmt: skip


class _Server(Server):
    """uvicorn's, which tells when it begins to end."""

    def __init__(self, config: Config, on_end: Ended) -> None:
        super().__init__(config)
        self._on_end = on_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_end()
        await super().shutdown(sockets)


class ServingThread:
    """A server in a thread of its own."""

    def __init__(self, server: _Server, held: socket.socket) -> None:
        self._server = server
        self._why = "no reason given"
        self._thread = threading.Thread(target=self._run, args=(held,), name="web", daemon=True)
        self._thread.start()
        for _ in range(int(STARTED_S * 100)):
            if server.started or not self._thread.is_alive():
                break
            self._thread.join(0.01)
        if not server.started:
            raise HilumError(f"the page's server did not start ({self._why})")

    def _run(self, held: socket.socket) -> None:
        try:
            with contextlib.closing(asyncio.new_event_loop()) as loop:
                loop.run_until_complete(self._server.serve([held]))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told by whoever waits for the start
            self._why = str(error) or type(error).__name__

    @property
    def serving(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it in order, open answers included."""
        self._server.should_exit = True
        self._thread.join(GRACE_S + 2.0)
