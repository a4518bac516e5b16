"""Real ``fl-agg`` and ``fl-edge`` processes for tests: started, waited for within bounds, ended, none left behind.

Every program runs in a session of its own and carries a mark in its environment that its children inherit, so that
a task process or a broker which outlives its parent is found however it was orphaned.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCRIPTS = Path(sys.executable).parent
MARK = "HILUM_TEST_MARK"
ECHO = ("--plugin", "echo_task")
ECHO_JOB = ("--task", "echo", "--model", "tiny", *ECHO)
PATIENCE_S = 60.0
LET_GO_S = 5.0
"""How long after the end of a program its children may take to follow it."""


def until(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """Wait until ``condition()`` is true and return it; AssertionError with ``what`` after ``timeout_s``."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)
    return found


def marked(mark: str) -> dict[int, str]:
    """Living processes that carry ``mark``, with their command lines."""
    found = {}
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


class Program:
    """One command, its output in two files beside each other."""

    def __init__(self, words: list[str], folder: Path, env: Mapping[str, str], log: Path) -> None:
        self.words, self.name, self.mark = words, log.name, uuid.uuid4().hex
        self.stdout, self.stderr = log.with_name(f"{log.name}.out"), log.with_name(f"{log.name}.err")
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                words, cwd=folder, env={**env, MARK: self.mark}, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip

    @property
    def out(self) -> str:
        return self.stdout.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self.stderr.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def told(self) -> str:
        """Everything it said, for a failed assertion."""
        state = "running" if self.running else f"ended with {self.process.returncode}"
        return f"\n--- {self.name} ({state}): {' '.join(self.words)}\n{self.out}\n--- stderr\n{self.err}"

    def says(self, pattern: str, timeout_s: float = PATIENCE_S, times: int = 1) -> re.Match[str]:
        """Wait until it has printed what matches ``pattern``; the last match."""

        def found() -> re.Match[str] | None:
            alive = self.running
            matches = list(re.finditer(pattern, f"{self.out}\n{self.err}"))
            assert alive or len(matches) >= times, f"ended without {pattern!r}{self.told()}"
            return matches[-1] if len(matches) >= times else None

        try:
            match: re.Match[str] = until(found, f"{self.name} says {pattern!r}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}{self.told()}") from None
        return match

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code. Nothing of it may run on after it."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s{self.told()}") from None
        until(lambda: not self.living(), f"{self.name} leaves nothing running: {self.living()}", LET_GO_S)
        return code

    def living(self) -> dict[int, str]:
        """Its process and its descendants that still run."""
        return marked(self.mark)

    def send(self, number: signal.Signals) -> None:
        """A signal to the program alone, as ``kill`` sends it."""
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """Ctrl-C: to the whole group, as a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """``kill -9``, as the machine's own killer does it: no farewell; its children must notice."""
        self.process.kill()
        self.process.wait(10)

    def peak_mb(self) -> float:
        """Peak resident memory so far of the program itself."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]

    def end(self) -> None:
        """Whatever it takes."""
        if self.running:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


class Programs:
    """The programs of one test, in one folder. ``broker`` and ``job`` go into every command."""

    def __init__(self, folder: Path, broker: str, job: str) -> None:
        self.folder, self.broker, self.job = folder, broker, job
        self.log_folder = folder
        self.started: list[Program] = []
        self.env = clean_environment()

    @property
    def run_dir(self) -> Path:
        """Where ``agg`` writes by default."""
        return self.folder / "run"

    def start(self, program: str, *arguments: object, name: str = "", env: Mapping[str, str] | None = None) -> Program:  # fmt: skip
        """Start ``program`` (``fl-agg``, ``fl-edge``) with just these arguments."""
        words = [str(SCRIPTS / program), *(str(word) for word in arguments)]
        title = f"{len(self.started)}-{name or program}"
        started = Program(words, self.folder, {**self.env, **(env or {})}, self.log_folder / title)
        self.started.append(started)
        return started

    def agg(self, *arguments: object, env: Mapping[str, str] | None = None, name: str = "agg") -> Program:
        """``fl-agg start`` of an echo job; later options win over these."""
        given = ("--broker", self.broker, "--job", self.job, "--out", self.run_dir, *ECHO_JOB)
        return self.start("fl-agg", "start", *_without_doubles(given, arguments), name=name, env=env)

    def edge(self, client: str, *arguments: object, env: Mapping[str, str] | None = None, name: str = "") -> Program:  # fmt: skip
        """``fl-edge join`` as ``client`` with the echo task."""
        given = ("--broker", self.broker, "--job", self.job, "--client-id", client, "--workdir", self.folder / client,
                 *ECHO)  # fmt: skip
        return self.start(
            "fl-edge", "join", *_without_doubles(given, arguments), name=name or client, env=env
        )

    def rounds(self) -> list[dict[str, Any]]:
        """The records of the ended rounds."""
        return rounds(self.run_dir)

    def close(self) -> None:
        """End what runs; AssertionError if something outlived its program."""
        for program in self.started:
            program.end()
        left: dict[int, str] = {}
        end = time.monotonic() + LET_GO_S
        while time.monotonic() < end:
            left = {pid: words for program in self.started for pid, words in program.living().items()}
            if not left:
                return
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        raise AssertionError(f"left running: {left}")


def clean_environment() -> dict[str, str]:
    """Ours without the settings of the person who runs the tests; the modules of this tree and the plug-ins of this folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FL_", "ECHO_"))}
    return kept | {
        "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parents[1]))),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


def _without_doubles(given: tuple[object, ...], arguments: tuple[object, ...]) -> tuple[object, ...]:
    """``given`` options (each with a value) that ``arguments`` do not name, then ``arguments``."""
    pairs = list(zip(given[::2], given[1::2], strict=True))
    return (*(word for pair in pairs if pair[0] not in arguments for word in pair), *arguments)


def rounds(run_dir: Path) -> list[dict[str, Any]]:
    """The records of the rounds that ended in a run directory; none if there is none yet."""
    file = run_dir / "rounds.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
