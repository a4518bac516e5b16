"""``--dashboard`` with and without a value, and the command line of the page's own process."""

from __future__ import annotations

from pathlib import Path

import pytest

from aggregator.dashboard_child import _command, spelled_out
from aggregator.dashboard_options import page_variables
from fl_protocol.broker import BrokerOptions


@pytest.mark.parametrize(("given", "meant"), [
    ([], []),
    (["start"], ["start"]),
    (["start", "--dashboard"], ["start", "--dashboard", ""]),
    (["start", "--dashboard", "--rounds", "3"], ["start", "--dashboard", "", "--rounds", "3"]),
    (["start", "--dashboard", "0.0.0.0:80"], ["start", "--dashboard", "0.0.0.0:80"]),
    (["start", "--dashboard=:80"], ["start", "--dashboard=:80"]),
    (["dashboard", "--listen", ":0"], ["dashboard", "--listen", ":0"]),
])  # fmt: skip
def test_a_bare_flag_has_a_value(given: list[str], meant: list[str]) -> None:
    assert spelled_out(given) == meant


def test_the_page_enters_the_broker_as_the_run_does_and_no_password_is_in_the_open() -> None:
    broker = BrokerOptions("hub", 8883, username="aggregator", password="secret", tls=True, ca="ca.pem")
    words = _command(("--listen", "127.0.0.1:1"), broker, "default", Path("runs"))[1:]
    assert words == [
        "--config", "/dev/null", "dashboard", "--broker", "hub:8883", "--job", "default", "--runs", "runs",
        "--listen", "127.0.0.1:1", "--username", "aggregator", "--ca", "ca.pem", "--tls",
    ]  # fmt: skip


def test_a_demonstrations_page_has_its_variables_and_no_other_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("FL_TOKEN_FILE", "FL_OPEN_READING", "FL_ROUNDS"):
        monkeypatch.setenv(name, "1")
    assert page_variables() == {"FL_TOKEN_FILE": "1", "FL_OPEN_READING": "1"}
