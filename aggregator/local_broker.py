"""A broker on this host: the one that answers, else one of our own (mosquitto, or nats-server from a Python package).

A broker that ``find_or_start`` started outlives a killed aggregator, so that edges stay connected; started again,
the aggregator finds it by its port, knows it by its pid file, and ends it when it leaves in good order.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aggregator.children import KILLED_S, undying
from fl_protocol.errors import AccessRefused, BrokerUnavailable, ConfigError
from fl_protocol.transport import BrokerOptions, probe

LIMITS = """\
autosave_interval 60
max_packet_size 1048576
max_inflight_messages 20
max_queued_messages 4000
max_queued_bytes 67108864
persistent_client_expiration 1d
max_keepalive 300
set_tcp_nodelay true
sys_interval 10
"""
"""Those of broker/mosquitto.conf, which a wheel does not carry; a test holds the two together."""

FOUND, MOSQUITTO, NATS = "found", "mosquitto", "nats-server"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
PR_SET_PDEATHSIG = 1
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach ourselves on a wide listener


@dataclass(frozen=True)
class _Running:
    """A broker process of ours, also across a restart: a pid counts only with its start time."""

    pid: int
    born: str
    kind: str
    port: int

    def alive(self) -> bool:
        return self.born != "" and _born(self.pid) == self.born


@dataclass(frozen=True)
class LocalBroker:
    """A broker on this host. ``started``: by us, so ``stop`` ends it; a found one is left alone."""

    options: BrokerOptions
    started: bool
    kind: str
    state_dir: Path
    running: _Running | None = None
    child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def stop(self) -> None:
        """End the broker if it is ours. What it keeps for its next start stays in ``state_dir``.

        Raises HilumError if it survives being killed; its pid file stays then.
        """
        if self.running is None:
            return
        _end(self.running)
        if self.child is not None:
            self.child.wait(KILLED_S)
        for name in ("broker.pid", "broker.conf", "broker.log"):
            (self.state_dir / name).unlink(missing_ok=True)


def find_or_start(state_dir: Path, port: int = 1883, listen: str = "127.0.0.1") -> LocalBroker:
    """The broker that answers MQTT on this host, else a new one that listens on ``listen``.

    Raises AccessRefused if one answers and wants a login, ConfigError if none can be started.
    """
    state_dir = state_dir.resolve()
    options = BrokerOptions(_ANY_ADDRESS.get(listen, listen), port)
    try:
        probe(options, timeout_s=3.0)
    except AccessRefused as refused:
        raise AccessRefused(f"a broker runs on this host, but {refused}; name it with --broker") from None
    except BrokerUnavailable:
        return start(state_dir, port, listen, outlive_us=True)
    ours = _read_pid_file(state_dir)
    if ours is not None and ours.port == port and ours.alive():
        return LocalBroker(options, True, ours.kind, state_dir, ours)
    return LocalBroker(options, False, FOUND, state_dir)


def start(
    state_dir: Path,
    port: int = 0,
    listen: str = "127.0.0.1",
    *,
    outlive_us: bool = False,
    kind: str | None = None,
) -> LocalBroker:
    """A new broker on ``port`` (0: a free one), which ends with us if we are killed, unless ``outlive_us``."""
    state_dir = state_dir.resolve()
    state_dir.mkdir(parents=True, exist_ok=True)
    kind, program = installed_broker(kind)
    host = _ANY_ADDRESS.get(listen, listen)
    port = port or _free_port(host)
    config = state_dir / "broker.conf"
    config.write_text((_mosquitto_conf if kind == MOSQUITTO else _nats_conf)(state_dir, port, listen))
    with (state_dir / "broker.log").open("wb") as log:
        child = subprocess.Popen(
            [program, "-c", str(config)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end it in order
            preexec_fn=None if outlive_us else _die_with_parent,  # noqa: PLW1509 - before any thread of ours
        )  # fmt: skip
    running = _Running(child.pid, _born(child.pid), kind, port)
    broker = LocalBroker(BrokerOptions(host, port), True, kind, state_dir, running, child)
    try:
        (state_dir / "broker.pid").write_text(json.dumps(asdict(running)))
        _await_answer(broker, child)
    except BaseException:
        broker.stop()
        raise
    return broker


def installed_broker(kind: str | None = None) -> tuple[str, str]:
    """The kind of broker that :func:`start` would start, and its program. Raises ConfigError if there is none."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    beside = str(Path(sys.executable).parent)
    for name, where in ((MOSQUITTO, path), (NATS, beside + os.pathsep + path)):
        found = shutil.which(name, path=where)
        if found is not None and kind in (None, name):
            return name, found
    raise ConfigError(
        "no MQTT broker answers on this host and none is installed: apt-get install mosquitto, or "
        "pip install 'hilum[demo]', or give --broker HOST"
    )


def _mosquitto_conf(state_dir: Path, port: int, listen: str) -> str:
    data = state_dir / "mosquitto"
    data.mkdir(exist_ok=True)
    user = pwd.getpwuid(os.getuid()).pw_name  # as root it would become a user who cannot write here
    return (
        f"per_listener_settings false\nlistener {port} {listen}\nallow_anonymous true\nuser {user}\n"
        f"persistence true\npersistence_location {data}/\n{LIMITS}log_type error\nlog_type warning\n"
    )


def _nats_conf(state_dir: Path, port: int, listen: str) -> str:
    address = f"[{listen}]:{port}" if ":" in listen else f"{listen}:{port}"
    return (
        "host: 127.0.0.1\nport: -1\nserver_name: hilum\nmax_payload: 8388608\n"
        f"jetstream {{\n  store_dir: {json.dumps(str(state_dir / 'nats'))}\n}}\n"
        f'mqtt {{\n  listen: "{address}"\n  max_ack_pending: 2000\n}}\n'
    )


def _await_answer(broker: LocalBroker, child: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    while child.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(BrokerUnavailable):
            probe(broker.options, timeout_s=1.0)
            return
        time.sleep(0.02)
    lines = (broker.state_dir / "broker.log").read_text(errors="replace").strip().splitlines()
    said = lines[-1] if lines else f"exit code {child.poll()}"
    raise ConfigError(
        f"{broker.kind} does not start on {broker.options.where} ({said}): free the port, or give --broker HOST"
    )


def _end(running: _Running) -> None:
    for sign, patience_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, KILLED_S)):
        if not running.alive():
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, sign)
        give_up = time.monotonic() + patience_s
        while running.alive() and time.monotonic() < give_up:
            time.sleep(0.01)
    if running.alive():
        raise undying(running.pid)


def _born(pid: int) -> str:
    """When the process began, in a form that only compares; empty if it is gone (or a zombie)."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _born_by_ps(pid) if not Path("/proc/self/stat").exists() else ""
    return "" if state in "ZX" else rest[18]


def _born_by_ps(pid: int) -> str:
    told = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    stat, _, began = told.stdout.strip().partition(" ")
    return "" if stat.startswith("Z") else began.strip()


def _read_pid_file(state_dir: Path) -> _Running | None:
    try:
        return _Running(**json.loads((state_dir / "broker.pid").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as free:
        return int(free.getsockname()[1])


def _die_with_parent() -> None:
    """In the child: SIGTERM when our process is killed (Linux; elsewhere it is only ended in order)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
