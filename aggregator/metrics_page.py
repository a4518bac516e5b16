"""The page on ``--metrics-port``: Prometheus's text format, served beside the run and never in its way.

The owner of the run tells this object what it sees (``tell``, ``look``); a scrape reads what was told last, in a thread
of its own. prometheus-client is imported here alone, and only if the page was asked for.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from aggregator import notices as seen
from aggregator.metrics import PHASES, Histogram, Live, Tally, edges_by_state
from fl_protocol.errors import ConfigError

SCRAPE_S = 10.0
"""So long a scraper may take for its request."""


class MetricsPage:
    """The page of one run. ``job`` stands on every line, so that one Prometheus can watch several."""

    def __init__(self, job: str, host: str, port: int) -> None:
        self._job = job
        self._lock = threading.Lock()
        self._tally, self._live = Tally(), Live()
        self._here = (0, 0)  # bytes up and down of the rounds that ended in this process
        self._waits = Histogram()
        self._opened: float | None = None
        self._server = _serve(self, host, port)

    def close(self) -> None:
        """The port is free again."""
        self._server.shutdown()
        self._server.server_close()

    # --- what the owner tells ---------------------------------------------------------------------------------

    def begin(self, records: Iterable[Mapping[str, Any]]) -> None:
        """The rounds that a resumed run has had; of another run, if there was one before it."""
        with self._lock:
            self._tally = Tally()
            for record in records:
                self._tally.add(record)

    def tell(self, event: seen.Event, now: float) -> None:
        """Something happened."""
        with self._lock:
            if isinstance(event, seen.RoundOpened):
                self._opened = now
            elif isinstance(event, seen.UpdateAccepted) and self._opened is not None:
                self._waits.observe(now - self._opened)
            elif isinstance(event, seen.RoundEnded):
                self._tally.add(event.record)
                up, down = event.record.get("bytes_up", 0), event.record.get("bytes_down", 0)
                self._here = self._here[0] + up, self._here[1] + down
            elif isinstance(event, seen.ConnectionLost | seen.ConnectionRestored):
                self._live = replace(self._live, connected=isinstance(event, seen.ConnectionRestored))

    def look(self, server: Any) -> None:
        """How the run stands; called by its owner now and then. ``server`` is an aggregator.server.Server."""
        state = server.federation.state()
        members = server.station.membership.members.values()
        live = Live(
            state.phase, state.round_number, state.rounds, len(state.cohort), state.accepted,
            state.refused, server.station.bytes_up, server.station.bytes_down,
            edges_by_state(Counter(member.state for member in members)),
        )  # fmt: skip
        with self._lock:
            self._live = replace(live, connected=self._live.connected)

    # --- what a scrape gets -----------------------------------------------------------------------------------

    def collect(self) -> Iterator[Any]:
        """prometheus_client's protocol of a collector: metric families."""
        with self._lock:
            return iter([*self._sums(), *self._gauges()])

    def _sums(self) -> Iterator[Any]:
        it, live = self._tally, self._live
        yield self._counter("rounds", "Rounds that ended, by outcome.", "outcome", it.rounds)
        yield self._counter(
            "updates_accepted", "Updates of ended rounds that were folded in.", "", {"": it.accepted}
        )
        yield self._counter("updates_refused", "Refusals of ended rounds, by reason.", "reason", it.refused)
        yield self._counter(
            "stragglers", "Clients of ended rounds that did not answer in time.", "", {"": it.stragglers}
        )
        up = it.bytes_up + max(0, live.bytes_up - self._here[0])
        down = it.bytes_down + max(0, live.bytes_down - self._here[1])
        yield self._counter(
            "bytes", "Payload bytes between aggregator and broker.", "direction", {"up": up, "down": down}
        )
        yield self._histogram("round_duration_seconds", "From a round's opening to its record.", it.durations)
        yield self._histogram("update_wait_seconds", "From a round's opening to each accepted update, since the process "
                              "began.", self._waits)  # fmt: skip

    def _gauges(self) -> Iterator[Any]:
        live = self._live
        phases = {phase: int(phase == live.phase) for phase in PHASES}
        yield self._gauge(
            "edges", "Edges the aggregator knows, by what they last said of themselves.", "state", live.edges
        )
        yield self._gauge("phase", "1 for what the run is at.", "phase", phases)
        for name, text, value in (
            ("round", "The round under way, or the last one.", live.round_number),
            ("rounds_planned", "Rounds this run is to have.", live.rounds),
            ("round_cohort", "Clients invited to the round under way.", live.cohort),
            ("round_accepted", "Updates accepted in the round under way.", live.accepted),
            ("round_refused", "Refusals in the round under way.", live.refused),
            ("broker_connected", "Whether the broker is there.", int(live.connected)),
        ):
            yield self._gauge(name, text, "", {"": value})
        yield self._gauge("model_metric", "Of the last central evaluation.", "metric", self._tally.metrics)

    def _counter(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Any:
        from prometheus_client.core import CounterMetricFamily

        return self._filled(CounterMetricFamily(f"hilum_{name}", text, labels=_labels(label)), values)

    def _gauge(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Any:
        from prometheus_client.core import GaugeMetricFamily

        return self._filled(GaugeMetricFamily(f"hilum_{name}", text, labels=_labels(label)), values)

    def _filled(self, family: Any, values: Mapping[str, float]) -> Any:
        for key, value in sorted(values.items()):
            family.add_metric([self._job, key] if key else [self._job], value)
        return family

    def _histogram(self, name: str, text: str, found: Histogram) -> Any:
        from prometheus_client.core import HistogramMetricFamily

        family = HistogramMetricFamily(f"hilum_{name}", text, labels=["job"])
        family.add_metric([self._job], found.buckets(), found.total)
        return family


def _labels(label: str) -> list[str]:
    return ["job", label] if label else ["job"]


class WatchedView:
    """A view that lets the page see what a person sees."""

    def __init__(self, view: seen.View, page: MetricsPage) -> None:
        self._view, self._page = view, page

    def show(self, event: seen.Event) -> None:
        self._page.tell(event, time.monotonic())
        self._view.show(event)

    def close(self) -> None:
        self._view.close()


# --- the server ------------------------------------------------------------------------------------------------


class _Handler(WSGIRequestHandler):
    timeout = SCRAPE_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        """A scrape every few seconds is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """The base class asks a name server what our address is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody hung up; the run goes on."""


class _Server6(_Server):
    address_family = socket.AF_INET6


def _serve(page: MetricsPage, host: str, port: int) -> _Server:
    """Serve ``page``. Raises ConfigError if the package is missing or the port is taken."""
    try:
        from prometheus_client import make_wsgi_app
        from prometheus_client.process_collector import ProcessCollector
        from prometheus_client.registry import CollectorRegistry
    except ImportError:
        raise ConfigError("--metrics-port needs prometheus-client: pip install 'hilum[metrics]'") from None
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(page)
    try:
        server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(
            f"the metrics page cannot be served on {host} port {port} ({why}): give another --metrics-port"
        ) from None
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
