"""``fl-edge doctor`` and ``fl-agg doctor`` beside real brokers, a real aggregator and real edges, who must not notice."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.brokers import Broker, Peer, mosquitto, nats, program, running
from tests.e2e.conftest import phantoms
from tests.e2e.processes import ECHO, Programs
from tests.e2e.test_login import secret_of

UNWRITABLE = "/sys/hilum"
"""The kernel's own folder: not even root makes one there."""
RIGHTS = {
    "aggregator": ["topic readwrite fl/#", "topic read $SYS/#"],
    "whole": ["topic write fl/1/+/up/whole/#", "topic read fl/1/+/dn/whole/#", "topic read fl/1/+/pub/#"],
    "no-up": ["topic read fl/1/+/dn/no-up/#", "topic read fl/1/+/pub/#"],
    "no-chunk": ["topic write fl/1/+/up/no-chunk/+", "topic write fl/1/+/up/no-chunk/offer/+",
                 "topic read fl/1/+/dn/no-chunk/#", "topic read fl/1/+/pub/#"],
    "no-dn": ["topic write fl/1/+/up/no-dn/#", "topic read fl/1/+/pub/#"],
    "no-ack": ["topic write fl/1/+/up/no-ack/#", "topic read fl/1/+/dn/no-ack/control", "topic read fl/1/+/pub/#"],
    "no-pub": ["topic write fl/1/+/up/no-pub/#", "topic read fl/1/+/dn/no-pub/#"],
    "no-block": ["topic write fl/1/+/up/no-block/#", "topic read fl/1/+/dn/no-block/#", "topic read fl/1/+/pub/agg",
                 "topic read fl/1/+/pub/round", "topic read fl/1/+/pub/model/#"],
    "reader": ["topic read fl/#"],
}  # fmt: skip
"""Logins that lack one right each, by the lines of the access list."""


@pytest.fixture(scope="module")
def rights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with those logins: NAME-secret."""
    folder = tmp_path_factory.mktemp("rights")
    passwords, acl = folder / "passwords", folder / "acl"
    passwords.touch(mode=0o600)
    for name in RIGHTS:
        command = [program("mosquitto_passwd"), "-b", str(passwords), name, f"{name}-secret"]
        subprocess.run(command, check=True, capture_output=True)
    acl.write_text("".join(f"user {name}\n" + "\n".join(lines) + "\n\n" for name, lines in RIGHTS.items()))
    acl.chmod(0o700)
    broker = mosquitto(folder, f"password_file {passwords}", f"acl_file {acl}")
    broker.config = broker.config.replace("allow_anonymous true", "allow_anonymous false")
    with running(broker):
        yield broker


class Doctor:
    """One examination: its exit code and what it found."""

    def __init__(self, programs: Programs, program_name: str, *arguments: object, **env: str) -> None:
        given = ("--json", "--job", programs.job, *ECHO)
        run = programs.start(program_name, "doctor", *given, *arguments, name="doctor", env=env)
        self.code, self.told = run.wait(60), run.told()
        assert run.err == "", self.told
        self.rows = {row["check"]: row for row in json.loads(run.out)}

    @property
    def wrong(self) -> dict[str, str]:
        """Verdicts other than ok; that the echo task has little data is known."""
        verdicts = {check: row["verdict"] for check, row in self.rows.items() if row["verdict"] != "ok"}
        return {check: verdict for check, verdict in verdicts.items() if (check, verdict) != ("data", "warn")}


def edge_doctor(programs: Programs, client: str, *arguments: object, **env: str) -> Doctor:
    return Doctor(programs, "fl-edge", "--client-id", client, *arguments, **env)


def as_login(broker: Broker, name: str) -> tuple[tuple[object, ...], dict[str, str]]:
    return ("--broker", broker.options.where, "--username", name), {"FL_PASSWORD": f"{name}-secret"}


def test_a_healthy_site_on_the_shipped_secure_broker(
    programs: Programs, secure: Broker, papers: Path
) -> None:
    """Also while it trains; and neither it nor the aggregator notices."""
    programs.broker = secure.options.where
    gate = programs.folder / "gate"
    login = ("--ca", papers / "ca.crt", "--username")
    agg = programs.agg(
        "--rounds", 1, "--min-clients", 1, *login, "aggregator", env={"FL_PASSWORD": "aggregator-secret"}
    )
    agg.says("waiting for clients")
    site_b = (*login, "site-b", "--password-file", secret_of("site-b", programs.folder))
    edge = programs.edge("site-b", *site_b, env={"ECHO_GATE": str(gate)})
    edge.says("round=1 joined")
    healthy = edge_doctor(
        programs, "site-a", "--broker", programs.broker, *login, "site-a", FL_PASSWORD="site-a-secret"
    )
    assert (healthy.code, healthy.wrong) == (0, {}), healthy.told
    assert {"name", "tcp", "tls", "mqtt", "packets", "read pub", "write up", "read dn", "aggregator", "client id",
            "disk", "device", "data", "clock"} <= set(healthy.rows)  # fmt: skip
    assert healthy.rows["read pub"]["detail"] == "came: agg, block, model, round"
    second = edge_doctor(
        programs, "site-b", "--broker", programs.broker, *site_b, "--workdir", programs.folder / "site-b"
    )
    assert (second.code, second.wrong) == (3, {"client id": "fail", "workdir": "fail"}), second.told
    assert "'site-b' is in use" in second.rows["client id"]["detail"]
    other = edge_doctor(programs, "site-c", "--broker", programs.broker, *site_b)
    assert (other.code, other.wrong) == (3, {"write up": "fail", "read dn": "warn", "aggregator": "warn"}), (
        other.told
    )
    assert "--client-id" in other.rows["write up"]["advice"]
    gate.touch()
    assert agg.wait() == 0, agg.told()
    assert edge.wait() == 0, edge.told()
    (record,) = programs.rounds()
    assert (record["outcome"], record["rejected"]) == ("closed", []), "nobody was disturbed"
    assert "warning" not in edge.out + agg.out, agg.told() + edge.told()


def test_each_missing_right_is_named(programs: Programs, rights: Broker) -> None:
    programs.broker = rights.options.where
    agg = programs.agg("--username", "aggregator", env={"FL_PASSWORD": "aggregator-secret"})
    agg.says("waiting for clients")
    expected = {
        "whole": (0, {}), "no-up": (3, {"write up": "fail", "read dn": "warn", "aggregator": "warn"}),
        "no-chunk": (3, {"write up": "fail"}), "no-dn": (3, {"write up": "warn", "read dn": "fail", "aggregator": "warn"}),
        "no-ack": (3, {"read dn": "fail"}), "no-pub": (3, {"read pub": "fail"}), "no-block": (3, {"read pub": "fail"}),
    }  # fmt: skip
    for name, (code, wrong) in expected.items():
        options, env = as_login(rights, name)
        found = edge_doctor(programs, name, *options, **env)
        assert (found.code, found.wrong) == (code, wrong), found.told
    assert agg.running
    agg.send(signal.SIGTERM)
    assert agg.wait() == 0, agg.told()
    assert "rejected" not in agg.out and "refused" not in agg.out, agg.told()


@pytest.mark.parametrize(
    ("where", "env", "wrong", "said"),
    [
        ("{closed}", {}, {"tcp": "fail"}, "refused"),
        ("nobody.invalid", {}, {"name": "fail"}, "no host is called nobody.invalid"),
        ("{login}", {}, {"mqtt": "fail"}, "asks for a login"),
        (
            "{login}",
            {"FL_USERNAME": "site-a", "FL_PASSWORD": "guess"},
            {"mqtt": "fail"},
            "refuses the login 'site-a'",
        ),
        ("{open}", {"FL_TLS": "1"}, {"tls": "fail"}, "TLS"),
    ],
    ids=["no broker", "wrong host", "no login", "bad login", "no TLS"],
)
def test_a_barred_way_is_found_where_it_is_barred(
    programs: Programs, login_broker: Broker, closed_port: int, where: str, env: dict[str, str], wrong: dict[str, str],
    said: str,
) -> None:  # fmt: skip
    """What this machine has is told all the same; both programs agree."""
    address = where.format(
        closed=f"127.0.0.1:{closed_port}", login=login_broker.options.where, open=programs.broker
    )
    examined = [edge_doctor(programs, "a", "--broker", address, **env)]
    if not said.startswith("no host"):  # the same path: once is enough
        echo = ("--task", "echo", "--model", "tiny", "--out", "r")
        examined.append(Doctor(programs, "fl-agg", *echo, "--broker", address, **env))
    for found in examined:
        assert (found.code, found.wrong) == (3, wrong), found.told
        (check,) = wrong
        assert said in found.rows[check]["detail"] and found.rows[check]["advice"], found.told
        assert {"device", "disk", "clock"} <= set(found.rows)
    assert not (programs.folder / "r").exists()


def test_limits_of_brokers(programs: Programs, tmp_path: Path) -> None:
    for lines, code, wrong in (
        (("max_packet_size 2000",), 3, {"packets": "fail"}),
        (("max_packet_size 16384",), 0, {"packets": "warn", "read pub": "warn", "aggregator": "warn"}),
        (("retain_available false",), 3, {"retained": "fail"}),
    ):
        with running(mosquitto(tmp_path / lines[0].replace(" ", "-"), *lines)) as broker:
            found = edge_doctor(programs, "a", "--broker", broker.options.where)
            assert (found.code, found.wrong) == (code, wrong), found.told


def test_mqtt_311_suffices_and_a_limit_that_it_cannot_announce_is_found(
    programs: Programs, tmp_path: Path
) -> None:
    with running(nats(tmp_path / "a")) as broker:
        found = edge_doctor(programs, "a", "--broker", broker.options.where)
        assert (found.code, found.wrong) == (0, {"read pub": "warn", "aggregator": "warn"}), found.told
        assert "MQTT 3.1.1" in found.rows["mqtt"]["detail"]
    small = nats(tmp_path / "b")
    small.config = small.config.replace("max_payload: 8388608", "max_payload: 65536")
    with running(small):
        found = edge_doctor(programs, "a", "--broker", small.options.where)
        assert found.code == 3 and found.wrong["write up"] == "fail", found.told
        assert (
            "hangs up" in found.rows["write up"]["detail"]
            and "max_packet_size" in found.rows["write up"]["advice"]
        )


def test_what_is_to_be_mended_here_comes_first(programs: Programs, closed_port: int) -> None:
    """A folder of one class and a work folder that cannot be made, with real torch; the broker is away as well."""
    folder = phantoms(programs.folder / "xrays", 2)
    for file in (folder / "PNEUMONIA").iterdir():
        file.unlink()
    run = programs.start("fl-edge", "doctor", "--json", "--broker", f"127.0.0.1:{closed_port}", "--data", folder,
                         "--workdir", UNWRITABLE, "--device", "cpu")  # fmt: skip
    assert run.wait(90) == 2, run.told()
    rows = {row["check"]: row for row in json.loads(run.out)}
    wrong = {check: row["verdict"] for check, row in rows.items() if row["verdict"] != "ok"}
    assert wrong == {"tcp": "fail", "disk": "fail", "data": "fail"}, run.told()
    assert "one class only" in rows["data"]["detail"] and "PNEUMONIA" in rows["data"]["advice"]
    assert rows["device"]["detail"].startswith("cpu (torch 2"), (
        "known although neither folder nor broker is good"
    )


def test_a_start_is_examined_without_leaving_a_trace(
    programs: Programs, rights: Broker, finished_run: Path
) -> None:
    programs.broker = rights.options.where
    options, env = as_login(rights, "aggregator")
    echo = ("--task", "echo", "--model", "tiny")
    healthy = Doctor(programs, "fl-agg", *echo, *options, "--out", "new/run", **env)
    assert (healthy.code, healthy.wrong) == (0, {}), healthy.told
    assert not (programs.folder / "new").exists()
    login = replace(rights.options, username="aggregator", password="aggregator-secret")
    last = f"fl/1/{programs.job}/up/last/event"
    with Peer(login, "look", filters=[f"fl/1/{programs.job}/#"]) as look:
        look.transport.publish(last, b"x")
        assert [frame.topic for frame in look.receive_until(last)] == [last], "nothing is retained"
    reader, env_of_reader = as_login(rights, "reader")
    barred = Doctor(programs, "fl-agg", *echo, *reader, **env_of_reader)
    assert (barred.code, barred.wrong) == (3, {"pub": "fail", "up": "warn", "dn": "fail"}), barred.told
    other_model = Doctor(
        programs, "fl-agg", "--task", "echo", "--model", "mb-1", *options, "--out", finished_run, **env
    )
    assert (other_model.code, other_model.wrong) == (2, {"run": "fail"}), other_model.told
    agg = programs.agg("--username", "aggregator", env=env)
    agg.says("waiting for clients")
    second = Doctor(programs, "fl-agg", *echo, *options, "--out", programs.run_dir, **env)
    assert (second.code, second.wrong) == (3, {"job": "fail", "run": "fail"}), second.told
    assert agg.running and "another aggregator" not in agg.out + agg.err, agg.told()


def test_a_person_reads_lines(programs: Programs) -> None:
    run = programs.start(
        "fl-edge", "doctor", "--broker", programs.broker, "--job", programs.job, "--client-id", "a", *ECHO
    )
    assert run.wait(60) == 0, run.told()
    lines = run.out.splitlines()
    assert {line.split()[0] for line in lines[:-1]} == {"ok", "warn"}
    assert lines[-1].startswith("a join would work, with 3 remarks"), run.told()
