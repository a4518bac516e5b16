"""The aggregator's shell: one loop that turns frames into events and performs the effects, in order.

    frame -> station -> intake / federation -> effects -> journal, spool, broker, task process

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
from datetime import datetime, timezone
from typing import Any

from aggregator import events as ev
from aggregator import notices as seen
from aggregator.commands import ASKED, acceptable
from aggregator.federation import Federation
from aggregator.global_models import Folded, GlobalModels
from aggregator.intake import Intake
from aggregator.narration import current_round, failure, told
from aggregator.phase import Phase
from aggregator.publisher import Publisher
from aggregator.receiving import Receiving
from aggregator.recording import Recording
from aggregator.rundir import RunDirectory
from aggregator.scoring import Scoring
from aggregator.station import Station
from aggregator.stragglers import Stragglers, advice
from aggregator.strategy import Strategy
from fl_protocol import messages as msg
from fl_protocol.errors import ConfigError, HilumError
from fl_protocol.tensors import Manifest, chunk_bytes_for
from fl_protocol.topics import Topic
from fl_protocol.transport import Connected
from fl_tasks.jobs import Evaluated, Failed, Reply

log = logging.getLogger(__name__)

INBOX_FRAMES = 64
LONGEST_WAIT_S = 0.5
LOOK_ABOUT_S = 2.0
FAREWELL_S = 10.0
REFRESH_S = 2.0
"""How far what is retained of the round may lag behind it: short rounds cost no message, long ones are seen to fill."""
REMIND_S = 300.0


class Server:
    """One run being served, from the moment its model is published to its last round.

    ``stays``: an aggregator that waits for operators between runs has its edges stay as well.
    """

    def __init__(
        self, station: Station, run: RunDirectory, federation: Federation, strategy: Strategy,
        scoring: Scoring | None, *, stays: bool = False,
    ) -> None:  # fmt: skip
        self.station, self.run_dir, self.view, self.inbox = station, run, station.view, station.inbox
        self.federation, self.scoring, self.stays = federation, scoring, stays
        intake = Intake(run.model(federation.base).tensors, refusal=strategy.refusal)
        self.receiving = Receiving(
            station.job, intake, run.spool, federation, station.publish, self.happened, self.view
        )
        self.models = GlobalModels(run, Publisher(station.job, station), strategy, self.inbox)
        self.ended: HilumError | None = None
        self.finished = self.stopped = False
        self._waiting_since, self._look_about_at = time.monotonic(), 0.0
        counted = station.bytes_down, station.bytes_up
        self.recording = Recording(run, self.view, federation.config.best_by, counted)
        self._stragglers = Stragglers()
        self._events: deque[ev.Event] = deque()
        self._refresh_at = 0.0
        self.watcher: Callable[[Server], None] = lambda _server: None
        """Looks at us now and then, in our own thread."""

    # --- the loop -----------------------------------------------------------------------------------------------

    def serve(self, connected: Connected) -> None:
        """Serve until the last round has ended, the operator stops it, or it cannot go on.

        Raises QuorumNotMet when a round was abandoned for good, AccessRefused when another aggregator took over.
        """
        self.introduce()
        self.station.business = self
        first = self.federation.start(time.monotonic(), self.run_dir.journal.unfinished())
        self.on_connected(connected)
        self._apply(first)
        self._hear_who_is_here()
        self._drain()
        self._tell_waiting()
        while not self._over:
            self.step()
        self.recording.tidy(self.federation.settled)
        self.recording.report()
        self.station.bulletin.finish(self.rounds_done)
        if self.ended:
            raise self.ended

    def introduce(self) -> None:
        """From now on the station tells of this run."""
        self.station.bulletin.begin(self.run_dir.path, self.run_dir.journal.record)
        self.station.presence.run_id = self.run_dir.run_id

    def _hear_who_is_here(self) -> None:
        """In a station that has been there for a while nobody need be presumed alive who is not."""
        current = self.federation.round
        cohort = current.cohort if current else frozenset()
        for event in self.station.membership.standing():
            if isinstance(event, ev.ClientReady) or getattr(event, "client_id", "") in cohort:
                self.happened(event)

    @property
    def _over(self) -> bool:
        self.ended = self.ended or self.station.ended
        return bool(self.station.stop_requested or self.finished or self.stopped or self.ended)

    @property
    def rounds_done(self) -> int:
        return self.federation.rounds_done

    @property
    def round_number(self) -> int:
        """The round under way, or the last one."""
        return current_round(self.federation)

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
        if self.inbox.empty():
            self._at_leisure(now)

    def _at_leisure(self, now: float) -> None:
        """What no round waits for."""
        if self.recording.untidy:
            self.recording.tidy(self.federation.settled)
        bulletin, wishes = self.station.bulletin, self.federation.wishes
        if bulletin.is_due(now):
            accepts = acceptable(self.federation)
            bulletin.tell(now, self.rounds_done, accepts, paused=wishes.paused, stopping=wishes.stopping)

    def _refresh(self, now: float) -> None:
        """Let those who only look see how far the round is."""
        self._refresh_at = now + REFRESH_S
        self._announce(again=False)
        self.watcher(self)

    def _announce(self, *, again: bool = True) -> None:
        self.station.presence.announce(self.shown(), again=again)

    def shown(self, state: msg.RoundState | None = None) -> msg.RoundState:
        """What is told of the round; that a run is over is no reason for edges to leave if there may be another."""
        state, done = state or self.federation.state(), self.rounds_done
        if not (self.stays and (self.federation.over or self.stopped or self.station.business is not self)):
            return state
        return dataclasses.replace(
            state, phase=msg.WAITING, round_number=done, rounds=done, attempt=0, cohort=(), evaluators=None
        )

    def _take(self, item: Any, now: float) -> None:
        if self.station.take_item(item, now):
            return
        if isinstance(item, Folded):
            self._on_folded(item)
        else:
            self._on_reply(item)

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
        instants = (self.federation.next_instant(), self.station.membership.next_instant())
        return min((instant for instant in instants if instant is not None), default=float("inf"))

    def _patience(self) -> float:
        return max(0.0, min(LONGEST_WAIT_S, self._next_instant() - time.monotonic()))

    def _on_time(self, now: float) -> None:
        self._look_about_at = now + LOOK_ABOUT_S
        self.station.tick(now)
        self.receiving.tick(now)
        self.models.check_fold(now)
        self._remind(now)
        self.happened(ev.Ticked())

    def _remind(self, now: float) -> None:
        """Who waits for clients hears of it again now and then: it is the one wait that only people can end."""
        waiting = self.federation.phase is Phase.WAITING and not self.federation.wishes.paused
        if not waiting or self.station.stop_requested:
            self._waiting_since = now
        elif now >= self._waiting_since + REMIND_S:
            self._waiting_since = now
            here, needed = len(self.federation.present), self.federation.needed
            self.view.show(seen.Warned(f"still waiting: {here} of the {needed} clients needed are here"))

    def happened(self, event: ev.Event) -> None:
        self._events.append(event)

    def _drain(self) -> None:
        """Let the federation handle what happened, in order, and do what it wants, in order."""
        while self._events:
            events, self._events = self._events, deque()
            now = time.monotonic()
            self._apply([effect for event in events for effect in self.federation.handle(event, now)])

    # --- connection ---------------------------------------------------------------------------------------------

    def on_connected(self, connected: Connected) -> None:
        """Lay out model and round, then say that we are here: the broker may have lost everything.

        In this order, since an edge that sees us online and an ended run of the past would take its leave.
        """
        self.station.connected(connected.number)
        self.lay_out_model(connected)
        self._announce()
        self.station.presence.say_online()

    def lay_out_model(self, connected: Connected) -> None:
        """The global model, in pieces that the broker takes."""
        self.models.chunk_bytes = chunk_bytes_for(connected.max_packet_bytes)
        self.models.publish(self.federation.base)

    # --- what the station hears ---------------------------------------------------------------------------------

    def left(self, client_id: str) -> bool:
        if client_id not in self.federation.present:
            return False
        self.receiving.gone(client_id)
        return True

    def hear(self, topic: Topic, message: msg.Message) -> None:
        if isinstance(message, msg.Chunk):
            self.receiving.chunk(topic, message)
        elif isinstance(message, msg.Offer):
            self.receiving.offer(topic, message)
        elif isinstance(message, Manifest) and message.digest == topic.digest:
            self.models.found(topic.digest, message, self.federation.base)
        elif isinstance(message, msg.Progress):
            self.view.show(
                seen.TrainingAdvanced(topic.client, message.round_number, message.fraction, message.loss)
            )
        elif isinstance(message, msg.Decline):
            self.view.show(seen.ClientDeclined(topic.client, message.round_number, message.reason))
            self.happened(ev.ClientDeclined(topic.client, message.round_number, message.reason))
        elif isinstance(message, msg.Scored):
            self.happened(
                ev.ModelScored(topic.client, message.round_number, message.base, dict(message.metrics))
            )

    def command(self, command: msg.Command) -> None:
        self._drain()  # what came before it comes before it
        if command.action == msg.LAUNCH:
            raise ConfigError(
                "a run is under way: stop it first"
                if self.stays
                else "this aggregator was not started with --wait"
            )
        if self.federation.over:
            raise ConfigError(
                f"the run is {self.federation.phase.value}: nothing can be asked of it any more"
            )
        if command.action == msg.STOP:
            self.stopped = True
        elif command.action == msg.EVICT:
            self.station.evict(command.client)
        else:
            asked = ASKED[command.action](command)
            if objection := self.federation.objection(asked):
                raise ConfigError(objection)
            self.happened(asked)
        self._drain()
        self.station.bulletin.hurry()

    # --- effects ------------------------------------------------------------------------------------------------

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
            if perform := PERFORM.get(type(effect)):
                perform(self, effect)
            if news := told(effect, self.federation):  # last: a person does not hear of what is not on disk
                self.view.show(news)

    def _keep_round(self, effect: ev.KeepRound) -> None:
        self.station.round_begins()
        self.run_dir.journal.keep_round(effect, datetime.now(timezone.utc).isoformat(timespec="milliseconds"))

    def _answer(self, effect: ev.Answer) -> None:
        self.receiving.answer(effect)

    def _perform_announce(self, effect: ev.Announce) -> None:
        self.station.presence.announce(self.shown(effect.state))
        if effect.state.phase == msg.WAITING:
            self._tell_waiting()

    def _tell_waiting(self) -> None:
        if self.federation.phase is Phase.WAITING and not self.federation.wishes.paused:
            self.view.show(seen.WaitedForClients(len(self.federation.present), self.federation.needed))

    def _aggregate(self, effect: ev.Aggregate) -> None:
        self.run_dir.journal.close_round(effect.round_number)
        self.recording.folding(effect)
        accepted = {(update.client_id, update.transfer) for update in effect.updates}
        for client_id, transfer, round_number in self.receiving.intake.open_transfers():
            too_old = round_number + self.federation.config.max_staleness <= effect.round_number
            if too_old and (client_id, transfer) not in accepted:
                self.happened(ev.UpdateRefused(client_id, transfer, msg.LATE, answered=False))
        self.models.begin_fold(effect)

    def _on_folded(self, folded: Folded) -> None:
        if folded.manifest is None:
            raise folded.error or AssertionError("a fold ended with nothing")
        self.happened(ev.Aggregated(folded.round_number, self.models.folded(folded.manifest)))

    def _adopt_model(self, effect: ev.AdoptModel) -> None:
        self.run_dir.journal.adopt(effect.round_number, effect.digest)
        self.models.adopt(effect)

    def _evaluate(self, effect: ev.Evaluate) -> None:
        if self.scoring is None:
            self.happened(ev.Evaluated(effect.round_number, None))
            return
        self.scoring.begin(effect.round_number, self.run_dir.model_path(effect.digest))

    def _on_reply(self, reply: Reply) -> None:
        scored = self.scoring.round_number if self.scoring else 0
        if not scored:
            return  # of a run before this one
        if isinstance(reply, Evaluated):
            self.view.show(seen.Evaluated(scored, reply.metrics))
            self.happened(ev.Evaluated(scored, self.recording.scores(scored, reply)))
        elif isinstance(reply, Failed):
            self.view.show(seen.Warned(f"central evaluation failed ({reply.kind}): {reply.message}"))
            if reply.request == "Evaluate":
                self.happened(ev.Evaluated(scored, None))

    def _keep_record(self, effect: ev.KeepRecord) -> None:
        self.recording.holdings = self.station.membership.holdings()
        self.recording.keep(effect.record, self.station.bytes_down, self.station.bytes_up)
        late = self._stragglers.add(effect.record)
        if late and not self.federation.config.max_staleness:  # else what is late may count
            self.view.show(seen.Warned(advice(late)))

    def _keep_best(self, effect: ev.KeepBest) -> None:
        self.recording.keep_best(effect.best)

    def _finish(self, effect: ev.Finish) -> None:
        self.finished = True

    def _stop(self, effect: ev.Stop) -> None:
        self.stopped = True

    def _keep_rounds(self, effect: ev.KeepRounds) -> None:
        self.run_dir.keep_rounds(effect.rounds)
        self.station.bulletin.begin(self.run_dir.path, self.run_dir.journal.record)

    def _fail(self, effect: ev.Fail) -> None:
        self.ended = failure(effect)

    # --- the end ------------------------------------------------------------------------------------------------

    def linger(self, patience_s: float = FAREWELL_S) -> None:
        """After the last round: let the edges fetch the final model and leave, while we still answer."""
        until = time.monotonic() + patience_s
        while self.federation.present and time.monotonic() < until and not self.station.stop_requested:
            self.step()

    def farewell(self) -> list[tuple[str, bytes, bool]]:
        """What is published, retained, in place of the last will."""
        state = self.federation.state()
        if not self.finished:
            state = dataclasses.replace(state, phase=msg.STOPPED)
        return self.station.presence.farewell(state)


PERFORM: dict[type[Any], Callable[[Server, Any], None]] = {
    ev.KeepRound: Server._keep_round,
    ev.Answer: Server._answer,
    ev.Announce: Server._perform_announce,
    ev.Aggregate: Server._aggregate,
    ev.AdoptModel: Server._adopt_model,
    ev.Evaluate: Server._evaluate,
    ev.KeepRecord: Server._keep_record,
    ev.KeepBest: Server._keep_best,
    ev.KeepRounds: Server._keep_rounds,
    ev.Finish: Server._finish,
    ev.Stop: Server._stop,
    ev.Fail: Server._fail,
}
"""Effects and the methods that perform them. What is not listed is kept (KeepUpdate, above) or told (Abandon) alone."""
