"""Brokers that ask who is there: password and rights, TLS, certificates on both sides. No secret ever shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker.test_access import tls_lines
from tests.brokers import Broker, mosquitto, running
from tests.e2e.processes import Program, Programs, marked

SITES = ("site-a", "site-b")


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, papers: Path) -> Iterator[Broker]:
    """A broker that knows everybody by certificate."""
    lines = [*tls_lines(papers), "require_certificate true", "use_identity_as_username true"]
    found = mosquitto(
        tmp_path_factory.mktemp("mutual"), *lines, f"acl_file {Path(__file__).parents[2] / 'broker/acl'}"
    )
    found.options = found.options.__class__(found.options.host, found.options.port, tls=True)
    with running(found):
        yield found


def secret_of(name: str, folder: Path) -> Path:
    """A password file for one name."""
    path = folder / f"{name}.password"
    path.write_text(f"{name}-secret\n")
    path.chmod(0o600)
    return path


def finish(agg: Program, edges: list[Program], programs: Programs) -> None:
    """The run ends well, and no secret is in any command line meanwhile or in any file afterwards."""
    shown = [line for program in (agg, *edges) for line in marked(program.mark).values()]
    assert shown and not [line for line in shown if "-secret" in line]
    assert agg.wait() == 0, agg.told()
    assert [edge.wait() for edge in edges] == [0, 0], edges[0].told() + edges[1].told()
    assert programs.rounds()[0]["accepted"] == list(SITES)
    written = [path for path in programs.folder.rglob("*") if path.is_file() and path.suffix != ".password"]
    assert {"config.json", "report.html", "rounds.jsonl", "journal.sqlite"} <= {path.name for path in written}
    assert [path for path in written if b"-secret" in path.read_bytes()] == []


def test_password_without_tls(programs: Programs, login_broker: Broker) -> None:
    """By file on one side, by variable on the other."""
    programs.broker = login_broker.options.where
    who = {"FL_USERNAME": "aggregator", "FL_PASSWORD": "aggregator-secret"}
    agg = programs.agg("--rounds", 1, env=who)
    edges = [
        programs.edge(name, "--username", name, "--password-file", secret_of(name, programs.folder))
        for name in SITES
    ]
    finish(agg, edges, programs)


def test_password_tls_and_rights(programs: Programs, secure: Broker, papers: Path) -> None:
    """The shipped broker; options on the aggregator and one site, variables alone on the other."""
    programs.broker = secure.options.where
    agg = programs.agg("--rounds", 1, "--username", "aggregator", "--password-file", secret_of("aggregator", programs.folder),
                       "--tls", "--ca", papers / "ca.crt")  # fmt: skip
    variables = {"FL_BROKER": secure.options.where, "FL_USERNAME": "site-b", "FL_PASSWORD": "site-b-secret", "FL_CA": str(papers / "ca.crt"),
                 "FL_TLS": "1", "FL_JOB": programs.job, "FL_CLIENT_ID": "site-b", "FL_WORKDIR": str(programs.folder / "b"), "FL_PLUGIN": "echo_task"}  # fmt: skip
    edges = [
        programs.edge("site-a", "--username", "site-a", "--password-file", secret_of("site-a", programs.folder), "--ca", papers / "ca.crt"),
        programs.start("fl-edge", "join", name="site-b", env=variables),
    ]  # fmt: skip
    finish(agg, edges, programs)


def test_a_site_that_takes_another_name_than_its_login_is_told(
    programs: Programs, secure: Broker, papers: Path
) -> None:
    """The broker's rights are by login: what this edge says would not be passed on, so it does not stay."""
    programs.broker = secure.options.where
    login = (
        "--username",
        "site-a",
        "--password-file",
        secret_of("site-a", programs.folder),
        "--ca",
        papers / "ca.crt",
    )
    agg = programs.agg(
        "--rounds",
        1,
        "--username",
        "aggregator",
        "--ca",
        papers / "ca.crt",
        env={"FL_PASSWORD": "aggregator-secret"},
    )
    agg.says("waiting for clients")
    edge = programs.edge("site-b", *login)
    assert edge.wait() == 3, edge.told()
    assert "does not let 'site-a' speak as 'site-b': give --client-id" in edge.err
    assert edge.err.count("\n") == 1


def test_certificates_on_both_sides(programs: Programs, mutual: Broker, papers: Path) -> None:
    programs.broker = mutual.options.where

    def options(name: str) -> tuple[object, ...]:
        return ("--ca", papers / "ca.crt", "--cert", papers / f"{name}.crt", "--key", papers / f"{name}.key")

    variables = {
        f"FL_{name}": str(papers / file)
        for name, file in (("CA", "ca.crt"), ("CERT", "site-b.crt"), ("KEY", "site-b.key"))
    }
    agg = programs.agg("--rounds", 1, *options("aggregator"))
    edges = [programs.edge("site-a", *options("site-a")), programs.edge("site-b", env=variables)]
    finish(agg, edges, programs)


def test_who_lacks_a_paper_is_told_which(
    programs: Programs, mutual: Broker, secure: Broker, papers: Path
) -> None:
    programs.broker = mutual.options.where
    without = programs.edge("site-a", "--ca", papers / "ca.crt")
    stranger = programs.edge("site-b", "--tls", "--connect-timeout", 5)
    plain = programs.edge("site-c", "--broker", secure.options.where, "--connect-timeout", 1.5)
    for edge, pattern in (
        (without, "refuses the TLS connection .*: give a client certificate with --cert and --key"),
        (stranger, "certificate of .* is not accepted .*: give the authority that signed it with --ca"),
        (plain, r"gave no MQTT answer; does it want --tls\?\)"),
    ):
        assert edge.wait() == 3, edge.told()
        assert re.fullmatch(rf"fl-edge: .*{pattern}.*\n", edge.err), edge.told()
