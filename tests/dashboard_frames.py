"""Frames of a made-up federation, as an aggregator and its clients would send them: for tests of the dashboard, and for
the benchmark that has fifty and a thousand of them.
"""

from __future__ import annotations

import json
from typing import Any

from fl_protocol.codec import encode
from fl_protocol.messages import (
    Ack,
    AggregatorState,
    ClientState,
    DataSummary,
    Message,
    Offer,
    Plan,
    Progress,
    RoundLine,
    RoundState,
    RunInfo,
    transfer_id,
)
from fl_protocol.tensors import LEAF_BYTES, Group, Manifest, TensorSpec
from fl_web.dashboard.view import View
from tests.federations import record

AGG, SITE = "a1", "b1"
PLAN = Plan(1, 16, 0.05, 0)
SIZE = 4 * 100_000
MANIFEST = Manifest(
    (Group("delta", "f32", (TensorSpec("w", (SIZE // 4,)),)),),
    SIZE,
    16 * 1024,
    bytes(32 * -(-SIZE // LEAF_BYTES)),
)


def transfer(number: int) -> str:
    """What an update of that round is called."""
    return transfer_id(number, MANIFEST.digest)


def offer(number: int) -> Offer:
    return Offer(number, "0" * 64, 100, MANIFEST)


TRANSFER, OFFER = transfer(1), offer(1)


def told(view: View, topic: str, message: Message | None, now: float = 0.0, *, retained: bool = False,
         job: str = "default") -> None:  # fmt: skip
    """``message`` comes on ``topic`` below the job; None: the topic is cleared."""
    view.take(f"fl/1/{job}/{topic}", encode(message) if message else b"", retained, now)


def state(word: str = "ready", seq: int = 0, instance: str = SITE, **more: Any) -> ClientState:
    plain: dict[str, Any] = {"summary": DataSummary(100, 60, 80, 20), "num_examples": 80}
    return ClientState(instance, word, seq=seq, **plain | more)


def opened(*cohort: str, number: int = 1, **more: Any) -> RoundState:
    plain: dict[str, Any] = {
        "quorum": 1,
        "min_clients": 1,
        "grace_s": 10.0,
        "deadline_s": 60.0,
        "instance": AGG,
        "rounds": 3,
    }
    return RoundState(
        phase="open", round_number=number, attempt=1, cohort=cohort, base="0" * 64, task="chest-xray",
        model="hilum-cnn", plan=PLAN, image_size=64, **plain | more,
    )  # fmt: skip


def line(number: int, run: str = "runs", **changes: Any) -> RoundLine:
    return RoundLine(json.dumps(record(number, **changes)).encode(), run)


def info(run: str = "runs", **more: Any) -> RunInfo:
    plain: dict[str, Any] = {"config": b"{}", "accepts": ("pause",)}
    return RunInfo(AGG, run, **plain | more)


def progress(fraction: float, number: int = 1) -> Progress:
    return Progress(number, fraction, 0.5)


def held(count: int) -> Ack:
    """So many chunks have arrived."""
    return Ack(((1 << count) - 1).to_bytes(MANIFEST.num_chunks // 8 + 1, "little"), 8)


def verdict(word: str, reason: str = "") -> Ack:
    return Ack(b"", 0, word, reason)


def birth(online: bool = True, instance: str = AGG, seq: int = 0) -> AggregatorState:
    return AggregatorState(online, instance, seq=seq)


def parts(view: View) -> dict[str, Any]:
    """All parts, decoded."""
    return {name: json.loads(text) for name, text in view.parts.since(0).items()}


def events(view: View, job: str = "default") -> list[str]:
    return [part["text"] for name, part in parts(view).items() if name.startswith(f"event/{job}/")]
