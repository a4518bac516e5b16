"""What an edge tells the person beside it: past-tense values, shown by console.py. No secret is among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fl_protocol.messages import DataSummary


@dataclass(frozen=True)
class ConnectionTried:
    address: str
    attempt: int = 1


@dataclass(frozen=True)
class Connected:
    """``protocol`` is MQTT's version, 5 or 3.1.1."""

    address: str
    protocol: str = ""


@dataclass(frozen=True)
class Welcomed:
    client_id: str
    job: str


@dataclass(frozen=True)
class Refused:
    reason: str


@dataclass(frozen=True)
class DataFound:
    """``notes`` are lines about files that could not be used."""

    folder: str
    summary: DataSummary
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoundJoined:
    round_number: int
    rounds: int
    cohort_size: int


@dataclass(frozen=True)
class FetchAdvanced:
    """Blocks of the global model that are here and verified."""

    round_number: int
    held: int
    total: int


@dataclass(frozen=True)
class TrainingAdvanced:
    round_number: int
    fraction: float
    loss: float | None = None


@dataclass(frozen=True)
class ModelScored:
    """What the round's base model scores on patients held out here, sent or not."""

    round_number: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class UploadAdvanced:
    """Chunks of the update that the aggregator holds."""

    round_number: int
    held: int
    total: int


@dataclass(frozen=True)
class VerdictReceived:
    """``verdict`` is accepted, rejected or late."""

    round_number: int
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class RoundDeclined:
    """This client sends no update for the round."""

    round_number: int
    reason: str


@dataclass(frozen=True)
class RoundEnded:
    round_number: int
    outcome: str
    metrics: Mapping[str, float] | None = None


@dataclass(frozen=True)
class WorkCancelled:
    round_number: int
    reason: str


@dataclass(frozen=True)
class AggregatorLost:
    """The broker says that the aggregator is away; the client waits for it."""


@dataclass(frozen=True)
class Disconnected:
    """``before``: whether there was a connection."""

    reason: str
    before: bool = True


@dataclass(frozen=True)
class ReconnectPlanned:
    delay_s: float
    attempt: int


@dataclass(frozen=True)
class Finished:
    """``model`` is the path of the newest global model, where this client keeps it."""

    rounds: int
    reason: str = ""
    model: str = ""


@dataclass(frozen=True)
class Warned:
    text: str


Event = (
    ConnectionTried | Connected | Welcomed | Refused | DataFound | RoundJoined | FetchAdvanced | TrainingAdvanced
    | ModelScored | UploadAdvanced | VerdictReceived | RoundDeclined | RoundEnded | WorkCancelled | AggregatorLost | Disconnected
    | ReconnectPlanned | Finished | Warned
)  # fmt: skip


class View(Protocol):
    """Where events go. ``close`` may be called more than once."""

    def show(self, event: Event) -> None: ...

    def close(self) -> None: ...
