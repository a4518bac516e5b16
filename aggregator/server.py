"""The aggregator's shell: one loop that turns frames into events and performs the effects, in order.

    frame -> decode -> membership / intake / federation -> effects -> journal, spool, broker, task process

Only this thread touches the federation, the journal and the spool. The connection's thread, the task process and
the fold put their results into one bounded queue, so a flood becomes TCP back-pressure, not memory.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from aggregator import console as seen
from aggregator import events as ev
from aggregator.federation import Federation, Phase
from aggregator.global_models import Folded, GlobalModels
from aggregator.intake import Intake
from aggregator.membership import Membership, Send
from aggregator.presence import Presence
from aggregator.probing import answers
from aggregator.publisher import Publisher
from aggregator.receiving import Receiving
from aggregator.recording import Recording
from aggregator.round import MAX_REFUSALS
from aggregator.rundir import RunDirectory
from aggregator.strategy import Strategy
from fl_protocol import messages as msg
from fl_protocol import topics
from fl_protocol.codec import decode, encode
from fl_protocol.errors import AccessRefused, DecodeError, HilumError, QuorumNotMet
from fl_protocol.tensors import Manifest, chunk_bytes_for
from fl_protocol.topics import AGGREGATOR, Kind, Topic
from fl_protocol.transport import Connected, Disconnected, Received, Transport, Undelivered
from fl_tasks.jobs import DataOptions, Evaluate, Evaluated, Failed, Reply
from fl_tasks.process import TaskProcess

log = logging.getLogger(__name__)

INBOX_FRAMES = 64
LONGEST_WAIT_S = 0.5
LOOK_ABOUT_S = 2.0
FAREWELL_S = 10.0
REFRESH_S = 2.0
"""How far what is retained of the round may lag behind it: short rounds cost no message, long ones are seen to fill."""
REMIND_S = 300.0


@dataclass(frozen=True)
class Scoring:
    """Central evaluation: a process that scores models, and the data it scores them on."""

    tasks: TaskProcess
    data: DataOptions


class Server:
    """One job being served, from the moment the model is published to the last round."""

    def __init__(
        self, job: str, instance: str, run: RunDirectory, federation: Federation, strategy: Strategy, view: seen.View,
        scoring: Scoring | None, inbox: queue.Queue[Any],
    ) -> None:  # fmt: skip
        self.job, self.instance, self.run_dir, self.view = job, instance, run, view
        self.federation = federation
        self.scoring, self.inbox = scoring, inbox
        self.membership = Membership()
        intake = Intake(run.model(federation.base).tensors, refusal=strategy.refusal)
        self.receiving = Receiving(job, intake, run.spool, federation, self.publish, self._happened, view)
        self.models = GlobalModels(run, Publisher(job, self), strategy, inbox)
        self.transport: Transport
        self.stop_requested = False
        self.ended: HilumError | None = None
        self.finished = False
        self.bytes_down = self.bytes_up = 0
        self.presence = Presence(job, instance, self.publish)
        self._waiting_since, self._look_about_at = time.monotonic(), 0.0
        self.recording = Recording(run, view, federation.config.best_by)
        self._told: set[tuple[str, str]] = set()
        self._events: deque[ev.Event] = deque()
        self._evaluating = 0
        self._refresh_at = 0.0
        self.watcher: Callable[[Server], None] = lambda _server: None
        """Looks at us now and then, in our own thread."""

    # --- what others in this process need of us -----------------------------------------------------------------

    def publish(
        self, topic: str, payload: bytes | Callable[[], bytes], *, retain: bool = False, bulk: bool = False
    ) -> None:  # fmt: skip
        """Publish, and count the bytes when they leave."""
        if isinstance(payload, bytes):
            self.bytes_down += len(payload)
            self.transport.publish(topic, payload, retain=retain, bulk=bulk)
        else:
            self.transport.publish(topic, partial(self._counted, payload), retain=retain, bulk=bulk)

    def _counted(self, payload: Callable[[], bytes]) -> bytes:
        data = payload()
        self.bytes_down += len(data)
        return data

    # --- the loop -----------------------------------------------------------------------------------------------

    def serve(self, transport: Transport, connected: Connected) -> None:
        """Serve until the last round has ended, the operator stops it, or it cannot go on.

        Raises QuorumNotMet when a round was abandoned for good, AccessRefused when another aggregator took over.
        """
        self.transport = transport
        first = self.federation.start(time.monotonic(), self.run_dir.journal.unfinished())
        self._on_connected(connected)
        self._apply(first)
        self._tell_waiting()
        while not (self.stop_requested or self.finished or self.ended):
            self.step()
        self.recording.tidy(self.federation.settled)
        self.recording.report()
        if self.ended:
            raise self.ended

    @property
    def round_number(self) -> int:
        """The round under way, or the last one."""
        current = self.federation.round
        return current.number if current else self.federation.rounds_done

    def step(self) -> None:
        """Take one item from the queue, or let time pass."""
        try:
            item = self.inbox.get(timeout=self._patience())
        except queue.Empty:
            item = None
        now = time.monotonic()
        if item is not None:
            self._take(item, now)
        if item is None or now >= min(self._look_about_at, self._next_instant()):
            self._on_time(now)
        self._drain()
        self._settle(now)
        if now >= self._refresh_at:
            self._refresh(now)
        if self.recording.untidy and self.inbox.empty():
            self.recording.tidy(self.federation.settled)

    def _refresh(self, now: float) -> None:
        """Let those who only look see how far the round is."""
        self._refresh_at = now + REFRESH_S
        self.presence.announce(self.federation.state(), again=False)
        self.watcher(self)

    def _take(self, item: Any, now: float) -> None:
        if isinstance(item, Received):
            self._on_frame(item, now)
        else:
            self._on_item(item)

    def _settle(self, now: float) -> None:
        """Bring complete uploads to disk, together with those that what has arrived meanwhile completes."""
        for _ in range(INBOX_FRAMES):
            if not self.receiving.unsettled or self.inbox.empty():
                break
            self._take(self.inbox.get(), now)
            self._drain()
        self.receiving.settle()
        self._drain()

    def _next_instant(self) -> float:
        instants = (self.federation.next_instant(), self.membership.next_instant())
        return min((instant for instant in instants if instant is not None), default=float("inf"))

    def _patience(self) -> float:
        return max(0.0, min(LONGEST_WAIT_S, self._next_instant() - time.monotonic()))

    def _on_time(self, now: float) -> None:
        self._look_about_at = now + LOOK_ABOUT_S
        self._perform_membership(*self.membership.tick(now))
        self.receiving.tick(now)
        self.models.check_fold(now)
        self._remind(now)
        self._happened(ev.Ticked())

    def _remind(self, now: float) -> None:
        """Who waits for clients hears of it again now and then: it is the one wait that only people can end."""
        if self.federation.phase is not Phase.WAITING or self.stop_requested:
            self._waiting_since = now
        elif now >= self._waiting_since + REMIND_S:
            self._waiting_since = now
            here, needed = len(self.federation.present), self.federation.needed
            self.view.show(seen.Warned(f"still waiting: {here} of the {needed} clients needed are here"))

    def _on_item(self, item: Any) -> None:
        if isinstance(item, Connected):
            self._on_connected(item)
            self.view.show(seen.ConnectionRestored(""))
        elif isinstance(item, Disconnected):
            self.view.show(seen.ConnectionLost(item.reason))
            self.ended = item.fatal
        elif isinstance(item, Undelivered):
            self.view.show(seen.Warned(f"not delivered: {item.topic}: {item.reason}"))
        elif isinstance(item, Folded):
            self._on_folded(item)
        else:
            self._on_reply(item)

    def _happened(self, event: ev.Event) -> None:
        self._events.append(event)

    def _drain(self) -> None:
        """Let the federation handle what happened, in order, and do what it wants, in order."""
        while self._events:
            events, self._events = self._events, deque()
            now = time.monotonic()
            self._apply([effect for event in events for effect in self.federation.handle(event, now)])

    # --- connection ---------------------------------------------------------------------------------------------

    def _on_connected(self, connected: Connected) -> None:
        """Lay out model and round, then say that we are here: the broker may have lost everything.

        In this order, since an edge that sees us online and an ended run of the past would take its leave.
        """
        self.presence.connected(connected.number)
        self.models.chunk_bytes = chunk_bytes_for(connected.max_packet_bytes)
        self.transport.subscribe([*topics.aggregator_filters(self.job), topics.manifest_filter(self.job)])
        self.models.publish(self.federation.base)
        self.presence.announce(self.federation.state())
        self.presence.say_online()

    # --- frames -------------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Received, now: float) -> None:
        self.bytes_up += len(frame.payload)
        try:
            topic = topics.parse(frame.topic)
            if topic.job != self.job or not frame.payload:
                return
            message = decode(frame.payload, topic.kind)
        except DecodeError as error:
            self._refuse_frame(frame.topic, error)
            return
        if topic.kind is Kind.CHUNK and isinstance(message, msg.Chunk):
            self.receiving.chunk(topic, message)
        elif topic.kind is Kind.OFFER and isinstance(message, msg.Offer):
            self.receiving.offer(topic, message)
        elif isinstance(message, msg.Probe):
            self._answer_probe(topic, message)
        elif topic.client == AGGREGATOR or topic.kind in (Kind.AGG, Kind.MODEL):
            self._on_aggregator_frame(topic, message)
        else:
            self._on_client_frame(topic.client, message, now)

    def _refuse_frame(self, text: str, error: DecodeError) -> None:
        words = text.split("/")
        client_id = words[4][:64] if len(words) > 4 and words[3] == "up" else ""
        self._happened(ev.FrameRefused(client_id, error.reason))
        self.view.show(seen.UpdateRejected(client_id, self.round_number, str(error)))
        if topics.NAME.fullmatch(client_id) and self._is_news(client_id, error.reason):
            self._send(client_id, msg.Rejection(self.federation.rounds_done, error.reason))

    def _is_news(self, client_id: str, reason: str) -> bool:
        """Whether to tell the client: once a round for each reason, and no more than MAX_REFUSALS in all."""
        news = (client_id, reason) not in self._told and len(self._told) < MAX_REFUSALS
        if news:
            self._told.add((client_id, reason))
        return news

    def _on_client_frame(self, client_id: str, message: msg.Message, now: float) -> None:
        if isinstance(message, msg.Hello):
            self._perform_membership(*self.membership.hello(client_id, message, now))
        elif isinstance(message, msg.Pong):
            self._perform_membership(*self.membership.pong(client_id, message))
        elif isinstance(message, msg.ClientState):
            self._on_client_state(client_id, message)
        elif isinstance(message, msg.Progress):
            self.view.show(
                seen.TrainingAdvanced(client_id, message.round_number, message.fraction, message.loss)
            )
        elif isinstance(message, msg.Decline):
            self.view.show(seen.ClientDeclined(client_id, message.round_number, message.reason))
            self._happened(ev.ClientDeclined(client_id, message.round_number, message.reason))
        elif isinstance(message, msg.Scored):
            self._happened(
                ev.ModelScored(client_id, message.round_number, message.base, dict(message.metrics))
            )

    def _on_client_state(self, client_id: str, message: msg.ClientState) -> None:
        sends, happened = self.membership.state(client_id, message)
        self._perform_membership(sends, happened)

    def _answer_probe(self, topic: Topic, probe: msg.Probe) -> None:
        for address, answer in answers(topic, probe, self.instance, self.membership, time.time()):
            if isinstance(answer, msg.AggregatorState):
                self.presence.say_online(answer.echo)
            else:
                self.publish(str(address), encode(answer))

    def _on_aggregator_frame(self, topic: Topic, message: msg.Message) -> None:
        if isinstance(message, msg.AggregatorState) and message.instance != self.instance:
            self._on_other_aggregator(message)
        elif isinstance(message, msg.AggregatorState) and not message.online:
            self.presence.say_online()  # our own last will, of a connection that is over
        elif isinstance(message, Manifest) and message.digest == topic.digest:
            self.models.found(topic.digest, message, self.federation.base)

    def _on_other_aggregator(self, other: msg.AggregatorState) -> None:
        """Of two that claimed the job, the one with the smaller instance keeps it; a late will is overwritten."""
        if other.online and other.instance < self.instance:
            self.ended = AccessRefused(f"another aggregator has taken over job {self.job!r}")
            return
        self.presence.say_online()

    # --- effects ------------------------------------------------------------------------------------------------

    def _perform_membership(self, sends: list[Send], happened: list[ev.Event]) -> None:
        for send in sends:
            if isinstance(send.message, msg.Refusal):
                self.view.show(seen.ClientRefused(send.client_id, send.message.reason))
            self._send(send.client_id, send.message)
        for event in happened:
            if isinstance(event, ev.ClientReady):
                device = self.membership.members[event.client_id].device
                self.view.show(seen.ClientJoined(event.client_id, event.num_examples, device))
            elif isinstance(event, ev.ClientGone) and event.client_id in self.federation.present:
                known = self.membership.members.get(event.client_id)
                self.view.show(seen.ClientLeft(event.client_id, known.state if known else msg.LOST))
                self.receiving.gone(event.client_id)
            self._happened(event)

    def _send(self, client_id: str, message: msg.Message) -> None:
        self.publish(str(Topic(self.job, Kind.CONTROL, client=client_id)), encode(message))

    def _apply(self, effects: list[ev.Effect]) -> None:
        """Perform effects in order; each kind has one method. A round's updates are kept in one commit, before any
        of them is answered, but not before the round itself is.
        """
        kept = 0
        for at, effect in enumerate(effects):
            if isinstance(effect, ev.KeepUpdate) and at >= kept:
                kept = next(
                    (i for i in range(at, len(effects)) if isinstance(effects[i], ev.KeepRound)), len(effects)
                )
                together = [each for each in effects[at:kept] if isinstance(each, ev.KeepUpdate)]
                self.run_dir.journal.keep_updates(together)
            PERFORM[type(effect)](self, effect)

    def _keep_round(self, effect: ev.KeepRound) -> None:
        self._told.clear()
        self.run_dir.journal.keep_round(effect, datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
        rounds = self.federation.config.rounds
        self.view.show(seen.RoundOpened(effect.number, rounds, effect.cohort, effect.attempt, effect.quorum))

    def _keep_update(self, effect: ev.KeepUpdate) -> None:
        it = effect.update
        self.view.show(seen.UpdateAccepted(it.client_id, effect.round_number, it.num_examples, it.staleness))

    def _answer(self, effect: ev.Answer) -> None:
        if effect.verdict == msg.LATE:
            self.view.show(seen.UpdateLate(effect.client_id, self.round_number))
        elif effect.verdict == msg.REJECTED:
            self.view.show(seen.UpdateRejected(effect.client_id, self.round_number, effect.reason))
        self.receiving.answer(effect)

    def _perform_announce(self, effect: ev.Announce) -> None:
        self.presence.announce(effect.state)
        if effect.state.phase == msg.WAITING:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        if self.federation.phase is Phase.WAITING:
            self.view.show(seen.WaitedForClients(len(self.federation.present), self.federation.needed))

    def _aggregate(self, effect: ev.Aggregate) -> None:
        self.run_dir.journal.close_round(effect.round_number)
        self.recording.folding(effect)
        self.view.show(seen.AggregationStarted(effect.round_number, len(effect.updates)))
        accepted = {(update.client_id, update.transfer) for update in effect.updates}
        for client_id, transfer, round_number in self.receiving.intake.open_transfers():
            too_old = round_number + self.federation.config.max_staleness <= effect.round_number
            if too_old and (client_id, transfer) not in accepted:
                self._happened(ev.UpdateRefused(client_id, transfer, msg.LATE, answered=False))
        self.models.begin_fold(effect)

    def _on_folded(self, folded: Folded) -> None:
        if folded.manifest is None:
            raise folded.error or AssertionError("a fold ended with nothing")
        self._happened(ev.Aggregated(folded.round_number, self.models.folded(folded.manifest)))

    def _adopt_model(self, effect: ev.AdoptModel) -> None:
        self.run_dir.journal.adopt(effect.round_number, effect.digest)
        self.models.adopt(effect)

    def _evaluate(self, effect: ev.Evaluate) -> None:
        if self.scoring is None:
            self._happened(ev.Evaluated(effect.round_number, None))
            return
        self._evaluating = effect.round_number
        model = str(self.run_dir.model_path(effect.digest))
        self.scoring.tasks.submit(Evaluate(self.scoring.data, model, detail=True))

    def _on_reply(self, reply: Reply) -> None:
        if isinstance(reply, Evaluated):
            self.view.show(seen.Evaluated(self._evaluating, reply.metrics))
            self._happened(ev.Evaluated(self._evaluating, self.recording.scores(self._evaluating, reply)))
        elif isinstance(reply, Failed):
            self.view.show(seen.Warned(f"central evaluation failed ({reply.kind}): {reply.message}"))
            if reply.request == "Evaluate":
                self._happened(ev.Evaluated(self._evaluating, None))

    def _keep_record(self, effect: ev.KeepRecord) -> None:
        self.recording.holdings = self.membership.holdings()
        self.recording.keep(effect.record, self.bytes_down, self.bytes_up)

    def _keep_best(self, effect: ev.KeepBest) -> None:
        self.recording.keep_best(effect.best)

    def _abandon(self, effect: ev.Abandon) -> None:
        then = "trying again" if effect.again else "no retries left"
        self.view.show(
            seen.Warned(
                f"round {effect.round_number}, attempt {effect.attempt} abandoned: {effect.accepted} updates of the "
                f"{effect.quorum} needed; {then}"
            )
        )

    def _finish(self, effect: ev.Finish) -> None:
        self.finished = True
        if effect.reason:
            self.view.show(seen.EndedEarly(self.federation.rounds_done, effect.reason))

    def _fail(self, effect: ev.Fail) -> None:
        self.ended = QuorumNotMet(f"{effect.reason}; the same command goes on with the next round")

    # --- the end ------------------------------------------------------------------------------------------------

    def linger(self, patience_s: float = FAREWELL_S) -> None:
        """After the last round: let the edges fetch the final model and leave, while we still answer."""
        until = time.monotonic() + patience_s
        while self.federation.present and time.monotonic() < until and not self.stop_requested:
            self.step()

    def farewell(self) -> list[tuple[str, bytes, bool]]:
        """What is published, retained, in place of the last will."""
        state = self.federation.state()
        if not self.finished:
            state = dataclasses.replace(state, phase=msg.STOPPED)
        return self.presence.farewell(state)


PERFORM: dict[type[Any], Callable[[Server, Any], None]] = {
    ev.KeepRound: Server._keep_round,
    ev.KeepUpdate: Server._keep_update,
    ev.Answer: Server._answer,
    ev.Announce: Server._perform_announce,
    ev.Aggregate: Server._aggregate,
    ev.AdoptModel: Server._adopt_model,
    ev.Evaluate: Server._evaluate,
    ev.KeepRecord: Server._keep_record,
    ev.KeepBest: Server._keep_best,
    ev.Abandon: Server._abandon,
    ev.Finish: Server._finish,
    ev.Fail: Server._fail,
}
"""Every effect and the method that performs it."""
