"""A job as the broker's retained topics tell it, also when the aggregator is dead.

``collect`` is pure: messages in, a :class:`JobStatus` out. ``read_retained`` asks the broker; frames that are no
message of ours are counted and shown, never fatal. A job that the broker knows nothing of is a ConfigError (exit 2),
since the name or the broker is most likely wrong; a job whose aggregator is away is an answer like any other (exit 0).

``--json`` prints one object with these keys, always all of them:

    job, aggregator_online (true, false, or null where it never said), phase, round, rounds, attempt, cohort ([id]),
    quorum, min_clients, accepted, refused, base (digest or null), task, model, image_size, reason, malformed (frames),
    plan ({local_epochs, batch_size, learning_rate, ...} or null),
    clients ({id: {state, round, num_examples, device, images, patients, classes, figures, scored_round}}; images,
    patients and classes null if unsaid; figures of the base model of scored_round, null if none are shared),
    last ({round, outcome, accepted, rejected, stragglers, duration_s, metrics, client_metrics} or null)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fl_protocol.codec import decode
from fl_protocol.errors import ConfigError, DecodeError
from fl_protocol.messages import AggregatorState, ClientState, LastRound, Message, Plan, Probe, RoundState
from fl_protocol.topics import Topic, parse, watcher_filters

if TYPE_CHECKING:
    from fl_protocol.broker import BrokerOptions
    from fl_protocol.network import Received

QUIET_S, LONGEST_S = 0.5, 10.0
MOST_FRAMES = 100_000
Reading = tuple[str, bytes]
"""A topic and the frame retained on it."""


@dataclass(frozen=True)
class ClientStatus:
    """What a client last said of itself."""

    state: str
    round_number: int
    num_examples: int
    device: str
    images: int | None = None
    patients: int | None = None
    classes: Mapping[str, int] | None = None
    figures: Mapping[str, float] | None = None
    scored_round: int = 0


@dataclass(frozen=True)
class JobStatus:
    """All that retained topics tell of one job. ``aggregator_online`` is None where none ever said."""

    job: str
    aggregator_online: bool | None = None
    phase: str = ""
    round_number: int = 0
    rounds: int = 0
    attempt: int = 0
    cohort: tuple[str, ...] = ()
    quorum: int = 0
    min_clients: int = 0
    accepted: int = 0
    base: str | None = None
    task: str = ""
    model: str = ""
    image_size: int = 0
    plan: Plan | None = None
    reason: str = ""
    clients: Mapping[str, ClientStatus] = field(default_factory=dict)
    last: LastRound | None = None
    malformed: int = 0
    refused: int = 0

    @property
    def known(self) -> bool:
        """Whether the broker holds anything of this job."""
        return self.aggregator_online is not None or bool(self.phase or self.clients or self.malformed)


def collect(job: str, messages: Iterable[tuple[Topic, Message]], malformed: int = 0) -> JobStatus:
    """The status of ``job``. Of several messages on a topic the last counts; other jobs' are left out."""
    aggregator: AggregatorState | None = None
    state: RoundState | None = None
    clients: dict[str, ClientStatus] = {}
    for topic, message in messages:
        if topic.job != job:
            continue
        if isinstance(message, AggregatorState):
            aggregator = message
        elif isinstance(message, RoundState):
            state = message
        elif isinstance(message, ClientState):
            clients[topic.client] = _client(message)
    online = aggregator.online if aggregator else None
    ordered = {name: clients[name] for name in sorted(clients)}
    if state is None:
        return JobStatus(job, online, clients=ordered, malformed=malformed)
    return JobStatus(
        job, online, state.phase, state.round_number, state.rounds, state.attempt, state.cohort, state.quorum,
        state.min_clients, state.accepted, state.base, state.task, state.model, state.image_size, state.plan,
        state.reason, ordered, state.last, malformed, state.refused,
    )  # fmt: skip


def _client(message: ClientState) -> ClientStatus:
    told = message.summary
    return ClientStatus(
        message.state, message.round_number, message.num_examples, message.device,
        told.images if told else None, told.patients if told else None, told.classes if told else None,
        message.figures, message.scored_round,
    )  # fmt: skip


def status_of(job: str, readings: Iterable[Reading]) -> JobStatus:
    """The status of ``job`` from raw frames, malformed ones counted. An empty frame is a cleared topic."""
    messages: list[tuple[Topic, Message]] = []
    malformed = 0
    for name, frame in readings:
        if frame and (pair := _decoded(name, frame)):
            messages.append(pair)
        elif frame:
            malformed += 1
    return collect(job, messages, malformed)


def _decoded(name: str, frame: bytes) -> tuple[Topic, Message] | None:
    try:
        topic = parse(name)
        return topic, decode(frame, topic.kind)
    except DecodeError:
        return None


def read_status(options: BrokerOptions, job: str) -> JobStatus:
    """The status of ``job`` on a broker. Raises ConfigError if the broker knows no such job."""
    status = status_of(job, read_retained(options, watcher_filters(job)))
    if status.known:
        return status
    others = jobs_in(read_retained(options, watcher_filters("+")))
    hint = f"it has {', '.join(others[:8])}" if others else "it has none at all"
    raise ConfigError(f"no job {job!r} on the broker {options.where} ({hint}): give --job or --broker")


def jobs_in(readings: Iterable[Reading]) -> list[str]:
    """The jobs that readable frames belong to."""
    pairs_found = (_decoded(name, frame) for name, frame in readings if frame)
    return sorted({pair[0].job for pair in pairs_found if pair})


def read_retained(options: BrokerOptions, filters: Sequence[str], quiet_s: float = QUIET_S,
                  longest_s: float = LONGEST_S) -> list[Reading]:  # fmt: skip
    """What the broker retains on ``filters``: read until ``quiet_s`` passed without news, ``longest_s`` at most.

    Raises BrokerUnavailable or what the transport calls fatal.
    """
    from fl_protocol.visit import Visit

    with Visit(options, "hilum-status", most_frames=MOST_FRAMES) as visit:
        visit.ask(filters)
        visit.connect()
        visit.listen(quiet_s, longest_s)
        return newest(visit.received)


def _is_probe(name: str, frame: bytes) -> bool:
    """Whether a doctor asks there: nothing that the topic keeps."""
    pair = _decoded(name, frame)
    return pair is not None and isinstance(pair[1], Probe)


def newest(frames: Iterable[Received]) -> list[Reading]:
    """The newest frame of each topic. Live frames count too: they are newer than what was retained."""
    return list({it.topic: it.payload for it in frames if not _is_probe(it.topic, it.payload)}.items())


def as_json(status: JobStatus) -> dict[str, Any]:
    """The object that ``--json`` prints; the module's docstring names its keys."""
    body = asdict(status)
    body["round"] = body.pop("round_number")
    body["cohort"] = list(status.cohort)
    for client in body["clients"].values():
        client["round"] = client.pop("round_number")
    if body["last"] is not None:
        body["last"]["round"] = body["last"].pop("round_number")
    return body


def aggregator_word(status: JobStatus) -> str:
    """online, away, or unknown where none ever spoke."""
    return {True: "online", False: "away", None: "unknown"}[status.aggregator_online]
