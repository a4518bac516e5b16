"""Templates that escape, and files of which no name reaches a disk."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import pytest
from jinja2 import UndefinedError
from starlette.applications import Starlette
from starlette.routing import Route

from fl_web.pages import SHARED_STATIC, StaticFiles, environment, page


def get(files: StaticFiles, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    async def run() -> httpx.Response:
        app = Starlette(routes=[Route("/static/{path:path}", files.answer)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x") as client:
            return await client.get(path, headers=headers)

    return anyio.run(run)


def test_a_file_is_served_with_its_type_and_asked_for_again_by_its_tag() -> None:
    files = StaticFiles()
    first = get(files, "/static/base.css")
    assert first.status_code == 200 and first.headers["content-type"].startswith("text/css")
    again = get(files, "/static/base.css", {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (
        get(files, "/static/vendor/uPlot.iife.min.js").headers["content-type"].startswith("text/javascript")
    )


@pytest.mark.parametrize(
    "path",
    [
        "/static/../security.py",
        "/static/%2e%2e/security.py",
        "/static//etc/passwd",
        "/static/vendor",
        "/static/",
    ],
)
def test_no_other_file_is(path: str) -> None:
    assert get(StaticFiles(), path).status_code == 404


def test_the_first_folder_that_has_a_name_wins(tmp_path: Path) -> None:
    (tmp_path / "base.css").write_text("mine")
    assert get(StaticFiles((tmp_path, SHARED_STATIC)), "/static/base.css").text == "mine"


def test_pages_escape_and_miss_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('{% extends "base.html" %}{% block main %}{{ name }}{% endblock %}')
    env = environment(tmp_path)
    body = bytes(page(env, "a.html", name="<script>").body).decode()
    assert "&lt;script&gt;" in body and "For research, not for diagnosis" in body
    with pytest.raises(UndefinedError):
        page(env, "a.html")


def test_the_frame_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    text = bytes(page(environment(), "base.html").body).decode()
    assert "<style" not in text and " style=" not in text and "onclick" not in text
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
