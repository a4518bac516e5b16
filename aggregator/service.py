"""``fl-agg start`` around the run: the broker to use, the line with which clients join, and where the results lie."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aggregator import notices as seen
from aggregator.dashboard_child import dashboard_beside
from aggregator.invitation import join_line
from aggregator.metrics_page import MetricsPage, WatchedView
from aggregator.start import RunSettings, run
from fl_protocol.transport import BrokerOptions


def serve(
    settings: RunSettings, broker: BrokerOptions | None, listen: str, view: seen.View,
    metrics: tuple[str, int] | None = None,
) -> None:  # fmt: skip
    """Run ``settings`` on ``broker``, or on one found or started on this host.

    ``metrics`` are host and port of a page for Prometheus. Raises ConfigError if it cannot be served there.
    """
    if metrics is None:
        _serve(settings, broker, listen, view)
        return
    try:
        page = MetricsPage(settings.job, *metrics)
        try:
            _serve(replace(settings, page=page), broker, listen, WatchedView(view, page))
        finally:
            page.close()
    finally:
        view.close()


def _serve(settings: RunSettings, broker: BrokerOptions | None, listen: str, view: seen.View) -> None:
    try:
        if broker is not None:
            view.show(seen.JoinLine(join_line(broker, settings.job, broker.host)))
            _run(settings, broker, view)
        else:
            _serve_locally(settings, listen, view)
    finally:
        view.close()


def _run(settings: RunSettings, broker: BrokerOptions, view: seen.View) -> None:
    beside = settings.out if settings.stays else settings.out.parent
    with dashboard_beside(settings.dashboard, broker, settings.job, beside, view) as shown:
        if settings.stays:
            from aggregator.waiting import wait_for_operators

            wait_for_operators(settings, broker, shown)
            return
        ended = run(settings, broker, shown)
    view.show(ended)


def _serve_locally(settings: RunSettings, listen: str, view: seen.View) -> None:
    from aggregator.local_broker import find_or_start

    new = [folder for folder in (settings.out, *settings.out.parents) if not folder.exists()]
    local = find_or_start(settings.out / "broker", listen=listen)
    try:
        view.show(seen.BrokerStarted(local.options.where, local.kind))
        host = "localhost" if listen.startswith("127.") else socket.gethostname()
        view.show(seen.JoinLine(join_line(local.options, settings.job, host)))
        _run(settings, local.options, view)
    finally:
        local.stop()
        if local.started:
            _forget_unused(settings.out, new)


def _forget_unused(out: Path, new: Sequence[Path]) -> None:
    """If no run was begun (a mistake in the settings), what the broker kept is not worth a folder."""
    if not [*out.glob("journal.sqlite"), *out.glob("*/journal.sqlite")]:
        shutil.rmtree(out / "broker", ignore_errors=True)
        with contextlib.suppress(OSError):  # somebody has something there
            for folder in new:
                folder.rmdir()
