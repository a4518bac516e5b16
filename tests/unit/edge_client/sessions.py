"""A session with a make-believe disk and task process: events in, effects out, nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from edge_client import events as ev
from edge_client.session import Session
from fl_protocol.messages import (
    OPEN,
    Ack,
    AggregatorState,
    DataSummary,
    Plan,
    RoundState,
    Welcome,
)
from fl_protocol.tensors import FLOAT32, Group, Manifest, TensorSpec, leaf_digests

ME, JOB, INSTANCE = "site-a", "default", "aa" * 8
AGG, AGG2 = "bb" * 8, "cc" * 8
SUMMARY = DataSummary(10, 8, 8, 2)
PLAN = Plan(local_epochs=1, batch_size=8, learning_rate=0.1, seed=7)


def payload_of(size: int, salt: int) -> bytes:
    return b"".join(hashlib.sha256(f"{salt}/{i}".encode()).digest() for i in range(-(-size // 32)))[:size]


def manifest_of(payload: bytes, group: str = "model", chunk_bytes: int = 4096) -> Manifest:
    pieces = [payload[at : at + 262144] for at in range(0, len(payload), 262144)]
    spec = TensorSpec("w", (len(payload) // 4,))
    return Manifest((Group(group, FLOAT32, (spec,)),), len(payload), chunk_bytes, leaf_digests(pieces))


MODEL_BYTES = payload_of(40_000, 1)
MODEL = manifest_of(MODEL_BYTES)
MODEL2 = manifest_of(payload_of(40_000, 2))


def update_of(
    round_number: int = 1, base: str = MODEL.digest, size: int = 600_000, attempt: int = 1
) -> ev.Update:
    manifest = manifest_of(payload_of(size, round_number + 10), "delta", 262144)
    return ev.Update(round_number, base, 8, {"loss": 0.5}, manifest, f"{round_number}-{base[:16]}-{attempt}")


def round_state(number: int = 1, phase: str = OPEN, **changes: Any) -> RoundState:
    state = RoundState(
        phase=phase, round_number=number, rounds=5, attempt=1, cohort=(ME, "site-b"), base=MODEL.digest,
        task="chest-xray", model="hilum-cnn", plan=PLAN, image_size=32,
    )  # fmt: skip
    return replace(state, **changes)


class Play:
    """Drives one session. ``disk`` are the models it finds; what it wants told, sent and trained is kept."""

    def __init__(self, disk: tuple[str, ...] = (MODEL.digest,), **given: Any) -> None:
        self.disk = set(disk)
        self.session = Session(JOB, ME, INSTANCE, models=disk, **given)
        self.now = 0.0
        self.log: list[ev.Effect] = []

    def hear(self, *events: ev.Event) -> list[ev.Effect]:
        """Hand over events and answer what asks the disk; returns the effects."""
        found: list[ev.Effect] = []
        waiting = list(events)
        while waiting:
            for effect in self.session.handle(waiting.pop(0), self.now):
                found.append(effect)
                if isinstance(effect, ev.FindModel):
                    here = effect.digest in self.disk
                    waiting.append(ev.ModelFound(effect.digest) if here else ev.ModelMissing(effect.digest))
                elif isinstance(effect, ev.OpenPart):
                    waiting.append(ev.PartOpened(effect.digest, ()))
                elif isinstance(effect, ev.SealModel):
                    self.disk.add(effect.digest)
                    waiting.append(ev.ModelFound(effect.digest))
        self.log += found
        return found

    def later(self, seconds: float, unsent: int = 0) -> list[ev.Effect]:
        self.now += seconds
        return self.hear(ev.Ticked(unsent))

    def join(self, aggregator: str = AGG) -> list[ev.Effect]:
        return self.hear(ev.BrokerConnected(None), AggregatorState(True, aggregator), Welcome(INSTANCE))

    def ready(self, state: RoundState | None = None) -> list[ev.Effect]:
        """Joined, told of a round, the data prepared."""
        self.join()
        return self.hear(state or round_state(), ev.DataPrepared(SUMMARY, 8, "cpu"))

    def trained(self, update: ev.Update | None = None) -> list[ev.Effect]:
        return self.hear(ev.UpdateKept(update or update_of()))

    def ack(self, effects: list[ev.Effect], verdict: str | None = None, **more: Any) -> list[ev.Effect]:
        """Answer the offer among ``effects``."""
        transfer = offers(effects)[0].topic.rpartition("/")[2]
        return self.hear(
            ev.AckArrived(transfer, Ack(more.pop("held", b""), more.pop("window", 0), verdict, **more))
        )


def of(kind: type[Any], effects: list[ev.Effect]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(kind: type[Any], effects: list[ev.Effect]) -> list[Any]:
    """Messages of one kind that were published."""
    return [effect.message for effect in of(ev.Send, effects) if isinstance(effect.message, kind)]


def offers(effects: list[ev.Effect]) -> list[ev.Send]:
    return [effect for effect in of(ev.Send, effects) if "/offer/" in effect.topic]


def told(effects: list[ev.Effect]) -> list[str]:
    """Names of the notices."""
    return [type(effect.notice).__name__ for effect in of(ev.Tell, effects)]
