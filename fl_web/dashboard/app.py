"""The dashboard's routes.

GET  /                       the page                     GET  /events             what changes, as it changes
GET  /runs                   the history                  GET  /runs/compare       one or several runs side by side
GET  /api/compare?run=       the same for programs        GET  /files/RUN/FILE     downloads
GET  /api/form               the fields of a launch       POST /api/command        something is to be done
GET  /login  POST /login  POST /logout
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from fl_web.dashboard.commands import Commands, Refused, command_of
from fl_web.dashboard.feed import Feed
from fl_web.dashboard.lines import parsed
from fl_web.dashboard.login import HEADER, Login
from fl_web.dashboard.runs import FILES, REPORT, Runs
from fl_web.pages import StaticFiles, page

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""The report's own policy, in its head, allows one style sheet by digest and nothing else; both hold."""
Endpoint = Callable[[Request], Awaitable[Response]]
Form = Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True)
class Dashboard:
    """What the pages are made of."""

    env: Environment
    login: Login
    feed: Feed
    commands: Commands
    runs: Runs
    form: Form
    join_line: str
    """The command with which a site joins, JOB where the job's name stands."""

    def app(self, static: StaticFiles) -> Starlette:
        read = self._reading
        return Starlette(routes=[
            Route("/", read(self._now)),
            Route("/events", read(self._events, leads=False)),
            Route("/runs", read(self._history)),
            Route("/runs/compare", read(self._compare)),
            Route("/api/compare", read(self._compared, leads=False)),
            Route("/api/form", read(self._form, leads=False)),
            Route("/api/command", self._command, methods=["POST"]),
            Route("/files/{run:path}/{file}", read(self._file, leads=False)),
            Route("/login", self.login.show, methods=["GET"]),
            Route("/login", self.login.log_in, methods=["POST"]),
            Route("/logout", self.login.log_out, methods=["POST"]),
            Route("/static/{path:path}", static.answer),
        ])  # fmt: skip

    def _reading(self, endpoint: Endpoint, *, leads: bool = True) -> Endpoint:
        """``endpoint`` for those who may read; others are led to the login page, programs told."""

        async def guarded(request: Request) -> Response:
            if self.login.may_read(request):
                return await endpoint(request)
            return RedirectResponse("/login", 303) if leads else PlainTextResponse("log in first\n", 401)

        return guarded

    def _page(self, request: Request, template: str, status: int = 200, **context: Any) -> Response:
        operator = self.login.may_change(request)
        token = self.login.form_token(request) if operator else ""
        return page(
            self.env, template, status, operator=operator, form_token=token, path=request.url.path, **context
        )

    # --- now ----------------------------------------------------------------------------------------------------

    async def _now(self, request: Request) -> Response:
        return self._page(request, "now.html", join_line=self.join_line)

    async def _events(self, request: Request) -> Response:
        if self.feed.full:
            return PlainTextResponse("too many pages are open\n", 503, {"Retry-After": "5"})
        stream = self.feed.stream(lambda: self.login.may_read(request))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, headers=headers, media_type="text/event-stream")

    async def _form(self, _: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self.form), headers={"Cache-Control": "no-store"})

    async def _command(self, request: Request) -> Response:
        if not self.login.may_change(request):
            return _told(401, "log in first")
        if not self.login.is_ours(request, request.headers.get(HEADER, "")):
            return _told(403, "this page was open for too long: load it again")
        try:
            job, command = command_of(parsed(await request.body()))
            return JSONResponse(await self.commands.ask(job, command))
        except Refused as refused:
            return _told(refused.status, str(refused))

    # --- history ------------------------------------------------------------------------------------------------

    async def _history(self, request: Request) -> Response:
        found = await asyncio.to_thread(self.runs.listed)
        return self._page(request, "runs.html", runs=found, root=str(self.runs.root), files=FILES)

    async def _compare(self, request: Request) -> Response:
        names = request.query_params.getlist("run")
        if not names:
            return RedirectResponse("/runs", 303)
        found = await asyncio.to_thread(self.runs.compared, names)
        if found is None:
            return self._page(request, "lost.html", 404, what="There is no such run.")
        return self._page(
            request, "compare.html", found=found, files=FILES, more=len(names) - len(found["runs"])
        )

    async def _compared(self, request: Request) -> Response:
        found = await asyncio.to_thread(self.runs.compared, request.query_params.getlist("run"))
        return _told(404, "there is no such run") if found is None else JSONResponse(found)

    async def _file(self, request: Request) -> Response:
        run, file = request.path_params["run"], request.path_params["file"]
        path = await asyncio.to_thread(self.runs.file, run, file)
        if path is None:
            return PlainTextResponse("there is no such file\n", 404)
        if file == REPORT:
            return FileResponse(path, headers={"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-cache"},
                                media_type="text/html; charset=utf-8")  # fmt: skip
        name = quote(f"{run.replace('/', '-')}-{file}", safe="")
        return FileResponse(path, media_type="application/octet-stream",
                            headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"})  # fmt: skip


def _told(status: int, reason: str) -> Response:
    return JSONResponse({"ok": False, "reason": reason, "field": ""}, status)
