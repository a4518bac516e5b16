"""A real network between an edge and the broker: a namespace of its own, a virtual cable, and the kernel's token bucket.

Root only (elsewhere skipped); this kernel needs no netem for it. Whatever happens, the namespace and all in it go.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fl_protocol.broker import BrokerOptions
from tests.brokers import AS_OURSELVES, Broker, free_port, running
from tests.e2e.processes import ECHO, SCRIPTS, Program, Programs, until

SBIN = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
IP, TC = (shutil.which(name, path=SBIN) for name in ("ip", "tc"))
HERE, THERE = "10.203.77.1", "10.203.77.2"
RATE = "8mbit"


def run(*words: str) -> str:
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=20)
    return done.stdout


@dataclass
class Site:
    """A place at the other end of a cable."""

    name: str
    cable: str

    def inside(self, *words: str) -> list[str]:
        """The command that runs ``words`` there."""
        assert IP
        return [IP, "netns", "exec", self.name, *words]

    def pull(self) -> None:
        """The cable is out."""
        run(str(IP), "link", "set", self.cable, "down")

    def plug(self) -> None:
        run(str(IP), "link", "set", self.cable, "up")

    def sent_bytes(self) -> int:
        """What has left the site through its token bucket."""
        told = run(*self.inside(str(TC), "-s", "qdisc", "show", "dev", "eth0"))
        return int(told.partition("Sent ")[2].split()[0])


@pytest.fixture
def site() -> Iterator[Site]:
    if os.geteuid() != 0 or IP is None or TC is None:
        pytest.skip("needs root, ip and tc")
    tag = uuid.uuid4().hex[:8]
    place = Site(f"hilum-{tag}", f"hl{tag}")
    try:
        try:
            run(IP, "netns", "add", place.name)
            run(IP, "link", "add", place.cable, "type", "veth", "peer", "name", "eth0", "netns", place.name)
            run(IP, "addr", "add", f"{HERE}/30", "dev", place.cable)
            run(IP, "link", "set", place.cable, "up")
            for words in (("addr", "add", f"{THERE}/30", "dev", "eth0"), ("link", "set", "eth0", "up")):
                run(*place.inside(IP, *words))
            bucket = ("tbf", "rate", RATE, "burst", "16kb", "latency", "200ms")
            run(*place.inside(TC, "qdisc", "add", "dev", "eth0", "root", *bucket))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no namespaces here: {error.stderr.strip()}")
        yield place
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            for pid in run(IP, "netns", "pids", place.name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(subprocess.CalledProcessError):
            run(IP, "netns", "del", place.name)  # the cable goes with its end
        with contextlib.suppress(subprocess.CalledProcessError):
            run(IP, "link", "del", place.cable)


@pytest.fixture
def broker_there(site: Site, tmp_path: Path) -> Iterator[Broker]:
    """It listens at our end of the cable for the edge, and on loopback for the aggregator."""
    port = free_port()
    listeners = [f"listener {port} {address}" for address in (HERE, "127.0.0.1")]
    lines = [*listeners, "allow_anonymous true", "log_type all", *AS_OURSELVES, ""]
    found = Broker("mosquitto", tmp_path / "broker", "\n".join(lines), BrokerOptions("127.0.0.1", port))
    with running(found):
        yield found


def edge_at(site: Site, programs: Programs, port: int) -> Program:
    """``fl-edge join`` in the namespace."""
    words = site.inside(
        str(SCRIPTS / "fl-edge"), "join", "--broker", f"{HERE}:{port}", "--job", programs.job, "--client-id", "edge1",
        "--workdir", str(programs.folder / "edge1"), *ECHO,
    )  # fmt: skip
    started = Program(words, programs.folder, programs.env, programs.folder / "edge-in-namespace")
    programs.started.append(started)
    return started


def test_a_slow_uplink_and_a_pulled_cable(site: Site, broker_there: Broker, programs: Programs) -> None:
    """2 MB at 8 Mbit/s; the cable is out for a moment in the middle of the upload; one connection does it all."""
    programs.broker = broker_there.options.where
    agg = programs.agg("--rounds", 1, "--min-clients", 1, "--model", "mb-2")
    edge = edge_at(site, programs, broker_there.options.port)
    until(lambda: site.sent_bytes() > 500_000, f"a part of the update is on its way{edge.told()}")
    site.pull()
    time.sleep(1.0)
    before = site.sent_bytes()
    assert not programs.rounds()
    site.plug()
    assert agg.wait(60) == 0, agg.told()
    assert edge.wait() == 0, edge.told()
    assert site.sent_bytes() > 2_000_000 > before
    (record,) = programs.rounds()
    assert (record["outcome"], record["accepted"]) == ("closed", ["edge1"])
    connections = [line for line in broker_there.log.read_text().splitlines() if " as edge1-" in line]
    assert len(connections) == 1, connections
