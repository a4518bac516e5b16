"""``fl-agg dashboard`` as a server: starts whenever, ends in order, and does nothing for strangers."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import stat
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from fl_web.security import AT_ONCE, REFILL_S
from tests import dashboard_frames as f
from tests.brokers import Broker, mosquitto, running
from tests.e2e.dashboards import Dashboard, federation, form_token
from tests.e2e.processes import Programs, until
from tests.federations import record


def first_event(client: httpx.Client) -> str:
    """The first event of the stream, which tells all."""
    with client.stream("GET", "/events") as stream:
        assert stream.status_code == 200, stream.read()
        told = ""
        for line in stream.iter_lines():
            told += line
            if line.startswith("data:"):
                return told
    return told


def test_it_starts_before_the_broker_and_shows_what_comes(programs: Programs, tmp_path: Path) -> None:
    later = mosquitto(tmp_path / "later")
    page = Dashboard(programs, broker=later.options.where)
    with page.client() as client:
        assert '"connected":false' in first_event(client)
        with running(later), federation(later, "late", "site-a"):
            until(lambda: "client/late/site-a" in first_event(client), "the dashboard finds the broker")
        until(lambda: '"connected":false' in first_event(client), "the dashboard misses it")


@pytest.mark.parametrize(("how", "code"), [("interrupt", 130), ("terminate", 0)])
def test_it_ends_in_order_with_a_page_open(programs: Programs, how: str, code: int) -> None:
    page = Dashboard(programs)
    with page.client() as client, client.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        next(lines)
        page.program.interrupt() if how == "interrupt" else page.program.process.terminate()
        assert page.program.wait(15) == code, page.program.told()
        list(lines)
    assert page.program.err == ""


def test_a_port_that_is_taken_is_one_line(programs: Programs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        run = programs.start("fl-agg", "dashboard", "--listen", f"127.0.0.1:{port}", name="taken")
        assert run.wait() == 2
    assert run.err.count("\n") == 1 and "give another --listen" in run.err


def test_the_network_is_warned_of(programs: Programs) -> None:
    run = programs.start(
        "fl-agg", "dashboard", "--broker", programs.broker, "--listen", "0.0.0.0:0", name="wide"
    )
    run.says("reading needs the token as well")
    run.says("warning: .*--web-cert")
    run.interrupt()
    assert run.wait() == 130


def test_a_wrong_token_a_hundred_times_is_refused_and_costs_nothing(programs: Programs) -> None:
    page = Dashboard(programs)
    with page.client() as client:
        before = page.program.peak_mb()
        began = time.monotonic()
        answers = [page.log_in(client, f"guess-{number}") for number in range(100)]
        allowed = AT_ONCE + int((time.monotonic() - began) / REFILL_S)
        codes = [answer.status_code for answer in answers]
        assert (
            codes[:AT_ONCE] == [401] * AT_ONCE
            and codes.count(401) <= allowed
            and codes.count(429) == 100 - codes.count(401)
        )
        assert "Too many wrong tokens" in answers[-1].text and int(answers[-1].headers["retry-after"]) > 0
        assert page.log_in(client).status_code == 429
        assert client.post("/api/command", json={"job": "x", "action": "stop"}).status_code == 401
        assert page.program.peak_mb() < before + 10


def test_posts_of_other_sites_and_without_a_form_token_are_refused(
    programs: Programs, broker: Broker
) -> None:
    page = Dashboard(programs)
    with federation(broker, programs.job) as aggregator, page.client() as client:
        assert page.log_in(client).status_code == 303
        cookie = next(iter(client.cookies.jar))
        assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "strict"
        token = form_token(client.get("/"))
        body = {"job": programs.job, "action": "stop"}
        ours = {"X-Form-Token": token, "Origin": page.url}
        for headers in (
            ours | {"Origin": "http://evil.example"}, ours | {"Sec-Fetch-Site": "cross-site"}, ours | {"Host": "evil.example"},
            {"Origin": page.url}, ours | {"X-Form-Token": "0" * 64},
        ):  # fmt: skip
            assert client.post("/api/command", json=body, headers=headers).status_code == 403, headers
        assert client.post("/login", data={"token": page.token}).status_code == 403
        assert aggregator.asked == []
        assert client.post("/api/command", json=body, headers=ours).json()["ok"] is True
        assert [command.action for command in aggregator.asked] == ["stop"]
        client.post("/logout", data={"form_token": token})
        assert client.post("/api/command", json=body, headers=ours).status_code == 401


def test_bodies_are_bounded(programs: Programs) -> None:
    page = Dashboard(programs)
    with page.client() as client:
        before = page.program.peak_mb()
        answer = client.post(
            "/login", content=bytes(60_000_000), headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert answer.status_code == 413 and "too large" in answer.text
        assert page.program.peak_mb() < before + 15


def test_no_path_leads_out_of_the_runs(programs: Programs) -> None:
    run = programs.folder / "runs" / "one"
    run.mkdir(parents=True)
    (run / "rounds.jsonl").write_text(json.dumps(record(1)) + "\n")
    (run / "report.html").write_text("<script>alert(1)</script>")
    (run / "journal.sqlite").write_text("secret")
    (programs.folder / "rounds.jsonl").write_text("secret")
    page = Dashboard(programs, "--runs", programs.folder / "runs")
    host, port = page.url.removeprefix("http://").split(":")

    def get(path: str) -> tuple[int, str, bytes]:
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=20)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, str(answer.getheader("content-security-policy")), answer.read()

    assert get("/files/one/rounds.jsonl")[2].startswith(b'{"round": 1')
    assert "sandbox" in get("/files/one/report.html")[1]
    for path in (
        "/files/../rounds.jsonl", "/files/one/../../rounds.jsonl", "/files/one/%2e%2e/%2e%2e/rounds.jsonl", "/files/one/journal.sqlite",
        "/files/%2Fetc/passwd", "/files//etc/passwd", "/files/one/..%2f..%2frounds.jsonl", "/static/../app.py", "/files/one%00/rounds.jsonl",
        "/static/%2e%2e/%2e%2e/app.py", "/api/compare?run=..", "/runs/compare?run=../..",
    ):  # fmt: skip
        status, _, body = get(path)
        assert status == 404 and b"secret" not in body, path


def test_reading_may_be_closed(programs: Programs) -> None:
    page = Dashboard(programs, "--no-open-reading")
    with page.client() as client:
        for path in ("/", "/runs", "/runs/compare?run=x"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        for path in ("/events", "/api/form", "/api/compare", "/files/x/rounds.jsonl"):
            assert client.get(path).status_code == 401
        assert page.log_in(client).status_code == 303
        assert client.get("/").status_code == 200 and '"link"' in first_event(client)


def test_a_token_file_keeps_the_hash_alone(programs: Programs) -> None:
    file = programs.folder / "token"
    page = Dashboard(programs, "--token-file", file)
    assert page.token and page.token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    page.program.interrupt()
    page.program.wait()
    again = Dashboard(programs, "--token-file", file)
    assert again.token == ""
    with again.client() as client:
        assert again.log_in(client, "wrong").status_code == 401
        assert again.log_in(client, page.token).status_code == 303
    file.write_text("no hash\n")
    run = programs.start(
        "fl-agg", "dashboard", "--token-file", file, "--listen", "127.0.0.1:0", name="spoiled"
    )
    assert run.wait() == 2 and "remove it" in run.err


def test_a_command_waits_for_its_aggregator(programs: Programs) -> None:
    page = Dashboard(programs)
    with page.client() as client:
        page.log_in(client)
        headers = {"X-Form-Token": form_token(client.get("/"))}
        answer = client.post("/api/command", json={"job": "nobody", "action": "pause"}, headers=headers)
        assert answer.status_code == 504 and "did not answer" in answer.json()["reason"]
        answer = client.post("/api/command", content=b"{" * 5000, headers=headers)
        assert (answer.status_code, answer.json()["ok"]) == (400, False)


def test_a_flood_of_bad_frames_is_counted_and_no_more(programs: Programs, broker: Broker) -> None:
    page = Dashboard(programs)
    with federation(broker, programs.job, "site-a") as aggregator, page.client() as client:
        for number in range(200):
            aggregator._peer.transport.publish(f"fl/1/{programs.job}/up/x{number}/state", b"\xc1" * 50)
        aggregator.tell("pub/round", f.opened("site-a"))
        until(lambda: '"phase":"open"' in first_event(client), "the round is shown")
        assert '"malformed":200' in first_event(client)


def test_an_operators_login_and_tls_on_both_sides(programs: Programs, secure: Broker, papers: Path) -> None:
    """Under broker/acl an operator's login reads all that the page shows, and its commands arrive."""
    secret = programs.folder / "operator.password"
    secret.write_text("operator-secret\n")
    authority = str(papers / "ca.crt")
    options = replace(secure.options, username="aggregator", password="aggregator-secret", ca=authority)
    page = Dashboard(
        programs, "--ca", authority, "--username", "operator", "--password-file", secret,
        "--web-cert", papers / "server.crt", "--web-key", papers / "server.key", broker=secure.options.where,
    )  # fmt: skip
    assert page.url.startswith("https://")
    with (
        federation(replace(secure, options=options), programs.job) as aggregator,
        page.client(authority) as client,
    ):
        until(lambda: f"job/{programs.job}" in first_event(client), "the job is shown")
        assert page.log_in(client).status_code == 303
        assert next(iter(client.cookies.jar)).secure
        body = {"job": programs.job, "action": "pause"}
        answer = client.post("/api/command", json=body, headers={"X-Form-Token": form_token(client.get("/"))})
        assert answer.json()["ok"] is True, answer.text
        assert [command.action for command in aggregator.asked] == ["pause"]
