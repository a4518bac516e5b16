"""Addresses, passwords and certificates, as people give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_protocol import login
from fl_protocol.errors import ConfigError


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FL_PASSWORD", raising=False)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hub", ("hub", 1883)),
        ("hub.example.org:18830", ("hub.example.org", 18830)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]", ("::1", 1883)),
        ("[fe80::1]:65535", ("fe80::1", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert login.parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", ":1883", "hub:", "hub:0", "hub:65536", "hub:x", "hub:²", "::1", "mqtt://hub", "mqtt://hub:1", "[::1",
             "[::1]x", "[]:1", "me@hub", "hub/x"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST or HOST:PORT"):
        login.parse_address(text)


def test_passwords_come_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("from file\nsecond line\n")
    assert login.read_password(None) is None
    monkeypatch.setenv("FL_PASSWORD", "from environment")
    assert login.read_password(None) == "from environment"
    assert login.read_password(str(file)) == "from file"
    file.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        login.read_password(str(file))
    with pytest.raises(ConfigError, match="nowhere"):
        login.read_password("nowhere")


def test_broker_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text("certificate")
    assert login.broker_options("hub").port == 1883
    assert login.broker_options("hub", tls=True).port == 8883
    implied = login.broker_options("hub:1", ca=str(ca))
    assert (implied.port, implied.tls, implied.ca) == (1, True, str(ca))
    with pytest.raises(ConfigError, match="--ca none"):
        login.broker_options("hub", ca="none")
    with pytest.raises(ConfigError, match="--cert"):
        login.broker_options("hub", key=str(ca))
    monkeypatch.setenv("FL_PASSWORD", "p")
    with pytest.raises(ConfigError, match="--username"):
        login.broker_options("hub")
    assert login.broker_options("hub", username="u").password == "p"
    with pytest.raises(ConfigError, match="give 2 to 65535 seconds"):
        login.broker_options("hub", username="u", keepalive=1)
