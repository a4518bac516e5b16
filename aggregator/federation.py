"""The run as a state machine over rounds: who is here, which round is open, what happens next. Pure.

Events and a time go in, ordered effects come out: what must be on disk comes before what tells the world.
The table TRANSITIONS at the end says which event is handled in which phase; what it does not list changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from aggregator.admission import Offered, Standing
from aggregator.announcing import round_state
from aggregator.best import Course
from aggregator.events import (
    Abandon,
    AdoptModel,
    Aggregate,
    Aggregated,
    Announce,
    Answer,
    Asked,
    ClientDeclined,
    ClientEvicted,
    ClientGone,
    ClientReady,
    Effect,
    Evaluate,
    Evaluated,
    Event,
    Fail,
    FederationConfig,
    Finish,
    FrameRefused,
    KeepBest,
    KeepRecord,
    KeepRound,
    KeepRounds,
    KeepUpdate,
    LastRoundSet,
    ModelScored,
    Paused,
    Resumed,
    RoundsAdded,
    Stop,
    Ticked,
    UpdateArrived,
    UpdateRefused,
)
from aggregator.opening import at_hand, needed, open_round
from aggregator.past import Past
from aggregator.phase import ANNOUNCED_AS, OVER, Move, Phase, moves
from aggregator.records import record_of
from aggregator.round import OpenRound, Outcome, Refused, Round, note_refusal
from aggregator.wishes import STOPPED, Wishes
from fl_protocol import messages
from fl_protocol.bounds import MOST

EVICTED = "evicted"


class Federation:
    """One job from its first to its last round."""

    def __init__(
        self, config: FederationConfig, base: str, records: Iterable[dict[str, Any]] = ()
    ) -> None:  # fmt: skip
        """``base`` is the digest of the global model, ``records`` are those of all rounds that have ended, in order."""
        self.config = config
        self.base = base
        self.phase = Phase.WAITING
        self.past, self.course = Past(config.max_staleness), Course(config.best_by, config.early_stop)
        for record in records:
            self.past.add(record)
            self.course.add(record)
        self.present: dict[str, int] = {}
        self.round: Round | None = None
        self._abandoned: Round | None = None
        self._held_over: dict[tuple[str, int], UpdateArrived] = {}
        self._refusals_between: dict[Refused, int] = {}
        self._opened_first: float | None = None
        self._reason = ""
        self.wishes = Wishes()

    @property
    def over(self) -> bool:
        """Whether nothing more will happen in this process."""
        return self.phase in OVER

    @property
    def rounds_done(self) -> int:
        return self.past.rounds_done

    @property
    def settled(self) -> int:
        """The newest round of which no update can count any more."""
        return self.rounds_done - (0 if self.phase is Phase.FINISHED else self.config.max_staleness)

    # --- beginning and resuming ---------------------------------------------------------------------------

    def start(self, now: float, unfinished: OpenRound | None = None) -> list[Effect]:
        """The first effects of a run, or of one that goes on after a restart.

        Durations begin anew: a round that was open has its whole deadline again. Its cohort is presumed alive
        until the broker or the clock says otherwise, so that a restart ends in the model of no restart.
        """
        again: list[Effect] = [KeepBest(self.course.best)] if self.course.best else []
        if self.is_over:
            return again + self._finish()
        return again + (self._go_on(unfinished, now) if unfinished is not None else [self._announcement()])

    def _go_on(self, unfinished: OpenRound, now: float) -> list[Effect]:
        self.round = Round(
            unfinished.number, unfinished.attempt, frozenset(unfinished.cohort), unfinished.base,
            unfinished.quorum, self.config.grace_s, self.config.deadline_s, now,
        )  # fmt: skip
        self._opened_first = now
        for update in unfinished.accepted:
            self.round.accept(update, now)
        if unfinished.digest is not None:
            self.past.close(self.round)
            return self._adopted(unfinished.digest)
        if unfinished.closed:
            return self._aggregate()
        self.phase = Phase.OPEN
        return [self._announcement(), *self._advance(now)]

    # --- the machine --------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """The effects of one event; never raises, whatever the event."""
        move = TRANSITIONS.get((self.phase, type(event)))
        return move.handler(self, event, now) if move else []

    def objection(self, asked: Asked) -> str:
        """Why an operator cannot have that now, for a person; empty if it can be had."""
        if (self.phase, type(asked)) not in TRANSITIONS:
            return f"the run is {self.phase.value}"
        return self.wishes.objection(asked)

    def next_instant(self) -> float | None:
        """When :meth:`handle` wants a ``Ticked`` at the latest."""
        return self.round.next_instant() if self.round and self.phase is Phase.OPEN else None

    def admission(self, client_id: str, round_number: int, base: str, num_examples: int) -> str | None:
        """Why an offered update cannot be admitted now, by name, or None."""
        current = self.round.number if self.round else self.rounds_done
        ahead = self._admitting.number if self._admitting else current + 1
        over = ahead > self.config.rounds or self.over
        standing = Standing(self._admitting, current, over, self.past, self.present)
        return standing.refusal(Offered(client_id, round_number, base, num_examples))

    @property
    def _admitting(self) -> Round | None:
        """The round that updates may join: the open one, or an abandoned attempt, which the next one carries on."""
        return self.round if self.phase is Phase.OPEN else self._abandoned

    # --- handlers -----------------------------------------------------------------------------------------

    def _client_ready(self, event: ClientReady, now: float) -> list[Effect]:
        self.present[event.client_id] = event.num_examples
        if self.round:
            self.round.come_back(event.client_id, now)
        return self._advance(now)

    def _client_gone(self, event: ClientGone, now: float) -> list[Effect]:
        self.present.pop(event.client_id, None)
        if self.round:
            self.round.leave(event.client_id, now)
        return self._advance(now)

    def _client_evicted(self, event: ClientEvicted, now: float) -> list[Effect]:
        """What it sent in time counts; for the rest the round goes on without it."""
        self.present.pop(event.client_id, None)
        self._note_refusal(event.client_id, EVICTED)
        if self.round:
            self.round.decline(event.client_id, EVICTED, now)
        return self._advance(now)

    def _update_arrived(self, event: UpdateArrived, now: float) -> list[Effect]:
        update = event.update
        client_id, transfer = update.client_id, update.transfer
        reason = self.admission(client_id, event.round_number, event.base, update.num_examples)
        admitting = self._admitting
        if reason is None and admitting is None:
            return self._hold_over(event)
        if reason is None and admitting is not None:
            update = replace(update, staleness=admitting.number - event.round_number)
            admitting.accept(update, now)
            kept = KeepUpdate(admitting.number, update)
            return [kept, Answer(client_id, transfer, messages.ACCEPTED), *self._advance(now)]
        return self._refuse_update(client_id, transfer, reason or messages.LATE, event.round_number)

    def _hold_over(self, event: UpdateArrived) -> list[Effect]:
        """Between rounds: a straggler's update waits, unanswered, for the round that can take it."""
        key = event.update.client_id, event.round_number
        held = self._held_over.setdefault(key, event)
        if held.update.transfer == event.update.transfer:
            return []
        return self._refuse_update(key[0], event.update.transfer, "duplicate_update", event.round_number)

    def _update_refused(self, event: UpdateRefused, now: float) -> list[Effect]:
        answers = self._refuse_update(event.client_id, event.transfer, event.reason, event.round_number)
        current = self.round if self.phase is Phase.OPEN and event.answered else None
        if current is not None and event.round_number == current.number:
            current.decline(event.client_id, event.reason, now)
        return answers + self._advance(now)

    def _refuse_update(self, client_id: str, transfer: str, reason: str, round_number: int) -> list[Effect]:
        """Say no; but what was accepted stays accepted when it is offered again, because our answer was lost."""
        holding = self.round or self._abandoned
        is_held = holding is not None and holding.holds(client_id, transfer)
        is_counted = round_number <= self.rounds_done and self.past.counts_already(client_id, round_number)
        if is_held or (reason == messages.LATE and is_counted):
            return [Answer(client_id, transfer, messages.ACCEPTED)]
        self._note_refusal(client_id, reason)
        verdict = messages.LATE if reason == messages.LATE else messages.REJECTED
        return [Answer(client_id, transfer, verdict, reason)]

    def _client_declined(self, event: ClientDeclined, now: float) -> list[Effect]:
        if self.round and event.round_number == self.round.number:
            if event.client_id not in self.round.declined:
                self._note_refusal(event.client_id, f"declined: {event.reason}")
            self.round.decline(event.client_id, event.reason, now)
        return self._advance(now)

    def _model_scored(self, event: ModelScored, now: float) -> list[Effect]:
        num_examples = self.present.get(event.client_id)
        if self.round is not None and event.round_number == self.round.number and num_examples:
            self.round.score(event.client_id, event.base, num_examples, event.metrics)
        return []

    def _frame_refused(self, event: FrameRefused, now: float) -> list[Effect]:
        self._note_refusal(event.client_id, event.reason)
        return []

    def _note_refusal(self, client_id: str, reason: str) -> None:
        holding = self.round or self._abandoned
        note_refusal(holding.refusals if holding else self._refusals_between, client_id, reason)

    def _ticked(self, event: Ticked, now: float) -> list[Effect]:
        return self._advance(now)

    def _aggregated(self, event: Aggregated, now: float) -> list[Effect]:
        if self.round is None or event.round_number != self.round.number:
            return []
        return self._adopted(event.digest)

    def _evaluated(self, event: Evaluated, now: float) -> list[Effect]:
        if self.round is None or event.round_number != self.round.number:
            return []
        outcome = (
            Outcome.CLOSED if set(self.round.accepted) == set(self.round.cohort) else Outcome.CLOSED_SHORT
        )
        finite = {key: value for key, value in (event.metrics or {}).items() if math.isfinite(value)}
        ended = self._end_round(outcome, now, finite or None)
        if self.is_over:
            return [*ended, *self._finish()]
        if self.wishes.stopping:
            return [*ended, *self._stop()]
        ahead = self._advance(now)
        return [*ended, *(ahead or [self._announcement()])]

    # --- what operators want ------------------------------------------------------------------------------

    def _asked(self, event: Asked, now: float) -> list[Effect]:
        if self.wishes.objection(event):
            return []
        self.wishes.note(event)
        if self.wishes.stopping and self.phase is Phase.WAITING:
            return self._stop()
        return self._advance(now) or [self._announcement()]

    def _rounds_added(self, event: RoundsAdded, now: float) -> list[Effect]:
        if self.wishes.objection(event):
            return []
        self.config = replace(self.config, rounds=min(MOST, self.config.rounds + event.rounds))
        return [KeepRounds(self.config.rounds), self._announcement()]

    def _stop(self) -> list[Effect]:
        self.phase, self._reason = Phase.STOPPED, STOPPED
        return [self._announcement(), Stop()]

    # --- steps --------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> list[Effect]:
        """Open a round if there can be one; end the open one if its rule says so."""
        if self.phase is Phase.WAITING:
            can_open = len(at_hand(self.present, self._abandoned)) >= self.needed and not self.wishes.paused
            return self._open(now) if can_open else []
        if self.phase is not Phase.OPEN or self.round is None:
            return []
        outcome = self.round.outcome(now)
        if outcome is None:
            return []
        return self._abandon(now) if outcome is Outcome.ABANDONED else self._aggregate()

    @property
    def needed(self) -> int:
        """Clients that must be here before a round can open."""
        return needed(self.config)

    def _open(self, now: float) -> list[Effect]:
        opened = open_round(
            self.config, self.past, self.base, self.present, now, before=self._abandoned,
            refusals=self._refusals_between,
        )  # fmt: skip
        self.round, self.phase = opened, Phase.OPEN
        self._abandoned, self._refusals_between = None, {}
        if self._opened_first is None:
            self._opened_first = now
        cohort = tuple(sorted(opened.cohort))
        kept = KeepRound(opened.number, opened.attempt, cohort, self.base, opened.quorum)
        effects: list[Effect] = [kept, self._announcement()]
        held, self._held_over = self._held_over, {}
        for event in held.values():
            effects += self._update_arrived(event, now)
        return [*effects, *self._advance(now)]

    def _aggregate(self) -> list[Effect]:
        assert self.round is not None
        self.phase = Phase.AGGREGATING
        self.past.close(self.round)
        fold = Aggregate(self.round.number, self.round.base, self.round.folded)
        return [fold, self._announcement()] if self.round.stragglers() or self.config.evaluate else [fold]

    def _adopted(self, digest: str) -> list[Effect]:
        assert self.round is not None
        predecessor = self.round.base
        self.base, self.phase = digest, Phase.EVALUATING
        return [
            AdoptModel(self.round.number, digest, predecessor),
            Evaluate(self.round.number, digest),
        ]

    def _abandon(self, now: float) -> list[Effect]:
        """The attempt failed: try again with what it accepted, or end the run."""
        assert self.round is not None
        number, attempt = self.round.number, self.round.attempt
        again = attempt <= self.config.retries
        held = len(self.round.folded)
        told = Abandon(number, attempt, held, self.round.quorum, again)
        if again:
            self._abandoned, self.round, self.phase = self.round, None, Phase.WAITING
            if self.wishes.stopping:
                return [told, *self._stop()]
            ahead = self._advance(now)
            return [told, *(ahead or [self._announcement()])]
        self._reason = (
            f"round {number} was abandoned: {held} updates of the {self.round.quorum} needed, "
            f"after {attempt} attempt{'s' if attempt > 1 else ''}"
        )
        ended = self._end_round(Outcome.ABANDONED, now, None)
        self.phase = Phase.FAILED
        return [told, *ended, self._announcement(), Fail(self._reason)]

    def _end_round(self, outcome: Outcome, now: float, metrics: dict[str, float] | None) -> list[Effect]:
        assert self.round is not None
        since = self._opened_first if self._opened_first is not None else now
        plan = self.config.plan_of(self.round.number)
        record = record_of(self.round, plan, outcome, self.base, round(now - since, 4), metrics)
        better = self.course.add(record)
        if self.course.best is not None:
            record["best"] = self.course.best.as_json()
        self.past.add(record)
        if self.course.verdict and self.rounds_done < self.config.rounds:
            record["ended_early"] = self.course.verdict
        self.round, self._opened_first = None, None
        self.phase = Phase.WAITING
        return [KeepRecord(record), *([KeepBest(better)] if better else [])]

    @property
    def is_over(self) -> bool:
        """Whether no round is left, or none that is worth while."""
        return self.rounds_done >= self.config.rounds or bool(self.course.verdict)

    def _finish(self) -> list[Effect]:
        self.phase = Phase.FINISHED
        if self.rounds_done < self.config.rounds:
            self._reason = f"ended early: {self.course.verdict}"
        return [self._announcement(), Finish(self._reason)]

    # --- what the world is told -----------------------------------------------------------------------------

    def state(self) -> messages.RoundState:
        """What ``pub/round`` says now."""
        return round_state(
            self.config, ANNOUNCED_AS[self.phase], self.round, self.past, base=self.base, needed=self.needed,
            refused=sum((self.round.refusals if self.round else self._refusals_between).values()),
            reason=self._reason or self.wishes.reason(waiting=self.phase is Phase.WAITING),
        )  # fmt: skip

    def _announcement(self) -> Announce:
        return Announce(self.state())


_OPENS = "waiting open aggregating"
_ENDS = "open aggregating waiting failed stopped"
_UNDER_WAY = {phase: phase for phase in ("open", "aggregating", "evaluating")}
_STAYS = {phase.value: phase.value for phase in Phase}

TRANSITIONS: dict[tuple[Phase, type[Any]], Move[Federation]] = {
    (phase, event): move
    for event, moves in (
        (ClientReady, moves(Federation._client_ready, **_STAYS | {"waiting": _OPENS, "open": _ENDS})),
        (ClientGone, moves(Federation._client_gone, **_STAYS | {"open": _ENDS})),
        (UpdateArrived, moves(Federation._update_arrived, **_STAYS | {"waiting": _OPENS, "open": _ENDS})),
        (UpdateRefused, moves(Federation._update_refused, **_STAYS | {"waiting": _OPENS, "open": _ENDS})),
        (FrameRefused, moves(Federation._frame_refused, **_STAYS)),
        (ClientDeclined, moves(Federation._client_declined, open=_ENDS)),
        (
            ModelScored,
            moves(Federation._model_scored, open="open", aggregating="aggregating", evaluating="evaluating"),
        ),
        (Ticked, moves(Federation._ticked, waiting=_OPENS, open=_ENDS)),
        (Aggregated, moves(Federation._aggregated, aggregating="aggregating evaluating")),
        (Evaluated, moves(Federation._evaluated, evaluating="evaluating waiting open finished stopped")),
        (
            ClientEvicted,
            moves(Federation._client_evicted, **_STAYS | {"waiting": _OPENS, "open": _ENDS}),
        ),
        (Paused, moves(Federation._asked, waiting="waiting", **_UNDER_WAY | {"open": _ENDS})),
        (Resumed, moves(Federation._asked, waiting=_OPENS, **_UNDER_WAY | {"open": _ENDS})),
        (LastRoundSet, moves(Federation._asked, waiting="stopped", **_UNDER_WAY | {"open": _ENDS})),
        (RoundsAdded, moves(Federation._rounds_added, waiting="waiting", **_UNDER_WAY)),
    )
    for (phase, _), move in moves.items()
}
"""Every event that means something in a phase. docs/design.md draws this table."""
