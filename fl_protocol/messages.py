"""Every message, one frozen dataclass each, with the bounds of its fields. ``Manifest`` is in tensors.py.

Times are durations in seconds; nobody's time of day crosses the wire, save in Echo, where it decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fl_protocol.schema import blob, bounded, flag, many, maybe, number, record, table, text, whole
from fl_protocol.tensors import MAX_CHUNK_BYTES, Manifest, digest_text
from fl_protocol.topics import NAME

client_name = text(64, NAME)
instance_text = text(32, re.compile(r"[0-9a-f]{1,32}"))
metrics_table = table(number())
MAX_COHORT = 10_000
MAX_EVALUATORS = 1_000
"""So that a round with the largest cohort still fits a frame."""
FIGURE = "eval_"
"""Begins the names of metrics that are of the global model, measured on patients whom the site holds out."""
FETCH_TIME, TRAIN_TIME = "fetch_s", "train_s"
"""Metrics that are no measure of a model: seconds an edge took to have a round's base model, and to train it."""
READY, PREPARING, TRAINING, UPLOADING, FETCHING = "ready", "preparing", "training", "uploading", "fetching"
SCORING = "scoring"
LOST, LEFT = "lost", "left"
CLIENT_STATES = (PREPARING, READY, FETCHING, TRAINING, SCORING, UPLOADING, LOST, LEFT)
WAITING, OPEN, AGGREGATING, FINISHED, STOPPED = "waiting", "open", "aggregating", "finished", "stopped"
ACCEPTED, REJECTED, LATE = "accepted", "rejected", "late"
LAUNCH, MORE, PAUSE, RESUME, FINISH_ROUND, STOP, EVICT = (
    "launch", "more", "pause", "resume", "finish-round", "stop", "evict",
)  # fmt: skip
ACTIONS = (LAUNCH, MORE, PAUSE, RESUME, FINISH_ROUND, STOP, EVICT)
"""What an operator can ask of an aggregator: begin a run; so many rounds more of it; open no further round; go on;
stop when the open round has ended; stop now; send a client away.
"""
MAX_LINE_BYTES = 256 * 1024


@dataclass(frozen=True)
class AggregatorState:
    """``pub/agg``, retained; also its last will (``online`` false). ``echo`` answers a Probe."""

    online: bool = bounded(flag)
    instance: str = bounded(instance_text)
    echo: str | None = bounded(maybe(instance_text), default=None)
    seq: int = bounded(whole(0), default=0)
    """Counts up with all that ``instance`` says, a last will behind the last of its connection (:func:`state_seq`)."""


@dataclass(frozen=True)
class Plan:
    """How an edge trains in a round."""

    local_epochs: int = bounded(whole(0, 10_000))
    batch_size: int = bounded(whole(1, 65_536))
    learning_rate: float = bounded(number(0.0, 1e6))
    seed: int = bounded(whole(0, 2**63 - 1))
    local_steps: int | None = bounded(maybe(whole(1, 10**9)), default=None)
    proximal_mu: float = bounded(number(0.0, 1e6), default=0.0)
    momentum: float = bounded(number(0.0, 1.0), default=0.9)
    weight_decay: float = bounded(number(0.0, 1.0), default=0.0)
    options: dict[str, float] | None = bounded(maybe(metrics_table), default=None)
    control_variates: bool = bounded(flag, default=False)
    """SCAFFOLD: the model brings the group ``control``, and the update one of its own."""
    local_norms: bool = bounded(flag, default=False)
    """FedBN: normalisation layers go on from the client's own values of the round before."""


@dataclass(frozen=True)
class LastRound:
    """What became of the round before, for those who only read."""

    round_number: int = bounded(whole(0, 10**9))
    outcome: str = bounded(text(16))
    accepted: int = bounded(whole(0, MAX_COHORT))
    rejected: int = bounded(whole(0))
    stragglers: int = bounded(whole(0, MAX_COHORT))
    duration_s: float = bounded(number(0.0))
    metrics: dict[str, float] | None = bounded(maybe(metrics_table))
    client_metrics: dict[str, float] | None = bounded(maybe(metrics_table), default=None)
    stale: int = bounded(whole(0), default=0)
    """Updates of earlier rounds that were folded in."""


@dataclass(frozen=True)
class RoundState:
    """``pub/round``, retained: the open round, or what the aggregator waits for."""

    phase: str = bounded(text(16))
    round_number: int = bounded(whole(0, 10**9))
    rounds: int = bounded(whole(0, 10**9))
    attempt: int = bounded(whole(0, 10**6))
    cohort: tuple[str, ...] = bounded(many(client_name, MAX_COHORT))
    base: str | None = bounded(maybe(digest_text))
    task: str = bounded(text(100))
    model: str = bounded(text(100))
    plan: Plan | None = bounded(maybe(record(Plan)))
    image_size: int = bounded(whole(0, 65_536), default=0)
    quorum: int = bounded(whole(0, MAX_COHORT), default=0)
    min_clients: int = bounded(whole(0, MAX_COHORT), default=0)
    accepted: int = bounded(whole(0, MAX_COHORT), default=0)
    grace_s: float = bounded(number(0.0), default=0.0)
    deadline_s: float = bounded(number(0.0), default=0.0)
    last: LastRound | None = bounded(maybe(record(LastRound)), default=None)
    reason: str = bounded(text(300), default="")
    max_staleness: int = bounded(whole(0, 10**6), default=0)
    """How many rounds an update may be behind and still be folded in, discounted; 0: none."""
    evaluators: tuple[str, ...] | None = bounded(maybe(many(client_name, MAX_EVALUATORS)), default=None)
    """Who scores ``base`` on patients it holds out, those of the cohort among them; None: the whole cohort does."""
    refused: int = bounded(whole(0), default=0)
    """Refusals of all kinds in the round under way; like ``accepted`` it may lag some seconds behind."""
    instance: str | None = bounded(maybe(instance_text), default=None)
    """The aggregator's process."""
    run_id: str | None = bounded(maybe(instance_text), default=None)
    """Of the run, whatever its name: another one begins anew, with rounds of the same numbers and perhaps one base."""
    seq: int = bounded(whole(0), default=0)
    """Counts up with all that ``instance`` says, so that what comes late is known for old."""


@dataclass(frozen=True)
class Chunk:
    """One chunk of a model block or of an upload."""

    index: int = bounded(whole(0, 10**7))
    data: bytes = bounded(blob(MAX_CHUNK_BYTES))


@dataclass(frozen=True)
class DataSummary:
    """A folder as counts only: nothing in it points at an image or a person."""

    images: int = bounded(whole())
    patients: int = bounded(whole())
    train_images: int = bounded(whole())
    val_images: int = bounded(whole())
    unreadable: int = bounded(whole(), default=0)
    duplicates: int = bounded(whole(), default=0)
    classes: dict[str, int] | None = bounded(maybe(table(whole())), default=None)


@dataclass(frozen=True)
class ClientState:
    """``up/<client>/state``, retained; also its last will (``state`` lost)."""

    instance: str = bounded(instance_text)
    state: str = bounded(text(16, re.compile("|".join(CLIENT_STATES))))
    round_number: int = bounded(whole(0, 10**9), default=0)
    num_examples: int = bounded(whole(0, 10**10), default=0)
    summary: DataSummary | None = bounded(maybe(record(DataSummary)), default=None)
    device: str = bounded(text(64), default="")
    figures: dict[str, float] | None = bounded(maybe(metrics_table), default=None)
    """What a global model scored here on patients held out; None if nothing was, or the site keeps it to itself."""
    scored_round: int = bounded(whole(0, 10**9), default=0)
    """The round that began with that model."""
    seq: int = bounded(whole(0), default=0)
    """Counts up with all that ``instance`` says, a last will behind the last of its connection (:func:`state_seq`)."""


@dataclass(frozen=True)
class Hello:
    """``event``: may this instance use this client id? Answered by Welcome or Refusal."""

    instance: str = bounded(instance_text)


@dataclass(frozen=True)
class Pong:
    """``event``: the answer to Ping."""

    instance: str = bounded(instance_text)


@dataclass(frozen=True)
class Progress:
    """``event``: how far training is, 0 to 1, with the loss so far."""

    round_number: int = bounded(whole(0, 10**9))
    fraction: float = bounded(number(0.0, 1.0))
    loss: float | None = bounded(maybe(number()), default=None)


@dataclass(frozen=True)
class Decline:
    """``event``: this client sends no update for this round, and why."""

    round_number: int = bounded(whole(0, 10**9))
    reason: str = bounded(text(300))


@dataclass(frozen=True)
class Scored:
    """``event``: what the round's base model scores on patients whom a client that does not train holds out."""

    round_number: int = bounded(whole(0, 10**9))
    base: str = bounded(digest_text)
    metrics: dict[str, float] = bounded(metrics_table)


@dataclass(frozen=True)
class Offer:
    """``offer/<transfer>``: an update is ready. The transfer id is :func:`transfer_id`."""

    round_number: int = bounded(whole(0, 10**9))
    base: str = bounded(digest_text)
    num_examples: int = bounded(whole(0, 10**10))
    manifest: Manifest = bounded(record(Manifest))
    metrics: dict[str, float] | None = bounded(maybe(metrics_table), default=None)


@dataclass(frozen=True)
class Ack:
    """``ack/<transfer>``: chunks held (one bit each, lowest first), chunks that may be under way, verdict."""

    held: bytes = bounded(blob(MAX_COHORT * 100))
    window: int = bounded(whole(0, 4096))
    verdict: str | None = bounded(maybe(text(16)), default=None)
    reason: str = bounded(text(300), default="")


@dataclass(frozen=True)
class Welcome:
    """``control``: this instance is the client now."""

    instance: str = bounded(instance_text)


@dataclass(frozen=True)
class Refusal:
    """``control``: this instance must go away (its name is in use, or it was evicted)."""

    instance: str = bounded(instance_text)
    reason: str = bounded(text(300))


@dataclass(frozen=True)
class Ping:
    """``control``: is this instance still there?"""

    instance: str = bounded(instance_text)


@dataclass(frozen=True)
class Cancel:
    """``control``: stop working for this round."""

    round_number: int = bounded(whole(0, 10**9))
    reason: str = bounded(text(300), default="")


@dataclass(frozen=True)
class Rejection:
    """``control``: a frame or update was refused, by name, outside any transfer we know."""

    round_number: int = bounded(whole(0, 10**9))
    reason: str = bounded(text(300))


@dataclass(frozen=True)
class Probe:
    """Is anybody there? Asked on ``dn/_aggregator/control``, an aggregator that serves the job answers with ``echo``
    in its birth; asked by an edge's doctor on any ``up/`` topic, it answers with Echo, and nothing else changes.
    """

    instance: str = bounded(instance_text)
    padding: bytes = bounded(blob(MAX_CHUNK_BYTES), default=b"")
    """As long as a chunk: whether one would arrive."""


@dataclass(frozen=True)
class Echo:
    """``control`` and ``ack/<transfer>``: an edge's Probe arrived. ``holder`` is the state of whoever has its name."""

    instance: str = bounded(instance_text)
    heard: str = bounded(text(16))
    holder: str = bounded(text(16), default="")
    clock_s: float = bounded(number(0.0, 1e12), default=0.0)
    """The aggregator's time of day, for a doctor's remark: nothing is ever decided by it."""


@dataclass(frozen=True)
class RunInfo:
    """``op/run``, retained: the run of a job, for those who operate it. Never what a site keeps to itself."""

    instance: str = bounded(instance_text)
    run: str = bounded(text(64))
    """The name of its run directory; empty while an aggregator waits to be told."""
    config: bytes = bounded(blob(MAX_LINE_BYTES))
    """config.json, as it is on disk; empty while there is no run."""
    accepts: tuple[str, ...] = bounded(many(text(16), len(ACTIONS)))
    """The actions that would be accepted now."""
    paused: bool = bounded(flag, default=False)
    stopping: bool = bounded(flag, default=False)
    """It stops when the open round has ended."""
    first: int = bounded(whole(0, 10**7), default=0)
    newest: int = bounded(whole(0, 10**7), default=0)
    """Rounds ``first`` to ``newest`` are retained on ``op/round/<number>``; 0: none are."""


@dataclass(frozen=True)
class RoundLine:
    """``op/round/<number>``, retained: an ended round."""

    line: bytes = bounded(blob(MAX_LINE_BYTES))
    """Its line of rounds.jsonl: JSON in UTF-8, lists of clients cut to the first thousand."""
    run: str = bounded(text(64), default="")


@dataclass(frozen=True)
class Command:
    """``op/command``: an operator asks for something. Answered by Answer with the same ``id``."""

    id: str = bounded(instance_text)
    action: str = bounded(text(16, re.compile("|".join(ACTIONS))))
    settings: dict[str, str] | None = bounded(maybe(table(text(1000))), default=None)
    """LAUNCH: options of ``fl-agg start`` by name (``learning_rate``), each as one would type it. MORE: ``rounds``."""
    client: str = bounded(text(64), default="")
    """EVICT: whom."""


@dataclass(frozen=True)
class Answer:
    """``op/answer``: whether the command was accepted, and if not why, for a person."""

    id: str = bounded(instance_text)
    ok: bool = bounded(flag)
    reason: str = bounded(text(1000), default="")


Message = (
    AggregatorState | RoundState | Manifest | Chunk | ClientState | Hello | Pong | Progress | Decline | Scored | Offer
    | Ack | Welcome | Refusal | Ping | Cancel | Rejection | Probe | Echo
    | RunInfo | RoundLine | Command | Answer
)  # fmt: skip


def figures_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures among ``metrics``, by their names without FIGURE."""
    return {name.removeprefix(FIGURE): value for name, value in metrics.items() if name.startswith(FIGURE)}


STATES_A_CONNECTION = 2**20


def state_seq(connection: int, said: int | None = None) -> int:
    """``seq`` of the ``said``-th state told in a connection (counted from 0); None: of its last will."""
    last = STATES_A_CONNECTION - 1
    return connection * STATES_A_CONNECTION + (last if said is None else min(said, last))


def transfer_id(round_number: int, digest: str) -> str:
    """The same update has the same transfer id on every try, so that sending it twice changes nothing."""
    return f"{round_number}-{digest[:32]}"
