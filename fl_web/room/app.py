"""The reading room as an ASGI application around a :class:`~fl_web.room.protocol.Room`.

GET /            the page                    GET /events        the room's state, as server-sent events
POST /predict    images in, rows out         GET /state         the same once
POST /model      which model to use          GET /openapi.json  and /api: both for programs

There is nothing to log in for: whoever reaches the page may read with it, and images are kept nowhere. A page of
another site can neither read answers nor post (guard.py).
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from fl_web.guard import Guard
from fl_web.pages import SHARED_STATIC, StaticFiles, environment, page
from fl_web.room.feed import Feed
from fl_web.room.openapi import document
from fl_web.room.protocol import Room, Row
from fl_web.room.uploads import MAX_BODY, uploads_of

HERE = Path(__file__).parent
NO_STORE = {"Cache-Control": "no-store"}
AT_ONCE = 2
"""Bodies held in memory at a time; whoever else sends one waits."""


class ReadingRoom:
    """``app`` is to be served; ``close`` ends the streams."""

    def __init__(self, room: Room, *, local: bool) -> None:
        self._room = room
        self._env = environment(HERE / "templates")
        self._feed = Feed(room.state)
        self._bodies = asyncio.Semaphore(AT_ONCE)
        self._eye = ThreadPoolExecutor(1, "eye")
        room.listen(self._feed.changed)
        self.app: ASGIApp = Guard(self._routes(), local=local, bodies={"/predict": MAX_BODY})

    def _routes(self) -> Starlette:
        files = StaticFiles((HERE / "static", SHARED_STATIC))
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/state", self._state),
                Route("/events", self._events),
                Route("/predict", self._predict, methods=["POST"]),
                Route("/model", self._model, methods=["POST"]),
                Route("/openapi.json", self._openapi),
                Route("/api", self._api),
                Route("/static/{path:path}", files.answer),
            ],
            exception_handlers={HTTPException: _refused},  # type: ignore[dict-item]
        )

    def close(self) -> None:
        """Called in the server's loop when it begins to end."""
        self._feed.close()
        self._eye.shutdown(wait=False, cancel_futures=True)

    async def _page(self, _: Request) -> Response:
        return page(self._env, "room.html", state=self._room.state(), most_mb=MAX_BODY // 10**6)

    async def _api(self, _: Request) -> Response:
        return page(self._env, "api.html", most_mb=MAX_BODY // 10**6)

    async def _openapi(self, _: Request) -> Response:
        return JSONResponse(document())

    async def _state(self, _: Request) -> Response:
        return JSONResponse(self._room.state(), headers=NO_STORE)

    async def _events(self, _: Request) -> Response:
        if self._feed.full:
            raise HTTPException(503, "too many pages are open")
        return StreamingResponse(self._feed.lines(), media_type="text/event-stream", headers=NO_STORE)

    async def _predict(self, request: Request) -> Response:
        shown = request.query_params.get("shown") == "1"
        async with self._bodies:
            uploads = await uploads_of(request)
            loop = asyncio.get_running_loop()
            rows: list[Row] = []
            while uploads:
                look = partial(self._room.read, uploads.pop(0), shown=shown)
                rows.append(await loop.run_in_executor(self._eye, look))
        return JSONResponse(rows, headers=NO_STORE)

    async def _model(self, request: Request) -> Response:
        if reason := self._room.choose(_digest_in(await _json(request))):
            raise HTTPException(409, reason)
        return JSONResponse(self._room.state(), headers=NO_STORE)


async def _json(request: Request) -> Any:
    """A JSON body: no form of another site can send one unasked."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "send application/json")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise HTTPException(400, "that is no JSON") from None


def _digest_in(body: Any) -> str | None:
    if not isinstance(body, dict) or "digest" not in body or not isinstance(body["digest"], str | None):
        raise HTTPException(400, 'send {"digest": "..."}, or {"digest": null} for the newest')
    found: str | None = body["digest"]
    return found


async def _refused(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, error.status_code, NO_STORE)
