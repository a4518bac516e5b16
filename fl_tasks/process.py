"""The parent's side of the task process: start it when needed, send requests, deliver replies. No torch here."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fl_tasks.jobs import (
    PROCESS,
    Alive,
    Cancel,
    Failed,
    Reply,
    Request,
    Score,
    Shutdown,
    Train,
    TrainingProgress,
    decode,
    encode,
)

LENGTH_BYTES = 4
STDERR_LINES = 40
PATIENCE_S = 600.0
"""How long a request may show no sign of life: tasks give one whenever they look whether they are cancelled."""
LET_GO_S = 5.0

log = logging.getLogger("hilum.task")


def read_frame(stream: IO[bytes]) -> bytes | None:
    """One length-prefixed frame, or None at the end of the stream (also inside a frame)."""
    head = stream.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    length = int.from_bytes(head, "little")
    body = stream.read(length)
    return body if len(body) == length else None


def write_frame(stream: IO[bytes], body: bytes) -> None:
    """One frame, sent at once."""
    stream.write(len(body).to_bytes(LENGTH_BYTES, "little") + body)
    stream.flush()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A child begun here has Ctrl-C blocked, until it ignores it by itself: a terminal's reaches the whole group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Child:
    """One running process: its pipes, and the requests it has not answered yet, oldest first."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        with _without_interrupts():
            self.popen = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
        self.unanswered: deque[Request] = deque()
        self.heard_at = time.monotonic()
        self.stopping = False
        self.stuck = False
        self.ended = threading.Event()
        self.tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._sending = threading.Lock()
        self.stderr_reader = threading.Thread(target=self._drain, name="task-stderr", daemon=True)
        self.stderr_reader.start()

    def send(self, request: Request) -> None:
        """Send, or do nothing if the process is gone: its reader says so."""
        with self._sending, contextlib.suppress(OSError, ValueError):
            write_frame(_open(self.popen.stdin), encode(request))

    def guard(self, patience_s: float) -> None:
        """Watch over it until it ends: kill it if what it was asked for shows no sign of life for so long."""
        while not self.ended.wait(min(1.0, patience_s / 4)):
            if self.unanswered and time.monotonic() - self.heard_at > patience_s:
                self.stuck = True
                self.popen.kill()
                return

    def _drain(self) -> None:
        for raw in _open(self.popen.stderr):
            line = raw[:2000].decode(errors="replace").rstrip()
            self.tail.append(line)
            log.debug("%s", line)

    def close(self) -> None:
        """Close the pipes of a process that has ended."""
        self.stderr_reader.join(1.0)
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()


class TaskProcess:
    """Runs tasks in a child, which starts with the first request and may be stopped whenever it is idle.

    Requests are answered in order. ``deliver`` is called on a reader thread with every reply, and must only hand
    it on; it may raise ``queue.Full`` after a while and is then called again with the same reply. A child that ends
    unasked gives one Failed of kind ``process`` for each unanswered request (one with an empty ``request`` if there
    was none); the next request starts a new child. So does a child that is silent for ``patience_s``: it is killed.

    On Linux the child also dies with the *thread* that first submits, so submit from one that lives long.
    """

    def __init__(
        self, *, device: str = "auto", plugin: str | None = None, threads: int | None = None,
        deliver: Callable[[Reply], None], patience_s: float = PATIENCE_S,
    ) -> None:  # fmt: skip
        self._device, self._plugin, self._threads, self._deliver = device, plugin, threads, deliver
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        child = self._child
        return child.popen.pid if child else None

    @property
    def running(self) -> bool:
        return self._child is not None

    @property
    def busy(self) -> bool:
        """Whether a request is unanswered."""
        child = self._child
        return child is not None and bool(child.unanswered)

    def submit(self, request: Request) -> None:
        """Send a request; starts the child if there is none."""
        with self._lock:
            child = self._child or self._start()
            if not child.unanswered:
                child.heard_at = time.monotonic()
            child.unanswered.append(request)
        child.send(request)

    def cancel(self) -> None:
        """Ask the child to give up all that was submitted so far; it answers each with Failed ``cancelled``."""
        child = self._child
        if child is not None and child.unanswered:
            child.send(Cancel())

    def kill(self) -> None:
        """End the child now. Its unanswered requests get no answer."""
        self.stop(0.0)

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the child: asked first, killed after ``timeout_s``. Nothing is delivered after this returns."""
        child, reader = self._child, self._reader
        if child is None:
            return
        child.stopping = True
        child.send(Shutdown())
        try:
            child.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.popen.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # a dead disk may hold even a killed process
                child.popen.wait(LET_GO_S)
        if reader is not None and reader is not threading.current_thread():
            reader.join(LET_GO_S)

    def _start(self) -> _Child:
        command = [
            sys.executable,
            "-m",
            "fl_tasks.worker",
            "--device",
            self._device,
            "--parent",
            str(os.getpid()),
        ]
        if self._plugin:
            command += ["--plugin", self._plugin]
        if self._threads:
            command += ["--threads", str(self._threads)]
        child = _Child(command, _environment(self._threads))
        self._child = child
        self._reader = threading.Thread(target=self._read, args=(child,), name="task-replies", daemon=True)
        self._reader.start()
        threading.Thread(target=child.guard, args=(self._patience_s,), name="task-guard", daemon=True).start()
        return child

    def _read(self, child: _Child) -> None:
        stdout = _open(child.popen.stdout)
        while (frame := read_frame(stdout)) is not None:
            reply = decode(frame)
            child.heard_at = time.monotonic()
            if isinstance(reply, Alive):
                continue
            if not isinstance(reply, TrainingProgress):
                child.unanswered.popleft()
            self._hand_on(child, reply)  # type: ignore[arg-type]
        child.popen.wait()
        child.ended.set()
        child.close()
        with self._lock:
            if self._child is child:
                self._child = None
            unanswered = list(child.unanswered)
        if not child.stopping:
            for failed in _failures(child, unanswered):
                self._hand_on(child, failed)

    def _hand_on(self, child: _Child, reply: Reply) -> None:
        """Deliver, but never wait for an owner that waits for us to end."""
        while True:
            try:
                self._deliver(reply)
            except queue.Full:  # noqa: PERF203 (the loop is the point)
                if child.stopping:
                    return
            else:
                return


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise TypeError("every stream of the child is a pipe")
    return stream


def _environment(threads: int | None) -> dict[str, str]:
    """The child's environment: this package importable, and no module of the current folder in the way."""
    env = dict(os.environ, PYTHONSAFEPATH="1")
    root = Path(__file__).resolve().parent.parent
    if root.name not in ("site-packages", "dist-packages"):
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (env.get("PYTHONPATH"), str(root))))
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    return env


def _failures(child: _Child, unanswered: list[Request]) -> list[Failed]:
    status = child.popen.returncode
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    if child.stuck:
        how = "gave no sign of life for too long and was ended"
    elif status == -signal.SIGKILL:
        how += " (the system may have run out of memory)"
    message = "\n".join([f"the task process {how}", *child.tail])
    if not unanswered:
        return [Failed("", PROCESS, message)]
    return [Failed(type(r).__name__, PROCESS, message, round_of(r)) for r in unanswered]


def round_of(request: Request) -> int:
    """The round a request belongs to, or 0."""
    return request.round_number if isinstance(request, Train | Score) else 0
