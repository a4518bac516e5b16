"""Templates and static files of the pages.

Templates are those of ``fl_web/templates`` (``base.html``: the frame around every page) and of one package's own
``templates``. Static files are small and few, so they are held in memory: no name in a request ever reaches a disk.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

HERE = Path(__file__).parent
SHARED_STATIC = HERE / "static"
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".woff2": "font/woff2"}
REVALIDATE = "no-cache"
"""Kept by the browser, and asked for each time whether it is still so: an answer of a few bytes, never a stale script."""


def environment(*folders: Path) -> Environment:
    """Jinja2 over ``folders`` (a page's own templates) and the shared ones; all output is escaped."""
    return Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in (*folders, HERE / "templates")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip


def page(env: Environment, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A template as an answer; pages are never kept by a browser."""
    body = env.get_template(template).render(**context)
    return HTMLResponse(body, status, {"Cache-Control": "no-store"})


@dataclass(frozen=True)
class _File:
    body: bytes
    kind: str
    tag: str


class StaticFiles:
    """``Route("/static/{path:path}", files.answer)``: every file below ``folders``; the first that has a name wins."""

    def __init__(self, folders: Iterable[Path] = (SHARED_STATIC,)) -> None:
        self._files: dict[str, _File] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    self._files.setdefault(path.relative_to(folder).as_posix(), _read(path))

    def __contains__(self, name: str) -> bool:
        return name in self._files

    async def answer(self, request: Request) -> Response:
        """The endpoint."""
        found = self._files.get(request.path_params["path"])
        if found is None:
            return PlainTextResponse("there is no such file\n", 404)
        headers = {"ETag": found.tag, "Cache-Control": REVALIDATE}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        return Response(found.body, headers=headers, media_type=found.kind)


def _read(path: Path) -> _File:
    body = path.read_bytes()
    kind = TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return _File(body, kind, f'"{hashlib.sha256(body).hexdigest()[:24]}"')
