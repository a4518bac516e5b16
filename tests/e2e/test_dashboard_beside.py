"""``fl-agg start --dashboard``: the page beside a run lives and dies with it, and the run never with the page."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import stat
from pathlib import Path

import httpx

from tests.brokers import Broker
from tests.e2e.processes import Program, Programs, marked, until

PAGE = ("--dashboard", "127.0.0.1:0")


def url_of(agg: Program) -> str:
    found = agg.says(r"dashboard: (http://\S+)")[1]
    agg.says("token: ")
    return found


def page_process(agg: Program) -> int:
    return next(pid for pid, words in marked(agg.mark).items() if " dashboard " in words)


def test_the_page_shows_the_run_and_ends_with_it(programs: Programs) -> None:
    agg = programs.agg("--rounds", 1, *PAGE)
    url = url_of(agg)
    with httpx.stream("GET", f"{url}/events", trust_env=False, timeout=20) as stream:
        lines = stream.iter_lines()
        until(lambda: f"job/{programs.job}" in next(lines), "the job is shown")
        agg.interrupt()
        assert agg.wait() == 130, agg.told()


def test_a_page_that_dies_is_one_warning(programs: Programs) -> None:
    agg = programs.agg("--rounds", 1, "--min-clients", 1, *PAGE)
    url_of(agg)
    agg.says("waiting for clients")
    os.kill(page_process(agg), signal.SIGKILL)
    agg.says("warning: the dashboard has ended")
    programs.edge("edge1")
    assert agg.wait() == 0, agg.told()
    assert agg.out.count("the dashboard has ended") == 1


def test_a_run_that_is_killed_takes_its_page_along(programs: Programs) -> None:
    agg = programs.agg(*PAGE)
    url_of(agg)
    agg.kill()
    until(lambda: not agg.living(), "the page is gone")


def test_a_port_that_is_taken_is_said_before_anything_begins(programs: Programs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        agg = programs.agg("--dashboard", f"127.0.0.1:{held.getsockname()[1]}")
        assert agg.wait() == 2, agg.told()
    assert "give another --dashboard" in agg.err and agg.err.count("\n") == 1
    assert not programs.run_dir.exists()


def test_the_network_is_warned_of_and_asked_for_the_token(programs: Programs) -> None:
    agg = programs.agg("--dashboard", "0.0.0.0:0")
    url = url_of(agg)
    assert "warning: the page on 0.0.0.0" in agg.out and "FL_WEB_CERT" in agg.out, agg.told()
    assert "reading needs the token as well" in agg.out
    answer = httpx.get(url, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_certificate_token_and_who_may_look_come_from_where_fl_agg_dashboard_takes_them(
    programs: Programs, papers: Path
) -> None:
    """By variables, and by [dashboard] of the settings file; a login in there is the other program's, not the run's."""
    settings, token = programs.folder / "mine.toml", programs.folder / "token"
    settings.write_text(
        f"[dashboard]\nweb_cert = '{papers / 'server.crt'}'\nweb_key = '{papers / 'server.key'}'\n"
        "username = 'operator'\njob = 'another'\nlisten = '127.0.0.1:0'\n"
    )
    variables = {"FL_CONFIG": str(settings), "FL_TOKEN_FILE": str(token), "FL_OPEN_READING": "0"}
    agg = programs.agg("--rounds", 1, "--dashboard", env=variables)
    url = agg.says(r"dashboard: (https://\S+)")[1]
    agg.says("token: ")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    trusted = ssl.create_default_context(cafile=str(papers / "ca.crt"))
    assert httpx.get(url, trust_env=False, verify=trusted).status_code == 303
    agg.interrupt()
    assert agg.wait() == 130, agg.told()
    again = programs.agg("--dashboard", "localhost:0", env=variables, name="again")
    again.says("dashboard: https://localhost")
    again.says("token: the one whose hash is in")


def test_a_certificate_without_its_key_is_said_before_anything_begins(
    programs: Programs, papers: Path
) -> None:
    agg = programs.agg(*PAGE, env={"FL_WEB_CERT": str(papers / "server.crt")})
    assert agg.wait() == 2, agg.told()
    assert "--web-cert and --web-key belong together" in agg.err and agg.err.count("\n") == 1
    assert not programs.run_dir.exists()


def test_the_page_logs_in_to_the_broker_as_the_run_does(programs: Programs, login_broker: Broker) -> None:
    more = ("--broker", login_broker.options.where, "--username", "aggregator")
    agg = programs.agg("--rounds", 1, *more, *PAGE, env={"FL_PASSWORD": "aggregator-secret"})
    url = url_of(agg)
    with httpx.stream("GET", f"{url}/events", trust_env=False, timeout=20) as stream:
        lines = stream.iter_lines()
        until(lambda: f"job/{programs.job}" in next(lines), "the job is shown")
    assert "secret" not in "".join(agg.living().values())
    agg.interrupt()
    agg.wait()
