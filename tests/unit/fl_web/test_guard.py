"""Before every page: who may ask, how much may be sent, and what the browser is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fl_web.guard import Guard
from fl_web.security import HEADERS


async def length(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def own_policy(_: Request) -> Response:
    return PlainTextResponse("", headers={"Content-Security-Policy": "sandbox"})


def ask(method: str, path: str, host: str = "127.0.0.1:8080", **more: object) -> httpx.Response:
    app = Starlette(routes=[
        Route("/length", length, methods=["POST"]), Route("/large", length, methods=["POST"]), Route("/own", own_policy),
    ])  # fmt: skip
    guarded = Guard(app, local=True, bodies={"/large": 1_000_000})

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=guarded)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **more)  # type: ignore[arg-type]

    return anyio.run(run)


async def pieces(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 1000):
        yield bytes(1000)


def test_every_answer_carries_the_headers_refusals_included() -> None:
    for answer in (ask("POST", "/length"), ask("GET", "/nowhere"), ask("GET", "/own", host="evil.example")):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (answer.status_code, name)


def test_a_page_may_have_a_policy_of_its_own() -> None:
    answer = ask("GET", "/own")
    assert answer.headers.get_list("content-security-policy") == ["sandbox"]


@pytest.mark.parametrize("size", [60_000, 100_000])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("path", "limit"), [("/length", 64 * 1024), ("/large", 1_000_000)])
def test_bodies_are_bounded_declared_or_not(path: str, limit: int, declared: bool, size: int) -> None:
    answer = ask("POST", path, content=bytes(size) if declared else pieces(size))
    assert (
        (answer.status_code, answer.text) == (200, str(size)) if size <= limit else answer.status_code == 413
    )


def test_a_length_that_is_none_is_refused() -> None:
    assert ask("POST", "/length", content=b"x", headers={"Content-Length": "-1"}).status_code == 413


def test_other_hosts_and_origins_are_turned_away() -> None:
    assert ask("GET", "/own", host="evil.example").status_code == 403
    assert ask("POST", "/length", headers={"Origin": "http://evil.example"}).status_code == 403
