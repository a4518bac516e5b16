"""``fl-sim chaos``: a real federation under faults on a seeded schedule, beside the same run without any.

    undisturbed run -> digest, bytes, seconds
    run under faults: watch the rounds, do what is due, undo what is over, start again who was killed
    scoreboard: what it cost, and whether anything was lost

One thread drives both; only the proxies have threads of their own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from fl_protocol.errors import DataError, HilumError
from fl_protocol.modelfile import read_header
from fl_protocol.tensors import MAX_CHUNK_BYTES
from fl_sim.faults import BROKER, SLOW, Fault, schedule, site
from fl_sim.fleet import Fleet, FleetSettings
from fl_sim.line import PROFILES, goodput
from fl_sim.scoreboard import Lap, Score, Training
from fl_sim.story import Story

TICK_S = 0.02
STUCK_S = 180.0
"""So long without anything happening is no progress; added to it is what the model's way over the line takes."""
CANCELLED = " cancelled reason="
"""What an edge says when it gives up the work of a round."""
FAREWELL_S = 60.0
"""How long an edge may take to leave after the aggregator has."""


@dataclass(frozen=True)
class ChaosSettings:
    rounds: int
    clients: int
    profile: str
    kinds: tuple[str, ...]
    seed: int
    minutes: float
    out: Path
    kilobytes: int = 1000
    pause_s: float = 0.3

    def fleet(self, seed: int) -> FleetSettings:
        """The federation of one run."""
        return FleetSettings(
            self.rounds, self.clients, PROFILES[self.profile], seed, self.kilobytes, self.pause_s
        )

    @property
    def transfer_s(self) -> float:
        """How long the model takes down the line and up again."""
        line = PROFILES[self.profile]
        return sum(self.kilobytes * 1000 / goodput(line, up) for up in (True, False)) + 4 * line.round_trip_s

    def schedule(self, seed: int) -> tuple[Fault, ...]:
        """The faults of one run."""
        return schedule(self.kinds, self.rounds, self.clients, seed, 2 * self.pause_s + self.transfer_s)


Say = Callable[[str], None]


def chaos(settings: ChaosSettings, say: Say) -> list[Score]:
    """Run until ``minutes`` are over, at least once: each time a pair of runs with the next seed."""
    until = time.monotonic() + 60 * settings.minutes
    scores: list[Score] = []
    while not scores or (time.monotonic() < until and not scores[-1].losses()):
        seed = settings.seed + len(scores)
        folder = settings.out / f"seed-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        say(
            f"seed {seed}: undisturbed run of {settings.rounds} rounds, {settings.clients} edges, {settings.profile}"
        )
        calm = lap(settings, seed, (), folder / "undisturbed", say)
        say(f"seed {seed}: {calm.rounds_closed} rounds in {calm.seconds:.1f} s; the same under faults")
        wild = lap(settings, seed, settings.schedule(seed), folder / "disturbed", say)
        scores.append(Score(seed, settings.rounds, calm, wild))
        losses = scores[-1].losses()
        say(f"seed {seed}: {'; '.join(losses) if losses else 'the same model, nothing lost'}")
        if not losses and len(scores) > 1:
            shutil.rmtree(settings.out / f"seed-{seed - 1}", ignore_errors=True)
    return scores


def lap(settings: ChaosSettings, seed: int, faults: Sequence[Fault], folder: Path, say: Say) -> Lap:
    """One run to its end, or to where it cannot go on."""
    fleet = Fleet(settings.fleet(seed), folder)
    with fleet:
        run = _Run(fleet, list(faults), say, STUCK_S + 20 * settings.transfer_s)
        run.drive()
        finished = replace(run.lap(), bytes_carried=fleet.bytes_carried(), copies=fleet.copies())
    return replace(finished, faults=(*finished.faults, *fleet.left_running(), *fleet.left_behind()))


@dataclass
class _Active:
    """A fault that lasts."""

    fault: Fault
    until: float


@dataclass
class _Run:
    """The driver of one run."""

    fleet: Fleet
    waiting: list[Fault]
    say: Say
    stuck_s: float
    story: Story = field(default_factory=Story)
    active: list[_Active] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    _ended: int = 0

    def drive(self) -> None:
        """Until everybody has left, somebody gave up, or nothing moves any more."""
        self.story.moved_at = time.monotonic()
        with (self.fleet.folder / "aggregator.log").open("rb") as log:
            while not self.failed and not self._over():
                now = time.monotonic()
                self._listen(log, now)
                self.failed += self.fleet.tend(now)
                self._undo(now)
                self._inject(now)
                self._replay()
                self._look_for_trouble(now)
                time.sleep(TICK_S)
            self._listen(log, time.monotonic())

    def _listen(self, log: IO[bytes], now: float) -> None:
        while line := log.readline():
            if not line.endswith(b"\n"):
                log.seek(-len(line), 1)  # half of one: the rest comes, or its writer was killed
                return
            self.story.hear(line.decode(errors="replace").rstrip(), now)

    def _over(self) -> bool:
        return all(member.exit_code == 0 for member in self.fleet.members.values())

    def _look_for_trouble(self, now: float) -> None:
        gone = self.fleet.aggregator.exit_code == 0
        early = [edge.name for edge in self.fleet.edges if edge.exit_code == 0]
        if early and not gone and len(self.story.ended) < self.fleet.settings.rounds:
            self.failed.append(f"{', '.join(early)} left before the last round had ended")
        quiet_s = now - max(self.story.moved_at, *(each.until for each in self.active), 0.0)
        if quiet_s > (FAREWELL_S if gone else self.stuck_s):
            last = {name: self.fleet.last_line(name) for name in self.fleet.names}
            self.failed.append(f"nothing moves in round {self.story.round_number}; last words: {last}")

    # --- faults ---------------------------------------------------------------------------------------------------

    def _inject(self, now: float) -> None:
        for fault in [fault for fault in self.waiting if self._is_due(fault, now)]:
            if self._can(fault):
                self.waiting.remove(fault)
                self._do(fault, now)

    def _is_due(self, fault: Fault, now: float) -> bool:
        number = self.story.round_number
        return number > fault.round_number or (
            number == fault.round_number and now >= self.story.since + fault.after_s
        )

    def _can(self, fault: Fault) -> bool:
        """Not whom is down already; and not the broker when nobody could tell it again what it forgot."""
        if fault.kind == "kill-broker":
            late = self.story.round_number >= self.fleet.settings.rounds
            return not late and not any(each.fault.kind == fault.kind for each in self.active)
        member = self.fleet.members[fault.target]
        return member.back_at is None and member.exit_code is None and member.alive

    def _do(self, fault: Fault, now: float) -> None:
        fleet, kind = self.fleet, fault.kind
        self.say(f"  {fault}")
        self.injected[kind] += 1
        if kind == "kill-broker":
            fleet.kill_broker()
        elif kind.startswith("kill"):
            fleet.kill(fault.target, fault.lasts_s)
        elif kind == "half-open":
            fleet.lines[fault.target].half_open()
        elif kind == "cut":
            fleet.lines[fault.target].refuse()
            fleet.lines[fault.target].cut()
        elif kind == "slow":
            fleet.lines[fault.target].shape(SLOW)
        elif kind == "stall":
            fleet.lines[fault.target].stall()
        elif kind == "dup":
            fleet.lines[fault.target].double(True)
        else:
            raise HilumError(f"no fault of kind {kind}")
        if kind not in ("kill-agg", "kill-edge", "half-open"):
            self.active.append(_Active(fault, now + fault.lasts_s))

    def _undo(self, now: float) -> None:
        for over in [each for each in self.active if now >= each.until]:
            self.active.remove(over)
            kind, target = over.fault.kind, over.fault.target
            if any((each.fault.kind, each.fault.target) == (kind, target) for each in self.active):
                continue  # the same again, which lasts longer
            if target == BROKER:
                self.fleet.restart_broker()
                continue
            line = self.fleet.lines[target]
            if kind == "cut":
                line.accept()
            elif kind == "slow":
                line.shape(self.fleet.settings.line)
            elif kind == "stall":
                line.flow()
            else:
                line.replay()
                line.double(False)

    def _replay(self) -> None:
        """A round has ended: whatever was delivered in it while frames are doubled comes again within the next."""
        if len(self.story.ended) > self._ended:
            self._ended = len(self.story.ended)
            for each in self.active:
                if each.fault.kind == "dup":
                    self.fleet.lines[each.fault.target].replay(self.fleet.settings.pause_s / 2)

    # --- what came of it ----------------------------------------------------------------------------------------------

    def lap(self) -> Lap:
        """All but the lines' counters."""
        return Lap(
            records=tuple(_records(self.fleet.run_dir)),
            digest=_digest(self.fleet.run_dir / "global.safetensors"),
            seconds=self.story.seconds(),
            bytes_carried=0,
            injected=self.injected,
            trainings=tuple(_trainings(self.fleet.notes)),
            accepted=self.story.accepted,
            cancelled=sum(self.fleet.said(edge.name).count(CANCELLED) for edge in self.fleet.edges),
            faults=tuple(self.failed),
        )


def _records(run_dir: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in (run_dir / "rounds.jsonl").read_text("utf-8").splitlines()]
    except OSError:
        return []


def _digest(model: Path) -> str:
    """Of the bytes that lie there, whatever the file says of itself."""
    with contextlib.suppress(OSError, DataError):
        return read_header(model).manifest("model", MAX_CHUNK_BYTES).digest
    return ""


def _trainings(notes: Path) -> list[Training]:
    if not notes.exists():
        return []
    lines = [json.loads(line) for line in notes.read_text("utf-8").splitlines()]
    return [Training(site(line["shard"]), line["round"], line["began"]) for line in lines]
