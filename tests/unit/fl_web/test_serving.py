"""Addresses, ports, papers; a server in a thread that ends in order."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fl_protocol.errors import ConfigError
from fl_web.serving import bound, papers_of, parse_listen


@pytest.mark.parametrize(("text", "expected"), [
    ("127.0.0.1:9000", ("127.0.0.1", 9000)), (":9000", ("127.0.0.1", 9000)), ("0.0.0.0", ("0.0.0.0", 8080)),
    ("[::1]:9000", ("::1", 9000)), ("[::1]", ("::1", 8080)), ("hub:0", ("hub", 0)), ("", ("127.0.0.1", 8080)),
])  # fmt: skip
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert parse_listen(text) == expected


@pytest.mark.parametrize(
    "text", ["host:port", "host:99999", "http://host:1", "host:", "a b:1", "::1", "[::1]x", "host:-1"]
)
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--page .* is not HOST:PORT"):
        parse_listen(text, "--page")


def test_a_port_that_is_taken_is_one_line() -> None:
    with bound("127.0.0.1:0") as held, pytest.raises(ConfigError, match=r"in use.*give another --listen"):
        bound(f"127.0.0.1:{held.port}")


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(ConfigError, match="give another --listen"):
        bound("192.0.2.1:0")


def test_the_network_is_warned_of_without_encryption() -> None:
    with bound("127.0.0.1:0") as door:
        assert door.local and door.warning() is None and door.url == f"http://127.0.0.1:{door.port}"
    with bound("0.0.0.0:0") as door:
        assert not door.local and "--web-cert" in (door.warning() or "")


def test_papers_come_in_pairs_and_must_be_papers(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    assert papers_of(None, None) is None
    with pytest.raises(ConfigError, match="give both"):
        papers_of("cert.pem", None)
    with pytest.raises(ConfigError, match="cannot be used"):
        papers_of(str(tmp_path / "x.pem"), str(tmp_path / "x.pem"))


def test_a_thread_serves_and_ends_answers_that_have_no_end() -> None:
    ended = threading.Event()

    async def hello(_: Request) -> Response:
        return PlainTextResponse("hello")

    async def forever(_: Request) -> Response:
        async def lines() -> AsyncIterator[bytes]:
            while not ended.is_set():
                yield b"x\n"
                await anyio.sleep(0.02)

        return StreamingResponse(lines())

    app = Starlette(routes=[Route("/", hello), Route("/forever", forever)])
    with bound("127.0.0.1:0") as door:
        thread = door.serve_in_thread(app, on_end=ended.set)
        with urllib.request.urlopen(f"{door.url}/", timeout=10) as answer:
            assert answer.read() == b"hello"
        with urllib.request.urlopen(f"{door.url}/forever", timeout=10) as stream:
            assert stream.read(2) == b"x\n"
            thread.stop()
            assert ended.is_set() and not thread.serving
            stream.read()
    with socket.socket() as caller:
        assert caller.connect_ex(("127.0.0.1", door.port)) != 0
