"""The options of ``fl-agg dashboard``, and ``--dashboard`` of ``fl-agg start``."""

from __future__ import annotations

import os
from typing import Annotated

from fl_protocol import commandline as cl

LISTEN = "127.0.0.1:8080"

ListenOption = Annotated[
    str,
    cl.option(
        "listen", "Address on which the page is served; port 0 takes any free one. Other than 127.0.0.1 only with "
        "--web-cert, or behind a proxy that encrypts.",
        metavar="HOST:PORT", rich_help_panel=cl.PAGE, envvar="FL_DASHBOARD_LISTEN",
    ),
]  # fmt: skip
JobOption = Annotated[
    str | None, cl.option("job", "Show this job alone (default: all that the broker knows).", metavar="NAME")
]
RunsOption = Annotated[
    str, cl.option("runs", "Folder below which run directories lie: the page's history.", metavar="DIR")
]
OpenReadingOption = Annotated[
    bool | None,
    cl.option(
        "open-reading",
        "Whether everybody who reaches the page may look (default: if only this machine can reach it). To change "
        "anything, one logs in.",
        flag=True,
        rich_help_panel=cl.PAGE,
    ),
]
TokenFileOption = Annotated[
    str | None,
    cl.option(
        "token-file",
        "Keep the token's hash there, so that the token stays the same (default: a new one each time).",
        metavar="FILE",
        rich_help_panel=cl.PAGE,
    ),
]
DashboardOption = Annotated[
    str | None,
    cl.option(
        "dashboard",
        f"Serve a page for people beside the run, on {LISTEN} unless you say where. What you do not say (certificate, "
        "token file, who may look) is as for fl-agg dashboard: from its FL_... variables or [dashboard] of hilum.toml.",
        metavar="[HOST:PORT]",
    ),
]
PAGE_OPTIONS = ("token_file", "web_cert", "web_key")


def page_words(ctx: cl.Context, listen: str | None) -> tuple[str, ...]:
    """The page beside a run as options of ``fl-agg dashboard``; none for no page.

    What the run's own command line does not repeat, the address too if it is empty, is taken as that command takes it:
    from the environment and from [dashboard] of the settings file.
    """
    if listen is None:
        return ()
    said = cl.unsaid(ctx, "dashboard")
    words = ["--listen", listen or said["listen"]]
    for name in PAGE_OPTIONS:
        words += ["--" + name.replace("_", "-"), said[name]] if said[name] is not None else []
    if said["open_reading"] is not None:
        words.append("--open-reading" if said["open_reading"] else "--no-open-reading")
    return tuple(words)


def page_variables() -> dict[str, str]:
    """What the environment says of the page: for a run that is started with no other variable of ours."""
    names = [f"FL_{name.upper()}" for name in (*PAGE_OPTIONS, "open_reading")]
    return {name: os.environ[name] for name in names if name in os.environ}
