"""``fl-agg dashboard``: a watch at the broker, a server in front of it, and what is said once at the start."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fl_protocol.broker import BrokerOptions
from fl_web.dashboard.app import Dashboard, Form
from fl_web.dashboard.commands import Commands
from fl_web.dashboard.feed import Feed
from fl_web.dashboard.login import Login, token_from
from fl_web.dashboard.runs import Runs
from fl_web.dashboard.watch import Watch
from fl_web.guard import Guard
from fl_web.pages import SHARED_STATIC, StaticFiles, environment
from fl_web.serving import bound, papers_of

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Settings:
    """What the operator says. ``open_reading``: whoever reaches the page may look; None: if only this machine can."""

    broker: BrokerOptions
    join_line: str
    listen: str = "127.0.0.1:8080"
    job: str | None = None
    runs: Path = Path("runs")
    open_reading: bool | None = None
    token_file: str | None = None
    cert: str | None = None
    key: str | None = None


def serve(settings: Settings, form: Form, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ConfigError for a port or file that cannot be used."""
    with bound(settings.listen, papers_of(settings.cert, settings.key)) as door:
        token, kept = token_from(settings.token_file)
        reading = door.local if settings.open_reading is None else settings.open_reading
        watch = Watch(settings.broker, settings.job)
        feed = Feed(watch)
        env = environment(HERE / "templates")
        env.filters["when"] = _when
        login = Login(kept, env, secure=door.secure, open_reading=reading, port=door.port)
        pages = Dashboard(env, login, feed, Commands(watch), Runs(settings.runs), form, settings.join_line)
        app = Guard(pages.app(StaticFiles((HERE / "static", SHARED_STATIC))), local=door.local)
        watch.start()
        try:
            say(f"dashboard: {door.url}  (broker {settings.broker.where})")
            if not reading:
                say("reading needs the token as well: --open-reading (FL_OPEN_READING=1) lets everybody look who "
                    "reaches this address")  # fmt: skip
            if warning := door.warning():
                say(f"warning: {warning}")
            say(f"token: {token}  (asked for before anything is changed; shown this once)" if token
                else f"token: the one whose hash is in {settings.token_file}")  # fmt: skip
            door.serve(app, on_end=feed.end)
        finally:
            watch.close()


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
