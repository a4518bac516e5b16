"""The reading room's pages and answers, around a room that reads nothing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx
import pytest

from fl_web.room.app import ReadingRoom
from fl_web.room.protocol import Row, Upload
from fl_web.room.uploads import MAX_BODY, MAX_FILES

HERE = "http://127.0.0.1:8090"


class Told:
    """A room that says what it was given."""

    def __init__(self) -> None:
        self.read_names: list[str] = []
        self.chosen: list[str | None] = []
        self.changed: Callable[[], None] = lambda: None

    def read(self, upload: Upload, *, shown: bool) -> Row:
        self.read_names.append(upload.name)
        return {"file": upload.name, "bytes": len(upload.data), "shown": shown}

    def state(self) -> dict[str, Any]:
        return {"in_use": None, "pinned": False, "follows": True, "link": "</script><b>x", "refer_below": 0.8, "models": [],
                "refused": []}  # fmt: skip

    def choose(self, digest: str | None) -> str:
        self.chosen.append(digest)
        return "there is none" if digest == "bad" else ""

    def listen(self, changed: Callable[[], None]) -> None:
        self.changed = changed


def ask(method: str, path: str, room: Told | None = None, local: bool = True, **more: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        page = ReadingRoom(room or Told(), local=local)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=page.app), base_url=HERE) as client:
            return await client.request(method, path, **more)

    return anyio.run(run)


def test_the_page_says_what_it_is_for_and_nothing_in_it_runs() -> None:
    text = ask("GET", "/").text
    assert "For research, not for diagnosis" in text
    assert "<b>x" not in text and "style=" not in text and "onclick" not in text
    held = text.partition('id="state">')[2].partition("</script>")[0]
    assert json.loads(held)["link"] == "</script><b>x"


def test_images_come_back_as_rows_in_order() -> None:
    room = Told()
    files = [("file", ("a.png", bytes(5))), ("file", ("b.png", bytes(3_000_000))), ("other", ("c.png", b"1"))]
    answer = ask("POST", "/predict", room, files=files)
    assert answer.json() == [
        {"file": "a.png", "bytes": 5, "shown": False},
        {"file": "b.png", "bytes": 3_000_000, "shown": False},
    ]
    assert answer.headers["cache-control"] == "no-store"
    assert ask("POST", "/predict?shown=1", files=files[:1]).json()[0]["shown"] is True


def test_nothing_that_is_handed_in_touches_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def roll(*_: object) -> None:
        raise AssertionError("an upload was written to a temporary file")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", roll)
    monkeypatch.setattr(tempfile, "TemporaryFile", roll)
    answer = ask(
        "POST", "/predict", files=[("file", ("a", bytes(20_000_000))), ("file", ("b", bytes(20_000_000)))]
    )
    assert [row["bytes"] for row in answer.json()] == [20_000_000] * 2


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\x\\\\chest.png", "chest.png"),
        ("/", "image"),
        ("a\x1b[31m\u202eb.png", "a�[31m�b.png"),
        ("x" * 500, "x" * 120),
    ],
)
def test_a_name_is_no_path_and_does_not_play_tricks(name: str, shown: str) -> None:
    room = Told()
    body = f'--e\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\nx\r\n--e--\r\n'
    ask(
        "POST",
        "/predict",
        room,
        content=body.encode(),
        headers={"Content-Type": "multipart/form-data; boundary=e"},
    )
    assert room.read_names == [shown]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"content": bytes(60_000_000), "headers": {"Content-Type": "multipart/form-data; boundary=e"}}, 413),
        ({"content": b"{}", "headers": {"Content-Type": "application/json"}}, 415),
        ({"content": b"no parts", "headers": {"Content-Type": "multipart/form-data; boundary=e"}}, 400),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"data": {"file": "text"}}, 415),
        ({"files": [("image", ("a.png", b"1"))]}, 400),
        ({"files": [("file", (f"{n}.png", b"1")) for n in range(MAX_FILES + 1)]}, 400),
        ({"files": [("file", ("a.png", b"1"))], "headers": {"Origin": "http://evil.example"}}, 403),
        ({"files": [("file", ("a.png", b"1"))], "headers": {"Sec-Fetch-Site": "cross-site"}}, 403),
        ({"files": [("file", ("a.png", b"1"))], "headers": {"Host": "evil.example"}}, 403),
    ],
)
def test_what_is_refused_is_told_and_never_read(more: dict[str, Any], status: int) -> None:
    room = Told()
    answer = ask("POST", "/predict", room, **more)
    assert answer.status_code == status and 5 < len(answer.text) < 200
    assert room.read_names == []


def test_a_body_without_its_length_is_bounded_too() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--e\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        for _ in range(2 * MAX_BODY // 1_000_000):
            yield bytes(1_000_000)

    answer = ask(
        "POST", "/predict", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=e"}
    )
    assert answer.status_code == 413


def test_a_model_is_chosen_by_json_alone() -> None:
    room = Told()
    assert ask("POST", "/model", room, json={"digest": "aa"}).status_code == 200
    assert ask("POST", "/model", room, json={"digest": None}).status_code == 200
    assert room.chosen == ["aa", None]
    refused = ask("POST", "/model", room, json={"digest": "bad"})
    assert (refused.status_code, refused.json()) == (409, {"error": "there is none"})
    odd: list[Any] = [{}, [], {"digest": 5}, "x"]
    for body in odd:
        assert ask("POST", "/model", room, json=body).status_code == 400
    assert (
        ask("POST", "/model", room, content=b"{", headers={"Content-Type": "application/json"}).status_code
        == 400
    )
    assert ask("POST", "/model", room, data={"digest": "aa"}).status_code == 415
    assert (
        ask("POST", "/model", json={"digest": "aa"}, headers={"Origin": "http://evil.example"}).status_code
        == 403
    )
    assert room.chosen == ["aa", None, "bad"]


def test_programs_find_what_they_may_ask() -> None:
    found = ask("GET", "/openapi.json").json()
    assert found["openapi"].startswith("3.1") and set(found["paths"]) == {"/predict", "/state", "/model"}
    page = ask("GET", "/api")
    assert "/openapi.json" in page.text and "For research, not for diagnosis" in page.text
    assert ask("GET", "/state").json()["refer_below"] == 0.8
    assert ask("GET", "/nowhere").json() == {"error": "Not Found"}


@pytest.mark.parametrize(
    "name", ["room.js", "list.js", "heat.js", "room.css", "reading.css", "base.css", "theme.js"]
)
def test_what_the_page_loads_is_here(name: str) -> None:
    assert ask("GET", f"/static/{name}").status_code == 200
