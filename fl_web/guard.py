"""What stands before every page: Host and Origin are checked, bodies bounded, and the headers of security.py set.

A plain ASGI wrapper, so that answers without an end (server-sent events) pass through untouched.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fl_web.security import HEADERS, refusal_of

MAX_BODY = 64 * 1024
MAX_DRAIN = 256 * 1024 * 1024
"""A browser hears of a refusal only when it has sent what it began to send; beyond this it hears nothing."""


class Guard:
    """``app`` behind the checks. ``bodies``: paths whose body may be larger than MAX_BODY, and how large."""

    def __init__(self, app: ASGIApp, *, local: bool, bodies: Mapping[str, int] | None = None) -> None:
        self._app, self._local, self._bodies = app, local, dict(bodies or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # websockets and lifespan are switched off
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        guarded = _with_headers(send)
        limit = self._bodies.get(scope["path"], MAX_BODY)
        declared = headers.get("content-length", "0")
        if reason := refusal_of(scope["method"], headers, local=self._local):
            await _refuse(403, reason, scope, receive, guarded)
        elif not declared.isdecimal() or int(declared) > limit:
            await _drain(receive)
            await _refuse(413, too_large(limit), scope, receive, guarded)
        else:
            await self._app(scope, _bounded(receive, limit), guarded)


def too_large(limit: int) -> str:
    """For a person."""
    return f"that is too large: at most {limit / 1e6:.3g} MB are taken"


def _with_headers(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            said = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()
                  if name.lower().encode() not in said),
            ]  # fmt: skip
        await send(message)

    return guarded


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body that came without its length may turn out too large as well."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, too_large(limit))
        return message

    return bounded


async def _drain(receive: Receive) -> None:
    taken = 0
    while taken < MAX_DRAIN:
        message = await receive()
        taken += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def _refuse(code: int, reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Connection": "close"}
    await PlainTextResponse(f"{reason}\n", code, headers)(scope, receive, send)
