"""``--dashboard`` with and without a value, and the command line of the page's own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.dashboard_child import _command, spelled_out
from fl_protocol.broker import BrokerOptions


@pytest.mark.parametrize(("given", "meant"), [
    ([], []),
    (["start"], ["start"]),
    (["start", "--dashboard"], ["start", "--dashboard", "127.0.0.1:8080"]),
    (["start", "--dashboard", "--rounds", "3"], ["start", "--dashboard", "127.0.0.1:8080", "--rounds", "3"]),
    (["start", "--dashboard", "0.0.0.0:80"], ["start", "--dashboard", "0.0.0.0:80"]),
    (["start", "--dashboard=:80"], ["start", "--dashboard=:80"]),
    (["dashboard", "--listen", ":0"], ["dashboard", "--listen", ":0"]),
])  # fmt: skip
def test_a_bare_flag_has_a_value(given: list[str], meant: list[str]) -> None:
    assert spelled_out(given) == meant


def test_the_page_enters_the_broker_as_the_run_does_and_no_password_is_in_the_open() -> None:
    broker = BrokerOptions("hub", 8883, username="aggregator", password="secret", tls=True, ca="ca.pem")
    words = _command("127.0.0.1:1", broker, "default", Path("runs"))[1:]
    assert words == [
        "dashboard", "--broker", "hub:8883", "--listen", "127.0.0.1:1", "--job", "default", "--runs", "runs",
        "--username", "aggregator", "--ca", "ca.pem", "--tls",
    ]  # fmt: skip
