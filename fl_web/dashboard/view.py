"""The jobs of a broker as the page shows them: frames in, parts out. Pure: the time is an argument, and shown only.

    link                  whether the broker is there
    job/JOB               the round under way, the run, what an operator may ask for
    settings/JOB          config.json of the run
    client/JOB/ID         one client
    round/JOB/N           one ended round
    event/JOB/N           something that happened while we looked; the newest MAX_EVENTS are kept

Everything comes from a broker that strangers may reach, so everything is bounded: beyond the bounds it is left out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from fl_protocol.codec import decode
from fl_protocol.errors import DecodeError
from fl_protocol.messages import (
    ACCEPTED,
    OPEN,
    Ack,
    AggregatorState,
    ClientState,
    Decline,
    Message,
    Offer,
    Progress,
    RoundLine,
    RoundState,
    RunInfo,
)
from fl_protocol.topics import Topic, parse
from fl_web.dashboard.clients import Client, round_in
from fl_web.dashboard.lines import is_synthetic, numbers, parsed, round_of, settings_of, text_of
from fl_web.dashboard.parts import Parts

MAX_JOBS, MAX_CLIENTS, MAX_ALL_CLIENTS, MAX_ROUNDS, MAX_EVENTS = 32, 5000, 10_000, 2000, 500
SPEAKS_UP_TO = 16
"""Clients in a cohort beyond which single good updates are no news: the round's line counts them."""
FORGOTTEN_AFTER_S = 10.0
"""What the broker has not told again so long after a reconnect it has forgotten."""


@dataclass
class Job:
    """One job: the newest of each of its topics."""

    name: str
    aggregator: AggregatorState | None = None
    state: RoundState | None = None
    run: RunInfo | None = None
    synthetic: bool = False
    strategy: str = ""
    clients: dict[str, Client] = field(default_factory=dict)
    rounds: dict[int, str] = field(default_factory=dict)
    """Numbers of the ended rounds that are told, with the run they belong to."""
    cohort: frozenset[str] = frozenset()
    opened: tuple[int, int] = (0, 0)
    """Round and attempt that are open, or were last."""
    opened_at: float | None = None
    quorum_at: float | None = None
    accepted: set[str] = field(default_factory=set)
    events: deque[int] = field(default_factory=deque)
    next_event: int = 1
    run_known: bool = False
    """Whether the run was told since we are connected: lines of another one are of the past then."""

    def head(self) -> dict[str, Any]:
        """The job as the page gets it, but for its clients and rounds."""
        state, run = self.state, self.run
        found: dict[str, Any] = {
            "online": self.aggregator.online if self.aggregator else None,
            "run": _run(run), "synthetic": self.synthetic, "strategy": self.strategy,
            "opened_at": self.opened_at, "quorum_at": self.quorum_at, "phase": "",
        }  # fmt: skip
        if state is None:
            return found
        last = asdict(state.last) if state.last else None
        return found | {
            "phase": text_of(state.phase, 16), "round": state.round_number, "rounds": state.rounds,
            "attempt": state.attempt, "cohort": len(state.cohort), "quorum": state.quorum,
            "min_clients": state.min_clients, "accepted": max(state.accepted, len(self.accepted)),
            "refused": state.refused, "task": text_of(state.task, 100), "model": text_of(state.model, 100),
            "image_size": state.image_size, "reason": text_of(state.reason, 300), "grace_s": state.grace_s,
            "deadline_s": state.deadline_s, "evaluators": len(state.evaluators or ()),
            "plan": _plan(state), "last": last and last | {"metrics": numbers(last["metrics"]),
                                                           "client_metrics": numbers(last["client_metrics"])},
        }  # fmt: skip


def _run(run: RunInfo | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "name": text_of(run.run, 64),
        "accepts": list(run.accepts),
        "paused": run.paused,
        "stopping": run.stopping,
    }


def _plan(state: RoundState) -> dict[str, float] | None:
    if state.plan is None:
        return None
    plan = state.plan
    found = {
        "batch_size": plan.batch_size,
        "learning_rate": plan.learning_rate,
        "proximal_mu": plan.proximal_mu,
    }
    return found | ({"local_epochs": plan.local_epochs} if plan.local_steps is None
                    else {"local_steps": plan.local_steps})  # fmt: skip


class View:
    """All jobs. ``take`` every frame; read ``parts``."""

    def __init__(self, where: str = "", only: str | None = None) -> None:
        self.parts = Parts()
        self.jobs: dict[str, Job] = {}
        self._only, self._where = only, where
        self._link: dict[str, Any] = {"connected": False, "reason": "", "malformed": 0, "hidden": 0}
        self._sweep_at: float | None = None
        self._tell_link()

    # --- the connection -----------------------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """The broker tells everything it keeps once more; what it does not tell is no more."""
        self._link |= {"connected": True, "reason": ""}
        self._tell_link()
        for job in self.jobs.values():
            job.run_known = False
            for client in job.clients.values():
                client.stale = True
        self._sweep_at = now + FORGOTTEN_AFTER_S

    def disconnected(self, reason: str) -> None:
        """The broker is away: what is shown is of before."""
        self._link |= {"connected": False, "reason": text_of(reason, 300)}
        self._tell_link()

    def _tell_link(self) -> None:
        self.parts.put("link", self._link | {"broker": self._where})

    def sweep(self, now: float) -> None:
        """Drop what the broker has forgotten while we were away."""
        if self._sweep_at is None or now < self._sweep_at:
            return
        self._sweep_at = None
        for job in self.jobs.values():
            for client_id in [name for name, client in job.clients.items() if client.stale]:
                self._drop_client(job, client_id)

    # --- frames -------------------------------------------------------------------------------------------------

    def take(self, name: str, frame: bytes, retained: bool, now: float) -> Message | None:
        """A frame came. Returns the message, if it is one of ours."""
        self.sweep(now)
        try:
            topic = parse(name)
            message = decode(frame, topic.kind) if frame else None
        except DecodeError:
            self._link["malformed"] += 1
            self._tell_link()
            return None
        job = self._job(topic.job)
        if job is None:
            return None
        if message is None:
            self._cleared(job, topic)
        else:
            self._apply(job, topic, message, live=not retained, now=now)
        return message

    def _job(self, name: str) -> Job | None:
        if self._only is not None and name != self._only:
            return None
        if name not in self.jobs:
            if len(self.jobs) >= MAX_JOBS:
                return None
            self.jobs[name] = Job(name)
        return self.jobs[name]

    def _cleared(self, job: Job, topic: Topic) -> None:
        if topic.client and topic.client in job.clients:
            self._drop_client(job, topic.client)
        elif topic.number in job.rounds:
            self._drop_round(job, topic.number)

    def _apply(self, job: Job, topic: Topic, message: Message, *, live: bool, now: float) -> None:
        if isinstance(message, ClientState):
            self._client_told(job, topic.client, message, live, now)
        elif isinstance(message, Progress | Offer | Ack | Decline):
            self._client_moved(job, topic, message, now)
        elif isinstance(message, AggregatorState):
            self._aggregator_told(job, message, live, now)
        elif isinstance(message, RoundState):
            self._round_told(job, message, live, now)
        elif isinstance(message, RunInfo):
            self._run_told(job, message, now)
        elif isinstance(message, RoundLine):
            self._round_ended(job, topic.number, message)

    # --- clients ------------------------------------------------------------------------------------------------

    def _client_told(self, job: Job, client_id: str, state: ClientState, live: bool, now: float) -> None:
        known = job.clients.get(client_id)
        if known is None:
            if not self._has_room(job):
                return
            known = job.clients[client_id] = Client(state, now, live)
            if live and known.present:
                self._happened(job, now, "joined", client_id, f"{client_id} joined")
        else:
            was = known.state.state
            was_present = known.present
            if not known.told(state, now, live):
                return
            if was_present and not known.present:
                how = "left" if state.state == "left" else "was lost"
                self._happened(job, now, state.state, client_id, f"{client_id} {how}")
            elif known.present and not was_present:
                self._happened(job, now, "joined", client_id, f"{client_id} is back (it was {was})")
        self._tell_client(job, client_id)

    def _has_room(self, job: Job) -> bool:
        everyone = sum(len(each.clients) for each in self.jobs.values())
        if len(job.clients) < MAX_CLIENTS and everyone < MAX_ALL_CLIENTS:
            return True
        self._link["hidden"] += 1
        self._tell_link()
        return False

    def _client_moved(
        self, job: Job, topic: Topic, message: Progress | Offer | Ack | Decline, now: float
    ) -> None:
        client_id = topic.client
        client = job.clients.get(client_id)
        if client is None:
            return
        if isinstance(message, Progress):
            client.advanced(message, now)
        elif isinstance(message, Offer):
            client.offered(message, now)
        elif isinstance(message, Ack):
            news = message.verdict is not None and (client.verdict, client.verdict_round) != (
                message.verdict, round_in(topic.transfer),
            )  # fmt: skip
            client.acknowledged(topic.transfer, message, now)
            if news:
                self._judged(job, client_id, client, now)
        else:
            client.verdict, client.reason, client.verdict_round = (
                "declined",
                message.reason,
                message.round_number,
            )
            told = f"{client_id} declined round {message.round_number}: {text_of(message.reason, 200)}"
            self._happened(job, now, "declined", client_id, told, "warn", message.reason)
        self._tell_client(job, client_id)

    def _judged(self, job: Job, client_id: str, client: Client, now: float) -> None:
        number, verdict, reason = client.verdict_round, client.verdict, text_of(client.reason, 200)
        level = "ok" if verdict == ACCEPTED else "warn" if verdict == "late" else "bad"
        told = f"{client_id}: update of round {number} {verdict}" + (f" ({reason})" if reason else "")
        if verdict != ACCEPTED or len(job.cohort) <= SPEAKS_UP_TO:
            self._happened(job, now, verdict, client_id, told, level, client.reason)
        if verdict == ACCEPTED and job.state and number == job.state.round_number:
            job.accepted.add(client_id)
            self._look_for_quorum(job, now)
            self._tell(job)

    def _tell_client(self, job: Job, client_id: str) -> None:
        number = job.state.round_number if job.state else 0
        self.parts.put(
            f"client/{job.name}/{client_id}", job.clients[client_id].row(job.cohort, client_id, number)
        )

    def _drop_client(self, job: Job, client_id: str) -> None:
        del job.clients[client_id]
        self.parts.drop(f"client/{job.name}/{client_id}")

    # --- the aggregator -----------------------------------------------------------------------------------------

    def _aggregator_told(self, job: Job, message: AggregatorState, live: bool, now: float) -> None:
        known = job.aggregator
        if known is not None:
            same = known.instance == message.instance
            if (same and message.seq < known.seq) or (not same and known.online and not message.online):
                return  # late, or the will of a process before this one
        job.aggregator = message
        if live and (known is None or known.online != message.online):
            word = "is here" if message.online else "is away"
            self._happened(
                job, now, "aggregator", "", f"The aggregator {word}", "ok" if message.online else "bad"
            )
        self._tell(job)

    def _round_told(self, job: Job, state: RoundState, live: bool, now: float) -> None:
        known = job.state
        if known is not None and known.instance == state.instance and state.seq < known.seq:
            return
        job.state = state
        at = (state.round_number, state.attempt)
        if state.phase == OPEN and at != job.opened:
            job.opened, job.accepted, job.quorum_at = at, set(), None
            job.opened_at = now if live else None
            if live:
                told = f"Round {at[0]} opened for {len(state.cohort)} sites" + (
                    f", attempt {at[1]}" if at[1] > 1 else ""
                )
                self._happened(job, now, "opened", "", told, "info")
        elif (
            live
            and known is not None
            and known.phase != state.phase
            and state.phase in ("waiting", "finished", "stopped")
        ):
            told = f"The run {'waits' if state.phase == 'waiting' else f'has {state.phase}'}"
            self._happened(
                job, now, state.phase, "", told + (f": {text_of(state.reason, 200)}" if state.reason else "")
            )
        self._look_for_quorum(job, now)
        self._tell(job)
        self._invite(job, frozenset(state.cohort), known.round_number if known else 0)

    def _look_for_quorum(self, job: Job, now: float) -> None:
        state = job.state
        if state is None or state.phase != OPEN:
            job.quorum_at = None
        elif job.quorum_at is None and 0 < state.quorum <= max(state.accepted, len(job.accepted)):
            job.quorum_at = now

    def _invite(self, job: Job, cohort: frozenset[str], before: int) -> None:
        """Tell those again whose row reads otherwise now."""
        was, job.cohort = job.cohort, cohort
        touched = was ^ cohort
        if job.state is not None and job.state.round_number != before:
            touched |= was | cohort
        for client_id in sorted(touched):
            if client_id in job.clients:
                self._tell_client(job, client_id)

    # --- the run ------------------------------------------------------------------------------------------------

    def _run_told(self, job: Job, run: RunInfo, now: float) -> None:
        known, job.run, job.run_known = job.run, run, True
        if known is None or (known.config, known.run) != (run.config, run.run):
            settings = settings_of(parsed(run.config))
            job.synthetic = is_synthetic(settings)
            job.strategy = settings.get("strategy", {}).get("value", "")
            self.parts.put(f"settings/{job.name}", settings)
        for number in [each for each, name in job.rounds.items() if name != run.run]:
            self._drop_round(job, number)
        if known is not None and known.paused != run.paused:
            self._happened(
                job, now, "paused", "", "The run is paused" if run.paused else "The run goes on", "info"
            )
        self._tell(job)

    def _round_ended(self, job: Job, number: int, message: RoundLine) -> None:
        line = round_of(parsed(message.line))
        of_the_past = job.run_known and job.run is not None and message.run != job.run.run
        if line is None or line["round"] != number or of_the_past:
            return
        job.rounds[number] = message.run
        self.parts.put(f"round/{job.name}/{number}", line)
        while len(job.rounds) > MAX_ROUNDS:
            self._drop_round(job, min(job.rounds))

    def _drop_round(self, job: Job, number: int) -> None:
        del job.rounds[number]
        self.parts.drop(f"round/{job.name}/{number}")

    def _tell(self, job: Job) -> None:
        self.parts.put(f"job/{job.name}", job.head())

    # --- events -------------------------------------------------------------------------------------------------

    def _happened(self, job: Job, now: float, kind: str, client_id: str, told: str, level: str = "",
                  reason: str = "") -> None:  # fmt: skip
        number = job.next_event
        job.next_event += 1
        job.events.append(number)
        self.parts.put(f"event/{job.name}/{number}", {
            "at": now, "kind": kind, "client": client_id, "text": told, "level": level, "reason": text_of(reason, 200),
            "round": job.state.round_number if job.state else 0,
        })  # fmt: skip
        if len(job.events) > MAX_EVENTS:
            self.parts.forget(f"event/{job.name}/{job.events.popleft()}")
