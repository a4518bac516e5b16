"""The line with which a client joins."""

from __future__ import annotations

from fl_protocol.broker import PLAIN_PORT, TLS_PORT, BrokerOptions


def join_line(broker: BrokerOptions, job: str, host: str) -> str:
    """The command with which a client joins, without any secret."""
    port = "" if broker.port == (TLS_PORT if broker.encrypted else PLAIN_PORT) else f":{broker.port}"
    words = ["fl-edge join --broker", f"{host}{port}", "--data DIR"]
    if job != "default":
        words.append(f"--job {job}")
    if broker.encrypted:
        words.append("--tls")
    return " ".join(words)
