"""What a run under faults cost, and whether anything was lost: beside the run of the same seed without them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fl_sim.faults import KINDS


@dataclass(frozen=True)
class Training:
    """One training that an edge finished; ``began`` by the machine's monotonic clock."""

    client: str
    round_number: int
    began: float


@dataclass(frozen=True)
class Lap:
    """One run of the federation from its first to its last round."""

    records: tuple[dict[str, Any], ...]
    """The lines of rounds.jsonl."""
    digest: str
    """Of the tensors that lie in global.safetensors at the end; empty if there are none."""
    seconds: float
    bytes_carried: int
    injected: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    trainings: tuple[Training, ...] = ()
    accepted: dict[tuple[str, int], float] = field(default_factory=dict)
    """When the update of a client for a round had been accepted at the latest."""
    cancelled: int = 0
    """Work that an edge gave up because it believed that nobody wanted it: with whole rounds that is never true."""
    faults: tuple[str, ...] = ()
    """What should not have happened, a line each: somebody gave up, or left something behind."""

    @property
    def rounds_closed(self) -> int:
        return sum(record["outcome"] == "closed" for record in self.records)

    def trained_twice(self) -> list[Training]:
        """Trainings that began when the update had been accepted already."""
        return [
            training
            for training in self.trainings
            if training.began > self.accepted.get((training.client, training.round_number), float("inf"))
        ]


@dataclass(frozen=True)
class Score:
    """Two laps of one seed, and what they say together."""

    seed: int
    rounds: int
    calm: Lap
    wild: Lap

    def losses(self) -> list[str]:
        """What was lost, a line each; none if all is well."""
        return [*self._of_rounds(), *self._of_work(), *self.wild.faults, *self._of_the_calm()]

    def _of_the_calm(self) -> Iterator[str]:
        yield from (f"without any fault: {line}" for line in self.calm.faults)
        if self.calm.rounds_closed != self.rounds:
            yield f"without any fault: {self.calm.rounds_closed} of {self.rounds} rounds closed"

    def _of_rounds(self) -> Iterator[str]:
        numbers = [record["round"] for record in self.wild.records]
        if numbers != list(range(1, self.rounds + 1)):
            yield f"rounds recorded: {numbers} instead of 1 to {self.rounds}"
        for record, calm in zip(self.wild.records, self.calm.records, strict=False):
            number = record["round"]
            if record["outcome"] != "closed":
                yield f"round {number} ended as {record['outcome']}"
            if record["accepted"] != calm["accepted"]:
                yield f"round {number} has the updates of {record['accepted']} instead of {calm['accepted']}"
            if record["model_sha256"] != calm["model_sha256"]:
                yield f"round {number} ends in another model than undisturbed"
        if self.wild.digest != self.calm.digest or not self.wild.digest:
            yield f"the final model is {self.wild.digest[:16] or 'missing'} instead of {self.calm.digest[:16]}"

    def _of_work(self) -> Iterator[str]:
        if self.wild.cancelled:
            yield f"{self.wild.cancelled} piece(s) of work were given up, though their round was open"
        for training in self.wild.trained_twice():
            yield (
                f"{training.client} trained for round {training.round_number} again, whose update had been accepted"
            )

    @property
    def bytes_again(self) -> int:
        """Bytes that crossed the lines beyond those of the undisturbed run."""
        return max(0, self.wild.bytes_carried - self.calm.bytes_carried)

    @property
    def seconds_lost(self) -> float:
        return max(0.0, self.wild.seconds - self.calm.seconds)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "seed": self.seed,
            "faults_injected": {kind: self.wild.injected[kind] for kind in KINDS if self.wild.injected[kind]},
            "frames_delivered_again": self.wild.copies,
            "rounds": self.rounds,
            "rounds_closed": self.wild.rounds_closed,
            "attempts": sum(record["attempts"] for record in self.wild.records),
            "bytes_sent": self.wild.bytes_carried,
            "bytes_sent_undisturbed": self.calm.bytes_carried,
            "bytes_sent_again": self.bytes_again,
            "seconds": round(self.wild.seconds, 3),
            "seconds_undisturbed": round(self.calm.seconds, 3),
            "seconds_lost": round(self.seconds_lost, 3),
            "trainings": len(self.wild.trainings),
            "updates_accepted": len(self.wild.accepted),
            "trained_again_after_acceptance": len(self.wild.trained_twice()),
            "work_cancelled": self.wild.cancelled,
            "model_sha256": self.wild.digest,
            "model_sha256_undisturbed": self.calm.digest,
            "lost": self.losses(),
        }


def total(scores: Sequence[Score]) -> dict[str, Any]:
    """All runs together."""
    parts = [score.as_json() for score in scores]
    found: dict[str, Any] = {"runs": len(parts)}
    injected: Counter[str] = Counter()
    for part in parts:
        injected.update(part["faults_injected"])
    found["faults_injected"] = {kind: injected[kind] for kind in KINDS if injected[kind]}
    for key in (
        "frames_delivered_again", "rounds", "rounds_closed", "attempts", "bytes_sent", "bytes_sent_again", "seconds",
        "seconds_undisturbed", "seconds_lost", "trainings", "updates_accepted", "trained_again_after_acceptance",
        "work_cancelled",
    ):  # fmt: skip
        found[key] = round(sum(part[key] for part in parts), 3)
    found["runs_with_the_undisturbed_model"] = sum(
        part["model_sha256"] == part["model_sha256_undisturbed"] != "" for part in parts
    )
    found["lost"] = [f"seed {part['seed']}: {line}" for part in parts for line in part["lost"]]
    return found


def board(scores: Sequence[Score]) -> list[str]:
    """The scoreboard, for people."""
    sums = total(scores)
    injected = ", ".join(f"{kind} {count}" for kind, count in sums["faults_injected"].items()) or "none"
    extra = sums["bytes_sent_again"] / max(1, sums["bytes_sent"])
    same = sums["runs_with_the_undisturbed_model"]
    twice = sums["trained_again_after_acceptance"]
    last = scores[-1].wild.digest[:16] if scores else ""
    lines = [
        f"faults      {injected}",
        f"rounds      {sums['rounds_closed']} of {sums['rounds']} closed, in {sums['runs']} run(s)",
        f"sent again  {sums['bytes_sent_again'] / 1e6:.1f} MB of {sums['bytes_sent'] / 1e6:.1f} MB ({extra:.0%})",
        f"lost time   {sums['seconds_lost']:.1f} s ({sums['seconds']:.1f} s, not {sums['seconds_undisturbed']:.1f} s)",
        f"trainings   {sums['trainings']} for {sums['updates_accepted']} updates, {twice} after acceptance",
        f"models      {same} of {sums['runs']} run(s) ended in the undisturbed model, the last in {last}",
    ]
    if sums["lost"]:
        return [*lines, *(f"LOST        {line}" for line in sums["lost"])]
    return [*lines, "nothing was lost"]
