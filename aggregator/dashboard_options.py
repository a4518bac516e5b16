"""The options of ``fl-agg dashboard``, and ``--dashboard`` of ``fl-agg start``."""

from __future__ import annotations

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
        f"Serve a page for people beside the run, on {LISTEN} unless you say where; fl-agg dashboard says more.",
        metavar="[HOST:PORT]",
    ),
]
