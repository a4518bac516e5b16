"""A federation of real processes on this machine that can be hurt: a broker, an aggregator, edges, and a line to each.

Whoever is killed is started again by the same command when its time is over; who ends by itself with a fault is a
finding. All of it ends when the fleet is closed, or when we are killed.
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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from aggregator import local_broker
from aggregator.children import end_child, kill_child, program, start_child
from fl_sim import light_task
from fl_sim.faults import AGGREGATOR, site
from fl_sim.line import Line
from fl_sim.proxy import FaultProxy

MARK = "HILUM_CHAOS"
JOB = "chaos"
KEEPALIVE_S = 5
"""A connection that went dead is noticed after two of them: soon enough for a schedule of seconds."""
LET_GO_S = 5.0
"""How long after the end of a program its children may take to follow it."""
WHOLE_ROUNDS = (
    "--cohort",
    "1.0",
    "--quorum",
    "1.0",
    "--grace",
    "3600",
    "--deadline",
    "3600",
    "--retries",
    "9",
)
"""A model can be the same to the last bit only if the same updates enter every round: so each round waits for all."""


@dataclass(frozen=True)
class FleetSettings:
    """``pause_s``: how long a training takes; ``kilobytes``: the size of the model."""

    rounds: int
    clients: int
    line: Line
    seed: int
    kilobytes: int = 1000
    pause_s: float = 0.3


@dataclass
class Member:
    """A program of the fleet, alive or about to be started again."""

    name: str
    command: list[str]
    log: IO[bytes]
    process: subprocess.Popen[bytes]
    back_at: float | None = None
    """It was killed by us, and is to be started again then."""
    exit_code: int | None = None
    """It ended by itself."""

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


@dataclass
class Fleet:
    """Use it as a context; call :meth:`tend` often."""

    settings: FleetSettings
    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __enter__(self) -> Fleet:  # noqa: PYI034 - Self needs Python 3.11
        self._stack = ExitStack()
        with contextlib.ExitStack() as undo:
            undo.push(self._stack)
            self._start()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members.values():  # all at once; then each is waited for
            with contextlib.suppress(ProcessLookupError):
                member.process.terminate()
        self._stack.close()

    def _stop_broker(self) -> None:
        self.broker.stop()  # the last one, which may not be the first

    def _start(self) -> None:
        self.folder.mkdir(parents=True)
        self.broker = local_broker.start(self.folder / "broker")
        self._stack.callback(self._stop_broker)
        self.lines = {name: self._line(name) for name in self.names}
        self.members: dict[str, Member] = {}
        for name in self.names:
            self.members[name] = self._member(name)

    @property
    def names(self) -> list[str]:
        """Everybody but the broker; the aggregator first."""
        return [AGGREGATOR, *(site(k) for k in range(1, self.settings.clients + 1))]

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def notes(self) -> Path:
        """Where every training is noted."""
        return self.folder / "trainings.jsonl"

    @property
    def aggregator(self) -> Member:
        return self.members[AGGREGATOR]

    @property
    def edges(self) -> list[Member]:
        return [self.members[name] for name in self.names[1:]]

    def _line(self, name: str) -> FaultProxy:
        options = self.broker.options
        seed = self.settings.seed * 1000 + self.names.index(name)
        proxy = FaultProxy((options.host, options.port), self.settings.line, seed=seed, mqtt=True)
        self._stack.enter_context(proxy)
        return proxy

    def _member(self, name: str) -> Member:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("ab"))
        command = self._command(name)
        member = Member(name, command, log, self._run(command, log))
        self._stack.callback(lambda: end_child(member.process))
        return member

    def _run(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        more = {
            MARK: self.mark, light_task.NOTES: str(self.notes), light_task.PAUSE: str(self.settings.pause_s),
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        return start_child(command, log, more, apart=True)

    def _command(self, name: str) -> list[str]:
        here, clients = self.settings, str(self.settings.clients)
        common = [
            "--broker", self.lines[name].where, "--keepalive", str(KEEPALIVE_S), "--connect-timeout", "0",
            "--job", JOB, "--plugin", light_task.__name__,
        ]  # fmt: skip
        if name == AGGREGATOR:
            return [
                program("fl-agg"), "start", *common, "--rounds", str(here.rounds), "--min-clients", clients,
                *WHOLE_ROUNDS, "--task", light_task.NAME, "--model", light_task.model_name(here.kilobytes),
                "--seed", str(here.seed), "--out", str(self.run_dir),
            ]  # fmt: skip
        return [
            program("fl-edge"), "join", *common, "--client-id", name, "--workdir", str(self.folder / name),
            "--shard", f"{name.removeprefix(site(0)[:-1])}/{clients}",
        ]  # fmt: skip

    # --- faults ---------------------------------------------------------------------------------------------------

    def kill(self, name: str, away_s: float) -> None:
        """SIGKILL; it is started again after ``away_s``."""
        member = self.members[name]
        kill_child(member.process)
        member.back_at = time.monotonic() + away_s

    def kill_broker(self) -> None:
        """SIGKILL of the broker; what it kept is gone too."""
        child = self.broker.child
        assert child is not None
        kill_child(child)
        shutil.rmtree(self.broker.state_dir)

    def restart_broker(self) -> None:
        """On its port, knowing nothing."""
        self.broker = local_broker.start(self.broker.state_dir, self.broker.options.port)

    def tend(self, now: float) -> list[str]:
        """Start those whose time has come; returns a line for each that ended by itself with a fault."""
        faults = []
        for member in self.members.values():
            if member.back_at is not None:
                if now >= member.back_at:
                    member.back_at = None
                    member.process = self._run(member.command, member.log)
            elif member.exit_code is None and not member.alive:
                member.exit_code = member.process.returncode
                if member.exit_code:
                    faults.append(
                        f"{member.name} ended with {member.exit_code}: {self.last_line(member.name)}"
                    )
        return faults

    # --- what is left -----------------------------------------------------------------------------------------------

    def bytes_carried(self) -> int:
        """All that parties and broker have sent each other, copies of ours not counted."""
        counts = [line.counts() for line in self.lines.values()]
        return sum(count.up_bytes + count.down_bytes for count in counts)

    def copies(self) -> int:
        """Frames delivered once more by us."""
        return sum(line.counts().copies for line in self.lines.values())

    def last_line(self, name: str) -> str:
        """What a program said last."""
        lines = self.said(name).strip().splitlines()
        return lines[-1] if lines else ""

    def said(self, name: str) -> str:
        """All that a program said in all its lives."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def left_running(self) -> list[str]:
        """Processes of ended programs that live on: a line each (Linux; elsewhere they are not looked for)."""
        give_up = time.monotonic() + LET_GO_S
        while (found := sorted(self._living().items())) and time.monotonic() < give_up:
            time.sleep(0.05)
        for pid, _ in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [f"process {pid} left running: {words}" for pid, words in found]

    def _living(self) -> dict[int, str]:
        return {pid: words for pid, words in marked(self.mark) if pid != os.getpid()}

    def left_behind(self) -> list[str]:
        """Temporary files and updates that an ended run should not leave: a line each."""
        drafts = [*self.folder.rglob("*.tmp"), *self.folder.rglob("*.part"), *self.run_dir.glob("spool/*")]
        return [f"file left behind: {path.relative_to(self.folder)}" for path in sorted(drafts)]


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Living processes whose environment carries ``mark``, with their command lines."""
    wanted = f"{MARK}={mark}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
