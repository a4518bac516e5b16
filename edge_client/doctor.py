"""``fl-edge doctor``: would a join work? Judgements first, then the hands that gather what they judge.

Rights are tried for real, since brokers grant subscriptions that they never serve. With an aggregator there, a Probe
on every topic an edge writes comes back as an Echo on both it reads; nothing else changes, for a running edge of the
same name neither. Without one, our own frames come back where the broker lets everybody do everything; else it is
said that the rights could not be tried.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from edge_client.site import Site
from edge_client.store import OLDER_MODELS, folder_in_use
from fl_protocol import doctor as dr
from fl_protocol.codec import decode, encode
from fl_protocol.errors import DecodeError, HilumError
from fl_protocol.messages import (
    FINISHED,
    LEFT,
    LOST,
    AggregatorState,
    Chunk,
    ClientState,
    Echo,
    Message,
    Probe,
    RoundState,
)
from fl_protocol.network import Connected
from fl_protocol.tensors import Manifest, chunk_bytes_for
from fl_protocol.topics import Kind, Topic, client_filters, parse
from fl_protocol.visit import Visit, free_bytes, path_to, write_trial
from fl_tasks.defaults import DEFAULT_TASK
from fl_tasks.doctor import Questions

LISTEN_S, ANSWER_S, MODEL_S = 2.0, 10.0, 5.0
"""How long to wait for what is retained, for an aggregator's answers, and for a chunk of the model."""
TRANSFER = "doctor"
WRITTEN = (Kind.STATE, Kind.EVENT, Kind.OFFER, Kind.CHUNK)
READ = (Kind.CONTROL, Kind.ACK)
GRANTS = {"up": "write fl/1/+/up/%u/#", "dn": "read fl/1/+/dn/%u/#", "pub": "read fl/1/+/pub/#"}
IMAGES_MB = 64 * 1024 * 1024


@dataclass(frozen=True)
class Trial:
    """What came of trying."""

    protocol: str = "5"
    refused: Mapping[Kind, str] = field(default_factory=dict)
    """What the broker said no to, and how."""
    echoes: frozenset[tuple[str, Kind]] = frozenset()
    """What an aggregator heard (``event``), and the topic on which it told us."""
    looped: frozenset[Kind] = frozenset()
    """Our own frames that came back."""
    published: frozenset[Kind] = frozenset()
    """What came of ``pub/``."""
    aggregator: AggregatorState | None = None
    round: RoundState | None = None
    manifest: Manifest | None = None
    echo: Echo | None = None
    state: ClientState | None = None
    """What the client last said of itself, where the broker lets us read it."""

    @property
    def answered(self) -> bool:
        """Whether an aggregator answered."""
        return bool(self.echoes)

    @property
    def online(self) -> bool:
        """Whether one is said to be there, or has answered."""
        return self.answered or bool(self.aggregator and self.aggregator.online)


# --- judgements -----------------------------------------------------------------------------------------------


def judge_trial(site: Site, trial: Trial) -> list[dr.Finding]:
    """All that was tried, in the order in which a person would mend it."""
    access = [judge_pub(site, trial), judge_up(site, trial), judge_dn(site, trial)]
    return [*access, judge_aggregator(site, trial), *judge_name(site, trial)]


def judge_pub(site: Site, trial: Trial) -> dr.Finding:
    """Reading what is for all: the round, the model's manifest, one chunk of it."""
    if trial.published:
        wanted = {Kind.AGG, Kind.ROUND} | (
            {Kind.MODEL, Kind.BLOCK} if trial.round and trial.round.base else set()
        )
        missing = _names(wanted - trial.published)
        if not missing:
            return dr.ok("read pub", "came: " + _names(trial.published))
        told = f"{missing} did not come, other things of pub/ did"
        if trial.online:
            return dr.fail("read pub", told, f"grant {site.login} '{GRANTS['pub']}' (broker/acl)", dr.THERE)
        return dr.warn("read pub", told, "the aggregator will lay it out anew when it is back")
    if trial.answered:
        return dr.fail("read pub", "an aggregator answers, yet nothing of pub/ arrives",
                       f"grant {site.login} '{GRANTS['pub']}' (broker/acl)", dr.THERE)  # fmt: skip
    return dr.warn("read pub", f"nothing is published for job {site.job!r}, so reading it could not be tried",
                   "check --job, or start the aggregator and ask again")  # fmt: skip


def judge_up(site: Site, trial: Trial) -> dr.Finding:
    """Writing our own topics."""
    grant = f"join under the login's name (--client-id), or grant {site.login} '{GRANTS['up']}' (broker/acl)"
    refused = {kind: why for kind, why in trial.refused.items() if kind in WRITTEN}
    hangs_up = [why for why in refused.values() if "hangs up" in why or "largest packet" in why]
    if hangs_up:
        return dr.fail("write up", hangs_up[0], "raise its max_packet_size to 1048576", dr.THERE)
    if refused:
        why = f"the broker does not let {site.login} write {_names(refused)} of {site.client!r}"
        return dr.fail("write up", why, grant, dr.THERE)
    heard = {kind for kind in WRITTEN if any(name == kind.name.lower() for name, _ in trial.echoes)}
    arrived = heard or trial.looped & set(WRITTEN)
    how = "the aggregator heard" if heard else "came back to us:"
    if set(WRITTEN) <= arrived:
        return dr.ok("write up", f"{how} {_names(arrived)}")
    if arrived:
        return dr.fail(
            "write up", f"{how} {_names(arrived)}, but not {_names(set(WRITTEN) - arrived)}", grant, dr.THERE
        )
    if trial.online and trial.protocol != "5":  # a 3.1.1 broker is silent about what it throws away
        return dr.fail("write up", "the aggregator is said to be there and does not answer", grant, dr.THERE)
    if trial.online:
        return dr.warn("write up", "the broker takes it, but no answer shows that it arrives")
    return _untried("write up", trial)


def judge_dn(site: Site, trial: Trial) -> dr.Finding:
    """Reading what is for us."""
    grant = (
        f"grant {site.login} '{GRANTS['dn']}' (broker/acl), and see that the aggregator lives: fl-agg status"
    )
    came = {via for _, via in trial.echoes}
    arrived = came or trial.looped & set(READ)
    if set(READ) <= arrived:
        return dr.ok(
            "read dn",
            ("the aggregator's answers came by " if came else "came back to us: ") + _names(arrived),
        )
    if arrived:
        missing = _names(set(READ) - arrived)
        return dr.fail("read dn", f"{_names(arrived)} came, but not {missing}", grant, dr.THERE)
    if trial.online and not trial.refused:
        return dr.fail(
            "read dn", "the aggregator is said to be there, and no answer of it arrives", grant, dr.THERE
        )
    return _untried("read dn", trial)


def _untried(check: str, trial: Trial) -> dr.Finding:
    why = "nothing went out" if trial.refused else "the aggregator is away"
    return dr.warn(check, f"{why}, so this right could not be tried", "ask again when that is mended"
                   if trial.refused else "ask again when it is back")  # fmt: skip


def judge_aggregator(site: Site, trial: Trial) -> dr.Finding:
    """Who serves the job, and where it stands."""
    state = trial.round
    stands = f"job {site.job!r}"
    if state is not None:
        stands += f": {state.phase}, round {state.round_number} of {state.rounds}, task {state.task}, model {state.model}"
    if trial.answered:
        return dr.ok("aggregator", f"serves {stands}")
    if trial.online:
        return dr.warn("aggregator", f"is said to serve {stands}, but has not answered", "see fl-agg status")
    if state is not None and state.phase == FINISHED:
        return dr.warn(
            "aggregator",
            f"has ended {stands}",
            "a join would leave at once; start the job with more --rounds",
        )
    if trial.aggregator is not None or state is not None:
        return dr.warn("aggregator", f"is away; {stands}", "a join waits until fl-agg start runs again")
    return dr.warn(
        "aggregator",
        f"none has ever served {stands} on this broker",
        "check --job and --broker; a join waits",
    )


def judge_name(site: Site, trial: Trial) -> list[dr.Finding]:
    """Whether the client id is free. An aggregator knows; without one, what the broker kept is a hint."""
    advice = "stop it, or give this one another --client-id"
    if trial.echo is None:
        kept = trial.state.state if trial.state else LEFT
        told = f"{site.client!r} was last heard of as {kept}, and never left"
        return [] if kept in (LEFT, LOST) else [dr.warn("client id", told, advice)]
    if trial.echo.holder:
        told = f"{site.client!r} is in use by an edge that is {trial.echo.holder}"
        return [dr.fail("client id", told, advice, dr.THERE)]
    return [dr.ok("client id", f"{site.client!r} is free")]


def needed_bytes(trial: Trial) -> int:
    """Room for the models an edge keeps, one on its way, its update, and the images it has resized."""
    if trial.manifest is None:
        return 0
    return (1 + OLDER_MODELS + 1 + 1) * trial.manifest.size + IMAGES_MB


def _names(kinds: Iterable[Kind]) -> str:
    return ", ".join(sorted(kind.name.lower() for kind in kinds))


# --- hands ----------------------------------------------------------------------------------------------------


def examine(site: Site) -> Iterator[dr.Finding]:
    """Every finding, as soon as it is known."""
    questions = Questions(site.device, site.plugin, site.threads)
    try:
        trial = Trial()
        path = []
        for finding in path_to(site.broker):
            path.append(finding)
            yield finding
        if dr.exit_code(path) == 0:
            trial = yield from _visit(site)
        yield from _this_machine(site, trial, questions)
    finally:
        questions.stop()


def _this_machine(site: Site, trial: Trial, questions: Questions) -> Iterator[dr.Finding]:
    error = write_trial(site.workdir)
    yield dr.judge_disk(site.workdir, "--workdir", error, free_bytes(site.workdir), needed_bytes(trial))
    if error is None and folder_in_use(site.workdir):
        yield dr.fail("workdir", f"another fl-edge works in {site.workdir}",
                      "stop it, or give this one a --client-id or --workdir of its own", dr.THERE)  # fmt: skip
    task = trial.round.task if trial.round and trial.round.task else DEFAULT_TASK
    yield questions.inspect(task)
    yield from _data(site, trial, task, questions)
    yield dr.judge_clock(time.time(), trial.echo.clock_s if trial.echo else None)


def _data(site: Site, trial: Trial, task: str, questions: Questions) -> list[dr.Finding]:
    if site.data is None and task == DEFAULT_TASK:
        return [dr.warn("data", "not looked at", "name the folder with --data DIR")]
    return questions.data(site.data_options(task, trial.round.image_size if trial.round else 0))


def _visit(site: Site) -> Generator[dr.Finding, None, Trial]:
    """Connect, try the rights, and say what that means."""
    trial = Trial()
    try:
        with Visit(site.broker, site.client) as visit:
            connected = visit.connect()
            yield dr.judge_connection(site.broker, connected)
            limits = dr.judge_limits(connected)
            yield from limits
            if dr.exit_code(limits) == 0:
                trial = _try(site, visit, connected)
                yield from judge_trial(site, trial)
    except HilumError as error:
        yield dr.failed("mqtt", error)
    return trial


def _try(site: Site, visit: Visit, connected: Connected) -> Trial:
    own = [str(_topic(site, kind)) for kind in WRITTEN]
    visit.ask([*client_filters(site.job, site.client), *own])
    visit.wait(lambda: {Kind.AGG, Kind.ROUND} <= _gather(site, visit, connected).published, LISTEN_S)
    padding = bytes(chunk_bytes_for(connected.max_packet_bytes))
    for kind in WRITTEN:
        probe = Probe(visit.instance, padding if kind is Kind.CHUNK else b"")
        visit.transport.publish(str(_topic(site, kind)), encode(probe))
    found = _gather(site, visit, connected)
    if not found.online:
        for kind in READ:
            visit.transport.publish(str(_topic(site, kind)), encode(Echo(visit.instance, "")))
    visit.wait(lambda: _enough(_gather(site, visit, connected)), ANSWER_S if found.online else LISTEN_S)
    if visit.lost:
        visit.wait(lambda: _enough(_gather(site, visit, connected)), ANSWER_S)
    base = found.round.base if found.round else None
    if base:
        chunk = Topic(site.job, Kind.BLOCK, digest=base)
        visit.ask([str(chunk), str(Topic(site.job, Kind.MODEL, digest=base))])
        visit.wait(lambda: {Kind.MODEL, Kind.BLOCK} <= _gather(site, visit, connected).published, MODEL_S)
    return _gather(site, visit, connected)


def _topic(site: Site, kind: Kind) -> Topic:
    return Topic(site.job, kind, client=site.client, transfer=TRANSFER)


def _enough(trial: Trial) -> bool:
    """Whether nothing more is to be expected: every way has been gone, or refused."""
    gone = {name for name, via in trial.echoes if via is Kind.CONTROL} & {
        name for name, via in trial.echoes if via is Kind.ACK
    }
    wanted = {kind.name.lower() for kind in WRITTEN if kind not in trial.refused}
    return wanted <= gone or {*WRITTEN, *READ} <= trial.looped | set(trial.refused)


def _gather(site: Site, visit: Visit, connected: Connected) -> Trial:
    """What has come so far. Frames that are nobody's are left out."""
    messages = [
        pair
        for frame in visit.received
        if (pair := _decoded(frame.topic, frame.payload)) and pair[0].job == site.job
    ]
    newest = {type(message): message for _, message in messages}
    echoes = [(topic, m) for topic, m in messages if isinstance(m, Echo) and m.instance == visit.instance]
    return Trial(
        connected.protocol,
        {kind: undelivered.reason for undelivered in visit.undelivered if (kind := _kind(undelivered.topic))},
        frozenset((echo.heard, topic.kind) for topic, echo in echoes if echo.heard),
        frozenset(topic.kind for topic, m in messages if _is_ours(m, visit.instance)),
        frozenset(topic.kind for topic, m in messages if not topic.client and not isinstance(m, Probe)),
        newest.get(AggregatorState),  # type: ignore[arg-type]
        newest.get(RoundState),  # type: ignore[arg-type]
        newest.get(Manifest),  # type: ignore[arg-type]
        next((echo for _, echo in echoes if echo.heard), None),
        newest.get(ClientState),  # type: ignore[arg-type]
    )


def _is_ours(message: Message, instance: str) -> bool:
    """Whether a frame of our own came back."""
    if isinstance(message, Echo):
        return message.instance == instance and not message.heard
    return isinstance(message, Probe) and message.instance == instance


def _kind(topic: str) -> Kind | None:
    try:
        return parse(topic).kind
    except DecodeError:
        return None


def _decoded(name: str, payload: bytes) -> tuple[Topic, Message] | None:
    try:
        topic = parse(name)
        message = decode(payload, topic.kind)
    except DecodeError:
        return None
    return None if isinstance(message, Chunk) and topic.kind is not Kind.BLOCK else (topic, message)
