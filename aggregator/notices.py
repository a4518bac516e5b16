"""What an aggregator tells the person who started it: past-tense values, shown by console.py. No secret is among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class BrokerStarted:
    """``kind`` is what serves: mosquitto, embedded, or found where one answered already."""

    address: str
    kind: str


@dataclass(frozen=True)
class JoinLine:
    """The command with which a client joins, without any secret."""

    command: str


@dataclass(frozen=True)
class WaitedForClients:
    present: int
    needed: int


@dataclass(frozen=True)
class ClientJoined:
    client_id: str
    num_examples: int = 0
    device: str = ""


@dataclass(frozen=True)
class ClientLeft:
    """``how`` is left (it said so) or lost (its last will)."""

    client_id: str
    how: str


@dataclass(frozen=True)
class ClientRefused:
    client_id: str
    reason: str


@dataclass(frozen=True)
class RoundOpened:
    round_number: int
    rounds: int
    cohort: tuple[str, ...]
    attempt: int = 1
    quorum: int = 0


@dataclass(frozen=True)
class TrainingAdvanced:
    client_id: str
    round_number: int
    fraction: float
    loss: float | None = None


@dataclass(frozen=True)
class UploadAdvanced:
    """Chunks of an update that the aggregator holds."""

    client_id: str
    round_number: int
    held: int
    total: int


@dataclass(frozen=True)
class UpdateAccepted:
    """``staleness`` is how many rounds older than the round the update is."""

    client_id: str
    round_number: int
    num_examples: int
    staleness: int = 0


@dataclass(frozen=True)
class UpdateRejected:
    client_id: str
    round_number: int
    reason: str


@dataclass(frozen=True)
class UpdateLate:
    client_id: str
    round_number: int


@dataclass(frozen=True)
class ClientDeclined:
    client_id: str
    round_number: int
    reason: str


@dataclass(frozen=True)
class AggregationStarted:
    round_number: int
    accepted: int


@dataclass(frozen=True)
class Evaluated:
    round_number: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RoundEnded:
    """``record`` is the line of rounds.jsonl."""

    record: Mapping[str, Any]


@dataclass(frozen=True)
class Resumed:
    """``held`` is how many accepted updates of the open round were on disk."""

    round_number: int
    rounds: int
    held: int = 0


@dataclass(frozen=True)
class ConnectionLost:
    reason: str


@dataclass(frozen=True)
class ConnectionRestored:
    address: str


@dataclass(frozen=True)
class EndedEarly:
    """The run ends before its last round; ``reason`` says why."""

    round_number: int
    reason: str


@dataclass(frozen=True)
class CommandTaken:
    """An operator asked for something; ``refusal`` says why it was not done."""

    action: str
    client_id: str = ""
    refusal: str = ""


@dataclass(frozen=True)
class WaitedForOperator:
    """``why`` there is no run; empty at the beginning."""

    why: str = ""


@dataclass(frozen=True)
class Stopped:
    """An operator stopped the run, which can be gone on with."""

    rounds: int


@dataclass(frozen=True)
class Finished:
    """``report`` is the address of report.html, ``model`` and ``best`` are paths of the global and the best model."""

    rounds: int
    report: str = ""
    model: str = ""
    best: str = ""


@dataclass(frozen=True)
class Noted:
    """Something to know once, such as where a page is."""

    text: str


@dataclass(frozen=True)
class Warned:
    text: str


Event = (
    BrokerStarted | JoinLine | WaitedForClients | ClientJoined | ClientLeft | ClientRefused | RoundOpened
    | TrainingAdvanced | UploadAdvanced | UpdateAccepted | UpdateRejected | UpdateLate | ClientDeclined
    | AggregationStarted | Evaluated | RoundEnded | Resumed | ConnectionLost | ConnectionRestored | EndedEarly | Finished
    | CommandTaken | WaitedForOperator | Stopped | Noted | Warned
)  # fmt: skip


class View(Protocol):
    """Where events go. ``close`` may be called more than once."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...
