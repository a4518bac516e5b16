"""The page itself: what a scrape reads, and what is said when it cannot be served."""

from __future__ import annotations

import socket
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aggregator import notices as seen
from aggregator.metrics_page import MetricsPage, WatchedView
from fl_protocol.errors import ConfigError
from tests.brokers import free_port
from tests.unit.aggregator.test_metrics import record, refusal


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def page(port: int) -> Iterator[MetricsPage]:
    made = MetricsPage("lung", "127.0.0.1", port)
    yield made
    made.close()


def samples(port: int, host: str = "127.0.0.1") -> dict[tuple[str, str], float]:
    """Value by name and second label, if any."""
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key != "job"}
            found[sample.name, ",".join(labels.values())] = sample.value
    return found


def test_a_scrape_before_the_first_round_is_whole(page: MetricsPage, port: int) -> None:
    found = samples(port)
    assert found["hilum_rounds_total", "closed"] == 0
    assert found["hilum_phase", "waiting"] == 1
    assert found["hilum_round_duration_seconds_count", ""] == 0


def test_what_happens_is_on_the_page(page: MetricsPage, port: int) -> None:
    page.begin([record(), record(rejected=[refusal("late", 4)])])
    page.tell(seen.RoundOpened(3, 9, ("a", "b")), 100.0)
    page.tell(seen.UpdateAccepted("a", 3, 10), 102.0)
    page.tell(seen.ConnectionLost("gone"), 102.5)
    page.tell(seen.RoundEnded(record(outcome="closed_short", stragglers=["b"], duration_s=5.0)), 105.0)
    found = samples(port)
    assert (found["hilum_rounds_total", "closed"], found["hilum_rounds_total", "closed_short"]) == (2, 1)
    assert found["hilum_updates_accepted_total", ""] == 6
    assert found["hilum_updates_refused_total", "late"] == 4
    assert found["hilum_stragglers_total", ""] == 1
    assert (found["hilum_bytes_total", "up"], found["hilum_bytes_total", "down"]) == (30, 60)
    assert found["hilum_round_duration_seconds_sum", ""] == 9.0
    assert (
        found["hilum_update_wait_seconds_bucket", "1.0"],
        found["hilum_update_wait_seconds_bucket", "3.0"],
    ) == (0, 1)
    assert found["hilum_broker_connected", ""] == 0
    page.tell(seen.ConnectionRestored(""), 106.0)
    assert samples(port)["hilum_broker_connected", ""] == 1


def test_the_person_sees_what_the_page_sees(page: MetricsPage, port: int) -> None:
    class Seen:
        events: list[seen.Event] = []  # noqa: RUF012
        closed = False

        def show(self, event: seen.Event) -> None:
            self.events.append(event)

        def close(self) -> None:
            self.closed = True

    person = Seen()
    view = WatchedView(person, page)
    view.show(seen.RoundEnded(record()))
    view.close()
    assert len(person.events) == 1 and person.closed
    assert samples(port)["hilum_rounds_total", "closed"] == 1


def test_a_taken_port_is_one_line(page: MetricsPage, port: int) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"127\.0\.0\.1 port {port} \(Address already in use\): give another --metrics-port",
    ):
        MetricsPage("lung", "127.0.0.1", port)


def test_an_address_that_is_not_ours_is_one_line(port: int) -> None:
    with pytest.raises(ConfigError, match=r"cannot be served on 203\.0\.113\.9"):
        MetricsPage("lung", "203.0.113.9", port)
    with pytest.raises(ConfigError, match=r"cannot be served on nobody\.invalid"):
        MetricsPage("lung", "nobody.invalid", port)


def test_a_scraper_that_hangs_up_disturbs_nobody(
    page: MetricsPage, port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    for request in (b"", b"GET /metrics HTTP/1.0\r\n\r\n", b"\x00\xff nonsense\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(request)
    assert samples(port)["hilum_phase", "waiting"] == 1
    assert capfd.readouterr().err == ""


def test_ipv6_is_an_address_too(port: int) -> None:
    page = MetricsPage("lung", "::1", port)
    try:
        assert samples(port, "[::1]")["hilum_phase", "waiting"] == 1
    finally:
        page.close()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"needs prometheus-client: pip install 'hilum\[metrics\]'"):
        MetricsPage("lung", "127.0.0.1", port)
