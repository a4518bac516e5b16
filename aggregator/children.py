"""Our own programs as child processes: what a whole federation on one machine is made of."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from fl_protocol.errors import ConfigError, HilumError

PATIENCE_S = 15.0
KILLED_S = 5.0
PR_SET_PDEATHSIG = 1
# Looked up here: in the child of a process with threads nothing may be loaded.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)


def program(name: str) -> str:
    """The sibling program of the interpreter that runs us. Raises ConfigError if there is none."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ConfigError(
            f"{name} is not installed beside {sys.executable}: install hilum as the README says"
        )
    return found


def start_child(
    command: list[str], log: IO[bytes] | None = None, more: Mapping[str, str] | None = None, *, apart: bool = False
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start a program that ends when we are killed; ``more`` are variables of its environment.

    What it says goes to ``log``, else where ours goes. ``apart``: Ctrl-C on our terminal is not for it.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log else None,
        start_new_session=apart,
        preexec_fn=_as_our_child,  # noqa: PLW1509 - it takes no lock that a thread of ours may hold
        env=_environment() | dict(more or {}),
    )


def end_child(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end; kill it if it does not. Raises HilumError if it survives that."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            kill_child(process)


def kill_child(process: subprocess.Popen[bytes]) -> None:
    """End a process now. Raises HilumError if it is still there ``KILLED_S`` later."""
    process.kill()
    try:
        process.wait(KILLED_S)
    except subprocess.TimeoutExpired:
        raise undying(process.pid) from None


def undying(pid: int) -> HilumError:
    """Only the kernel can hold a process that was killed, in a call to a disk or a driver that does not come back."""
    return HilumError(
        f"process {pid} was killed and has not ended: a disk or driver does not answer it. It ends when that does, or "
        "with this machine's next start"
    )


def _environment() -> dict[str, str]:
    """Ours without FL_* variables: a federation on show is the same whatever the machine is set up for."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FL_")}


def _as_our_child() -> None:
    """In the child: end when our process is killed (Linux); deaf to Ctrl-C until it can answer in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _PRCTL is not None:
        _PRCTL(PR_SET_PDEATHSIG, signal.SIGTERM)
