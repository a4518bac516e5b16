"""Who is logged in, and the two pages around it. The token is shown once, when the dashboard starts."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import parse_qs

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from fl_protocol.errors import ConfigError
from fl_web.pages import page
from fl_web.security import Attempts, Sessions, TokenHash, new_token, new_visitor, token_hash_of

FORM_FIELD, HEADER = "form_token", "x-form-token"
MAX_COOKIE = 100


def token_from(file: str | None) -> tuple[str | None, TokenHash]:
    """A new token and its hash; with a ``file`` that holds a hash already, that hash, and no token to show.

    Raises ConfigError if the file cannot be used.
    """
    if file is None:
        return new_token()
    path = Path(file)
    try:
        if path.exists():
            known = token_hash_of(path.read_text("utf-8")[:1000])
            if known is None:
                raise ConfigError(
                    f"--token-file {file} holds no hash of ours: remove it, and a new token is made"
                )
            return None, known
        token, kept = new_token()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(kept.text() + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {file} cannot be used ({error}): give another") from None
    return token, kept


class Login:
    """Sessions, attempts, and the cookie that ties a browser to them."""

    def __init__(
        self, kept: TokenHash, env: Environment, *, secure: bool, open_reading: bool, port: int
    ) -> None:
        self._kept, self._env, self._secure = kept, env, secure
        self.open_reading = open_reading
        self._cookie = f"hilum-{port}"
        self._sessions, self._attempts = Sessions(), Attempts()

    def visitor(self, request: Request) -> str:
        """The value of the visitor's cookie; empty if there is none."""
        value = request.cookies.get(self._cookie, "")
        return value if len(value) <= MAX_COOKIE else ""

    def may_change(self, request: Request) -> bool:
        """Whether whoever asks has logged in."""
        return self._sessions.is_open(self.visitor(request), time.monotonic())

    def may_read(self, request: Request) -> bool:
        return self.open_reading or self.may_change(request)

    def form_token(self, request: Request) -> str:
        return self._sessions.form_token(self.visitor(request))

    def is_ours(self, request: Request, given: str) -> bool:
        """Whether what is posted comes from a page of ours, shown to this very visitor."""
        return self._sessions.is_form_token(self.visitor(request), given)

    async def show(self, request: Request) -> Response:
        """The login page."""
        if self.may_change(request):
            return RedirectResponse("/", 303)
        return self._page(request, "")

    def _page(self, request: Request, error: str, status: int = 200) -> Response:
        visitor = self.visitor(request) or new_visitor()
        token = self._sessions.form_token(visitor)
        answer = page(self._env, "login.html", status, form_token=token, error=error)
        self._set(answer, visitor)
        return answer

    async def log_in(self, request: Request) -> Response:
        """A token is tried. Too many wrong ones, from here or from everywhere, and none is tried for a while."""
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
        if not self.is_ours(request, form.get(FORM_FIELD, [""])[0]):
            return self._page(request, "This page was open for too long. Please try again.", 403)
        now, address = time.monotonic(), request.client.host if request.client else ""
        if wait_s := self._attempts.wait_s(address, now):
            told = f"Too many wrong tokens. Please wait {wait_s:.0f} seconds."
            answer = self._page(request, told, 429)
            answer.headers["Retry-After"] = str(int(wait_s) + 1)
            return answer
        if not self._kept.fits(form.get("token", [""])[0].strip()):
            self._attempts.failed(address, now)
            return self._page(
                request, "That is not the token. It stands where the dashboard was started.", 401
            )
        self._sessions.close(self.visitor(request))
        done = RedirectResponse("/", 303)
        self._set(done, self._sessions.open(now))
        return done

    async def log_out(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=8)
        if self.is_ours(request, form.get(FORM_FIELD, [""])[0]):
            self._sessions.close(self.visitor(request))
        done = RedirectResponse("/" if self.open_reading else "/login", 303)
        done.delete_cookie(self._cookie)
        return done

    def _set(self, answer: Response, value: str) -> None:
        answer.set_cookie(self._cookie, value, httponly=True, samesite="strict", secure=self._secure)
