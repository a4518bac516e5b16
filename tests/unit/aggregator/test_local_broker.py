"""A broker of our own: found, started, adopted after a kill, ended; and one truth about its limits."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator import local_broker
from aggregator.local_broker import FOUND, LIMITS, MOSQUITTO, NATS, LocalBroker, find_or_start, start
from fl_protocol.errors import AccessRefused, BrokerUnavailable, ConfigError
from fl_protocol.network import Received
from fl_protocol.transport import probe
from tests.brokers import REPOSITORY, Broker, Peer, free_port, mosquitto, running, until

pytestmark = pytest.mark.broker

CHILD = """
import sys
from pathlib import Path
from aggregator.local_broker import find_or_start, start
broker = {call}
print(broker.running.pid, flush=True)
sys.stdin.read()
"""


def gone(broker: LocalBroker) -> bool:
    assert broker.running is not None
    return not broker.running.alive()


@pytest.mark.parametrize("kind", [MOSQUITTO, NATS])
def test_started_used_and_ended_without_a_trace(tmp_path: Path, kind: str) -> None:
    broker = start(tmp_path, kind=kind)
    try:
        assert broker.started and broker.kind == kind
        with Peer(broker.options, "a", filters=["n"]) as peer:
            peer.connected()
            peer.transport.publish("n", b"x" * 300_000)
            assert len(peer.next(Received).payload) == 300_000
    finally:
        broker.stop()
    assert gone(broker)
    assert [path.name for path in tmp_path.iterdir()] == [{MOSQUITTO: "mosquitto", NATS: "nats"}[kind]]
    with pytest.raises(BrokerUnavailable):
        probe(broker.options)


def test_what_is_retained_survives_a_restart(tmp_path: Path) -> None:
    for turn in range(2):
        broker = start(tmp_path, kind=MOSQUITTO)
        try:
            with Peer(broker.options, "a", filters=["n"]) as peer:
                peer.connected()
                if turn == 0:
                    peer.transport.publish("n", b"kept", retain=True)
                    peer.settle()
                else:
                    assert peer.next(Received) == Received("n", b"kept", retained=True)
        finally:
            broker.stop()


def test_one_that_answers_is_used_and_left_alone(tmp_path: Path) -> None:
    with running(mosquitto(tmp_path / "theirs")) as theirs:
        broker = find_or_start(tmp_path / "ours", port=theirs.options.port)
        assert (broker.started, broker.kind, broker.options.where) == (False, FOUND, theirs.options.where)
        broker.stop()
        assert probe(theirs.options).protocol == "5"
        assert not (tmp_path / "ours").exists()


def test_one_that_wants_a_login_is_not_shadowed(tmp_path: Path) -> None:
    broker: Broker = mosquitto(tmp_path)
    broker.config = broker.config.replace("allow_anonymous true", "allow_anonymous false")
    with (
        running(broker),
        pytest.raises(AccessRefused, match=r"runs on this host, but .* name it with --broker"),
    ):
        find_or_start(tmp_path / "ours", port=broker.options.port)


def spawn(call: str) -> tuple[subprocess.Popen[str], int]:
    """Another process that calls ``call``; and the pid of its broker."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(call=call)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    return child, int(child.stdout.readline())


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_it_outlives_a_killed_aggregator_which_then_knows_it_again(tmp_path: Path) -> None:
    port = free_port()
    child, pid = spawn(f"find_or_start(Path({str(tmp_path)!r}), port={port})")
    kill(child)
    again = find_or_start(tmp_path, port=port)
    try:
        assert again.started and again.kind == MOSQUITTO and again.running is not None
        assert again.running.pid == pid
    finally:
        again.stop()
    assert gone(again) and not (tmp_path / "broker.pid").exists()


def test_a_demonstrations_broker_dies_with_it(tmp_path: Path) -> None:
    child, pid = spawn(f"start(Path({str(tmp_path)!r}))")
    kill(child)
    until(lambda: not local_broker._born(pid), "the broker ends when its parent is killed")


def test_a_stale_pid_file_makes_nobody_ours(tmp_path: Path) -> None:
    with running(mosquitto(tmp_path / "theirs")) as theirs:
        assert theirs.process is not None
        tale = {"pid": theirs.process.pid, "born": "1", "kind": MOSQUITTO, "port": theirs.options.port}
        for text in (json.dumps(tale), "{", '{"pid": 1}'):
            (tmp_path / "broker.pid").write_text(text)
            broker = find_or_start(tmp_path, port=theirs.options.port)
            assert not broker.started
            broker.stop()
        assert theirs.process.poll() is None


def test_a_taken_port_is_said_in_one_line_and_nothing_stays(tmp_path: Path) -> None:
    refusal = r"does not start on .* free the port, or give --broker HOST"
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConfigError, match=refusal):
        start(tmp_path, port=other.getsockname()[1], kind=MOSQUITTO)
    assert not (tmp_path / "broker.pid").exists()


def test_none_installed_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(ConfigError, match=r"apt-get install mosquitto, or pip install 'hilum\[demo\]'"):
        find_or_start(tmp_path, port=free_port())


def test_wider_than_loopback_only_when_asked(tmp_path: Path) -> None:
    for listen, wide in (("127.0.0.1", False), ("0.0.0.0", True)):
        broker = start(tmp_path, listen=listen, kind=MOSQUITTO)
        try:
            assert broker.options.host == "127.0.0.1"
            with socket.socket() as caller:
                answered = caller.connect_ex(("127.0.0.2", broker.options.port)) == 0
            assert answered == wide
        finally:
            broker.stop()


def test_the_limits_are_those_of_the_shipped_file() -> None:
    shipped = (REPOSITORY / "broker/mosquitto.conf").read_text().splitlines()
    limits = [line for line in shipped if line and not line.startswith("#")]
    ours = LIMITS.splitlines()
    local = {
        "listener",
        "allow_anonymous",
        "per_listener_settings",
        "persistence",
        "persistence_location",
        "log_type",
    }
    assert ours == [line for line in limits if line.split()[0] not in local]
