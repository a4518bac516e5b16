"""``fl-agg doctor``: would a start work? Judgements first, then the hands that gather what they judge.

An aggregator may read and write everything of its job, so its rights are tried by hearing ourselves: below ``up/`` and
``dn/`` under the name that no edge can have, below ``pub/`` with one retained chunk of a model that does not exist. A
running aggregator or edge takes no notice of any of it.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aggregator.claim import CLAIM_S
from aggregator.local_broker import installed_broker
from aggregator.rundir import KEPT_MODELS, RunDirectory
from fl_protocol import doctor as dr
from fl_protocol.broker import BrokerOptions
from fl_protocol.codec import decode, encode
from fl_protocol.console import size
from fl_protocol.errors import BrokerUnavailable, DecodeError, HilumError
from fl_protocol.messages import AggregatorState, Probe
from fl_protocol.network import Connected
from fl_protocol.tensors import chunk_bytes_for
from fl_protocol.topics import AGGREGATOR, Kind, Topic, parse
from fl_protocol.transport import probe
from fl_protocol.visit import DROPPED, Visit, free_bytes, path_to
from fl_tasks.doctor import Questions, judge_reply
from fl_tasks.jobs import EVAL, DataOptions, Initialise, Initialised

LISTEN_S, LOOP_S = 1.0, 8.0
TRANSFER = "doctor"
UP = (Kind.STATE, Kind.EVENT, Kind.OFFER, Kind.CHUNK)
DN = (Kind.CONTROL, Kind.ACK)
GRANT = "topic readwrite fl/#"
REPORTS_BYTES = 64 * 1024 * 1024
HERE_OPTIONS = BrokerOptions("127.0.0.1")


@dataclass(frozen=True)
class Place:
    """What would be started. ``broker`` is None if start is to find or start one on this host."""

    broker: BrokerOptions | None
    job: str
    out: Path
    task: str
    model: str
    image_size: int
    min_clients: int = 2
    init: str | None = None
    eval_data: str | None = None
    device: str = "auto"
    plugin: str | None = None


@dataclass(frozen=True)
class Trial:
    """What came of trying."""

    who: str = "this connection"
    refused: frozenset[Kind] = frozenset()
    too_large: str = ""
    """What was said of a chunk that the broker does not take."""
    looped: frozenset[Kind] = frozenset()
    retained: bool = False
    """The retained chunk came back as such."""
    other: AggregatorState | None = None
    """The aggregator that the broker knows of."""
    other_answers: bool = False
    dropped: int | None = None


# --- judgements -----------------------------------------------------------------------------------------------


def judge_trial(place: Place, trial: Trial) -> list[dr.Finding]:
    """All that was tried."""
    return [_pub(trial), _up(trial), _dn(trial), *dr.judge_dropped(trial.dropped), judge_claim(place, trial)]


def _pub(trial: Trial) -> dr.Finding:
    if trial.retained:
        return dr.ok("pub", "a retained message came back, and was taken away again")
    if Kind.BLOCK in trial.looped:
        return dr.fail("pub", "messages come back, but the broker does not keep them",
                       "set retain_available true on the broker, or use another", dr.THERE)  # fmt: skip
    return _denied("pub", {Kind.BLOCK}, trial)


def _up(trial: Trial) -> dr.Finding:
    missing = set(UP) - trial.looped
    if not missing:
        return dr.ok("up", f"came back: {_names(UP)}")
    if trial.too_large:
        return dr.fail("up", trial.too_large, "raise its max_packet_size to 1048576", dr.THERE)
    if missing <= trial.refused:
        return dr.warn("up", f"{trial.who} may not write below up/, so reading it could not be tried",
                       "nothing, if edges are seen to join")  # fmt: skip
    return _denied("up", missing, trial)


def _dn(trial: Trial) -> dr.Finding:
    missing = set(DN) - trial.looped
    return _denied("dn", missing, trial) if missing else dr.ok("dn", f"came back: {_names(DN)}")


def _denied(check: str, missing: Iterable[Kind], trial: Trial) -> dr.Finding:
    refused = set(missing) & trial.refused
    what = (
        f"the broker does not let {trial.who} write {_names(refused)}"
        if refused
        else f"{_names(missing)} did not come back"
    )
    return dr.fail(check, what, f"grant {trial.who} '{GRANT}' (broker/acl)", dr.THERE)


def judge_claim(place: Place, trial: Trial) -> dr.Finding:
    """One job has one aggregator."""
    if trial.other_answers:
        return dr.fail(
            "job",
            f"another aggregator is serving job {place.job!r}",
            "stop it, or use another --job",
            dr.THERE,
        )
    if trial.other and trial.other.online:
        return dr.ok("job", f"the aggregator of job {place.job!r} no longer answers; a start takes over")
    return dr.ok("job", f"nobody serves job {place.job!r}")


def needed_bytes(place: Place, model_bytes: int) -> int:
    """Room for the models kept, one being made, the updates of a round of ``min_clients``, and the report."""
    return (KEPT_MODELS + 2 + place.min_clients) * model_bytes + REPORTS_BYTES


def _names(kinds: Iterable[Kind]) -> str:
    return ", ".join(sorted(kind.name.lower() for kind in kinds))


# --- hands ----------------------------------------------------------------------------------------------------


def examine(place: Place) -> Iterator[dr.Finding]:
    """Every finding, as soon as it is known."""
    questions = Questions(place.device, place.plugin)
    try:
        yield from _broker(place)
        yield from _this_machine(place, questions)
    finally:
        questions.stop()


def _broker(place: Place) -> Iterator[dr.Finding]:
    options = place.broker
    if options is None:
        options, finding = _on_this_host()
        yield finding
    if options is None:
        return
    failed = False
    for finding in path_to(options):
        failed = failed or finding.verdict == dr.FAIL
        yield finding
    if not failed:
        yield from _visit(place, options)


def _on_this_host() -> tuple[BrokerOptions | None, dr.Finding]:
    """What ``start`` without --broker would do: use the broker that answers here, else start one."""
    try:
        probe(HERE_OPTIONS, timeout_s=3.0)
    except BrokerUnavailable as silence:
        if silence.__class__ is not BrokerUnavailable:
            return None, dr.failed("broker", silence)
        try:
            kind, program = installed_broker()
        except HilumError as error:
            return None, dr.failed("broker", error)
        return None, dr.ok("broker", f"none answers on this host; a start would start {kind} ({program})")
    return HERE_OPTIONS, dr.ok("broker", "one answers on this host")


def _visit(place: Place, options: BrokerOptions) -> Generator[dr.Finding, None, None]:
    try:
        with Visit(options, f"{AGGREGATOR}-{place.job[:32]}") as visit:
            connected = visit.connect()
            yield dr.judge_connection(options, connected)
            limits = dr.judge_limits(connected)
            yield from limits
            if dr.exit_code(limits) == 0:
                yield from judge_trial(place, _try(place, visit, connected))
    except HilumError as error:
        yield dr.failed("mqtt", error)


def _try(place: Place, visit: Visit, connected: Connected) -> Trial:
    asking = Asking(place, visit)
    visit.ask([DROPPED, str(Topic(place.job, Kind.AGG)), *(str(asking.topic(kind)) for kind in (*UP, *DN))])
    padding = bytes(chunk_bytes_for(connected.max_packet_bytes))
    for kind in (*UP, *DN):
        asking.say(kind, padding if kind is Kind.CHUNK else b"")
    asking.say(Kind.BLOCK, retain=True)
    try:
        visit.wait(lambda: visit.transport.backlog() == 0, LOOP_S)
        visit.ask([str(asking.topic(Kind.BLOCK))])
        visit.wait(lambda: {*UP, *DN, Kind.BLOCK} <= asking.trial().looped | asking.trial().refused, LOOP_S)
    finally:
        visit.transport.publish(str(asking.topic(Kind.BLOCK)), b"", retain=True)
        visit.wait(lambda: visit.transport.backlog() == 0, LOOP_S)
    visit.wait(lambda: asking.trial().dropped is not None, LISTEN_S)
    other = asking.trial().other
    if other is not None and other.online:
        visit.wait(lambda: asking.trial().other_answers, CLAIM_S)
    return asking.trial()


@dataclass
class Asking:
    """The topics of one trial, and what has come of them so far."""

    place: Place
    visit: Visit
    digest: str = field(default_factory=lambda: secrets.token_hex(32))

    def topic(self, kind: Kind) -> Topic:
        """Where we speak to ourselves."""
        if kind is Kind.BLOCK:
            return Topic(self.place.job, kind, digest=self.digest)
        return Topic(self.place.job, kind, client=AGGREGATOR, transfer=TRANSFER)

    def say(self, kind: Kind, padding: bytes = b"", *, retain: bool = False) -> None:
        frame = encode(Probe(self.visit.instance, padding))
        self.visit.transport.publish(str(self.topic(kind)), frame, retain=retain)

    def trial(self) -> Trial:
        """What has come so far."""
        name = self.visit.options.username
        ours = {str(self.topic(kind)): kind for kind in (*UP, *DN, Kind.BLOCK)}
        came = [frame for frame in self.visit.received if frame.topic in ours and frame.payload]
        states = [state for frame in self.visit.received if (state := _state(frame.topic, frame.payload))]
        undelivered = {_kind(each.topic): each.reason for each in self.visit.undelivered}
        large = next((why for why in undelivered.values() if "hangs up" in why or "largest" in why), "")
        return Trial(
            repr(name) if name else "this connection",
            frozenset(kind for kind in undelivered if kind),
            large,
            frozenset(ours[frame.topic] for frame in came),
            any(frame.retained for frame in came),
            states[-1] if states else None,
            any(state.echo == self.visit.instance for state in states),
            self.visit.dropped(),
        )


def _state(name: str, payload: bytes) -> AggregatorState | None:
    try:
        topic = parse(name)
        message = decode(payload, topic.kind)
    except DecodeError:
        return None
    return message if isinstance(message, AggregatorState) else None


def _kind(name: str) -> Kind | None:
    try:
        return parse(name).kind
    except DecodeError:
        return None


def _this_machine(place: Place, questions: Questions) -> Iterator[dr.Finding]:
    yield questions.inspect(place.task)
    model_bytes, finding = _first_model(place, questions)
    yield finding
    yield from _run_directory(place, model_bytes)
    if place.eval_data is not None:
        with tempfile.TemporaryDirectory(prefix="hilum-doctor-") as cache:
            options = DataOptions(place.task, place.eval_data, place.image_size, cache, role=EVAL)
            yield from questions.data(options)
    yield dr.judge_clock(time.time())


def _first_model(place: Place, questions: Questions) -> tuple[int, dr.Finding]:
    """The model's size, made for real as a start makes it, and thrown away."""
    with tempfile.TemporaryDirectory(prefix="hilum-doctor-") as folder:
        draft = Path(folder) / "model.safetensors"
        request = Initialise(place.task, place.model, place.image_size, 0, place.init, str(draft))
        reply = questions.ask(request)
        if not isinstance(reply, Initialised):
            return 0, judge_reply("model", reply, "check --model, --task and --init")
        made = draft.stat().st_size
        return made, dr.ok("model", f"{place.model} of {size(made)}")


def _run_directory(place: Place, model_bytes: int) -> Iterator[dr.Finding]:
    """Opened as a start opens it; what was not there before is gone afterwards."""
    identity = {"job": place.job, "task": place.task, "model": place.model, "image_size": place.image_size}
    try:
        folder = RunDirectory(place.out)
        try:
            folder.check_identity(identity)
            folder.check_global()
            done = sum(1 for _ in folder.journal.each_record())
        finally:
            folder.close()
    except HilumError as error:
        yield dr.failed("run", error)
        return
    except OSError as error:
        yield dr.judge_disk(place.out, "--out", error, 0, 0)
        return
    yield dr.ok("run", f"{place.out} goes on after round {done}" if done else f"{place.out} begins")
    yield dr.judge_disk(place.out, "--out", None, free_bytes(place.out), needed_bytes(place, model_bytes))
