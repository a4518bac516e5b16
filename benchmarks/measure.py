"""Watches the processes of a run from outside: CPU seconds, peak memory and loopback bytes. Linux only.

A sampler thread walks the trees of the processes that were started. CPU seconds come from each process's own CPU
clock (nanoseconds, ended threads included), 50 times a second; peak memory (VmHWM) and new processes 10 times.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x40000000, 0x8914, 0x1, 0x40
PR_SET_PDEATHSIG = 1
SAMPLE_S, LOOK_EVERY, WEIGH_EVERY = 0.02, 5, 50
STOP_S = 5.0
TICKS = os.sysconf("SC_CLK_TCK")


def private_loopback() -> bool:
    """Move this process, and what it starts, into a network namespace that holds only lo; needs root.

    False if it may not: then ports and byte counters are shared with whatever else uses lo.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return False
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP | IFF_RUNNING))
    return True


def lo_bytes_tx() -> int:
    """Bytes sent over lo so far; each is counted once more as received."""
    lines = Path("/proc/self/net/dev").read_text("ascii").splitlines()
    fields = next(line for line in lines if line.strip().startswith("lo:")).split(":")[1].split()
    return int(fields[8])


def machine_cpu_s() -> float:
    """CPU seconds spent on this machine so far, by anybody."""
    with Path("/proc/stat").open("rb") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def free_port() -> int:
    """A TCP port of lo that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on this port of lo."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def memory_available_mb() -> float:
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1024


@dataclass
class _Watched:
    role: str
    cpu_s: float = 0.0
    peak_mb: float = 0.0


@dataclass
class Processes:
    """Starts processes, watches them and their descendants, ends them.

    ``child_roles``: what the children of a role are called (else as their parent).
    """

    folder: Path
    child_roles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.started_at = 0.0
        self._popens: list[subprocess.Popen[bytes]] = []
        self._watched: dict[int, _Watched] = {}
        self._gone: list[_Watched] = []
        self.tree_peak_rss_mb = self.tree_peak_pss_mb = 0.0
        self.max_processes = 0
        self._line: list[tuple[float, dict[str, float]]] = []
        self._over = threading.Event()
        self._machine_cpu_s = machine_cpu_s()
        self._sampler = threading.Thread(target=self._sample, name="sampler", daemon=True)

    # --- starting and ending ------------------------------------------------------------------------------------

    def start(
        self, role: str, name: str, command: Sequence[str], env: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to ``folder/name.log``; it dies with us. The first starts the clock."""
        with (self.folder / f"{name}.log").open("wb") as log:
            started_at = time.time()
            popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=self.folder,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - set before any other thread of ours runs Python code in it
            )  # fmt: skip
        self._popens.append(popen)
        self._watched[popen.pid] = _Watched(role)
        if not self._sampler.is_alive():
            self.started_at = started_at
            self._sampler.start()
        return popen

    def end(self) -> None:
        """End what still runs, gently first; the last started goes first."""
        self._over.set()
        self._sampler.join()
        for popen in reversed(self._popens):
            if popen.poll() is None:
                popen.send_signal(signal.SIGTERM)
        until = time.monotonic() + STOP_S
        for popen in self._popens:
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(max(0.0, until - time.monotonic()))
            popen.kill()
            popen.wait()

    # --- the sampler --------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        count = 0
        while not self._over.is_set():
            if count % LOOK_EVERY == 0:
                self._look()
            if count % WEIGH_EVERY == 0:
                self._weigh()
            for pid, watched in list(self._watched.items()):
                with contextlib.suppress(OSError):
                    watched.cpu_s = _cpu_s(pid)
            self._line.append((time.time(), self._cpu_by_role()))
            count += 1
            self._over.wait(SAMPLE_S)

    def _look(self) -> None:
        """Find new descendants, forget the ended, note peaks."""
        for pid, watched in list(self._watched.items()):
            try:
                peak_mb = _peak_mb(pid)
            except OSError:
                peak_mb = 0.0
            if not peak_mb:  # a zombie has no memory left
                self._gone.append(self._watched.pop(pid))
                continue
            watched.peak_mb = max(watched.peak_mb, peak_mb)
            for child in _children(pid):
                role = self.child_roles.get(watched.role, watched.role)
                self._watched.setdefault(child, _Watched(role))

    def _weigh(self) -> None:
        """Memory of the whole tree at one instant; PSS counts a page that n processes share as 1/n in each."""
        rss = pss = 0.0
        for pid in list(self._watched):
            with contextlib.suppress(OSError):
                rolled = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
                rss += _field_mb(rolled, "Rss")
                pss += _field_mb(rolled, "Pss")
        self.tree_peak_rss_mb = max(self.tree_peak_rss_mb, round(rss, 1))
        self.tree_peak_pss_mb = max(self.tree_peak_pss_mb, round(pss, 1))
        self.max_processes = max(self.max_processes, len(self._watched))

    @property
    def _all(self) -> list[_Watched]:
        return [*self._gone, *self._watched.values()]

    def _cpu_by_role(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for watched in self._all:
            found[watched.role] = found.get(watched.role, 0.0) + watched.cpu_s
        return found

    # --- what was seen ------------------------------------------------------------------------------------------

    def cpu_by_role(self, begin: float = 0.0, end: float = float("inf")) -> dict[str, float]:
        """CPU seconds of all processes of a role, between two instants."""
        line = list(self._line)
        times = [instant for instant, _ in line]
        found = {}
        for role in sorted(line[-1][1]):
            seconds = [by_role.get(role, 0.0) for _, by_role in line]
            found[role] = float(np.interp(end, times, seconds)) - float(
                np.interp(begin, times, seconds, left=0.0)
            )
        return found

    def peak_mb_by_role(self) -> dict[str, float]:
        """The largest peak of any one process of a role."""
        found: dict[str, float] = {}
        for watched in self._all:
            found[watched.role] = max(found.get(watched.role, 0.0), watched.peak_mb)
        return {role: round(mb, 1) for role, mb in sorted(found.items())}

    def count_by_role(self) -> dict[str, int]:
        roles = [watched.role for watched in self._all]
        return {role: roles.count(role) for role in sorted(set(roles))}

    def foreign_cores(self) -> float:
        """Cores that others kept busy meanwhile."""
        seconds = time.time() - self.started_at
        return round(
            max(0.0, machine_cpu_s() - self._machine_cpu_s - sum(self.cpu_by_role().values())) / seconds, 2
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _cpu_s(pid: int) -> float:
    """The process's own CPU clock; see clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


def _peak_mb(pid: int) -> float:
    return _field_mb(Path(f"/proc/{pid}/status").read_text("utf-8", "replace"), "VmHWM")


def _field_mb(text: str, name: str) -> float:
    """The field of that name in a file of /proc that counts in kB; 0 if there is none."""
    found = next((line for line in text.splitlines() if line.startswith(f"{name}:")), None)
    return int(found.split()[1]) / 1024 if found else 0.0


def _children(pid: int) -> Iterator[int]:
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, listing.read_text("ascii").split())
