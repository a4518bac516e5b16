"""One attempt at a connection: what the MQTT library's callbacks have seen of it, and what that means.

The library's objects are Any here: only transport.py imports it.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from typing import Any

from fl_protocol.broker import UNSUPPORTED_VERSION, BrokerOptions, refusal, tls_failure
from fl_protocol.errors import HilumError

REFUSED = 0x80
"""Reason codes from here on say no."""
MQTT_LOG_ERR = 8
GOODBYE_S = 2.0


class Link:
    """One attempt at a connection: a paho client and what its callbacks have seen."""

    def __init__(self, client: Any, options: BrokerOptions) -> None:
        self.client = client
        self.options = options
        self.connack: Any = None
        self.connected_at: float | None = None
        self.refused: tuple[int, str] | None = None
        self.lost = "connection lost"
        self.tls_error = ""
        client.on_connect, client.on_disconnect = self.on_connect, self.on_disconnect
        client.on_socket_open, client.on_socket_close = _tune, self.on_socket_close

    def on_log(self, _client: Any, _userdata: Any, level: int, text: str) -> None:
        """paho's log until CONNACK: the only place where it says why TLS 1.3 ended a young connection."""
        if level == MQTT_LOG_ERR and "SSL" in text:
            self.tls_error = text

    def on_socket_close(self, _client: Any, _userdata: Any, sock: Any) -> None:
        """Over TLS 1.3 our CONNECT may fail before the refusal that caused it was read: read it now."""
        if self.connected_at is None and isinstance(sock, ssl.SSLSocket) and not self.tls_error:
            try:
                sock.recv(1)
            except OSError as error:
                if isinstance(error, ssl.SSLError) and "ALERT" in str(error):
                    self.tls_error = str(error)

    def on_connect(self, client: Any, _userdata: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.value >= REFUSED:
            self.refused = (reason.value, str(reason))
            return
        self.connack, self.connected_at = properties, time.monotonic()
        client.on_log = None

    def on_disconnect(self, _client: Any, _userdata: Any, flags: Any, reason: Any, _properties: Any) -> None:
        self.lost = f"connection lost ({reason})"
        if flags.is_disconnect_packet_from_server and reason.value >= REFUSED:
            self.lost = f"the broker hung up ({reason})"
            if refusal(reason.value, str(reason), self.options) is not None:
                self.refused = (reason.value, str(reason))

    def try_older(self) -> bool:
        """Whether 3.1.1 may help: the version was refused, or the broker hung up without a word."""
        if self.refused is not None:
            return self.refused[0] == UNSUPPORTED_VERSION
        return self.connected_at is None and not self.tls_error

    def explain(self) -> tuple[str, HilumError | None]:
        """Why it ended, and the error if that is final."""
        if self.refused is not None:
            code, name = self.refused
            return f"refused: {name}", refusal(code, name, self.options)
        if self.connected_at is None and self.tls_error:
            return tls_failure(self.tls_error, self.options)
        if self.connected_at is None:
            hint = "" if self.options.encrypted else "; does it want --tls?"
            return f"{self.options.where} gave no MQTT answer{hint}", None
        return self.lost, None

    def drop(self) -> None:
        """Hang up if need be, and break the cycle of client and callbacks, which holds the payloads."""
        sock = self.client.socket()
        if sock is not None:
            sock.close()
        self.client.drop_out_messages()
        self.client.on_connect = self.client.on_disconnect = self.client.on_message = None
        self.client.on_publish = self.client.on_subscribe = self.client.on_log = (
            self.client.on_socket_close
        ) = None


def _tune(_client: Any, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def say_goodbye(client: Any) -> bool:
    """DISCONNECT, then wait for the broker to hang up: closing with unread input could reset it unseen."""
    sock = client.socket()
    if sock is None:
        return False
    rest = socket.socket(fileno=os.dup(sock.fileno()))
    with rest:
        client.disconnect()
        until = time.monotonic() + GOODBYE_S
        try:
            rest.settimeout(GOODBYE_S / 2)
            rest.shutdown(socket.SHUT_WR)
            while rest.recv(65536) and time.monotonic() < until:
                pass
        except OSError:
            pass
    return True
