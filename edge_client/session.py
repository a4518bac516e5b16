"""What an edge does, as a state machine over work.py: events and a time in, ordered effects out. Pure.

link.py holds the other half: whether broker and aggregator are there. Work goes on without them as far as it can.

A round and its base model are trained once. The finished update stays on disk while it may still count: through
cuts, restarts of either side and repeated attempts of the round; the table TRANSITIONS says what is heard when.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from edge_client import notices
from edge_client.announced import Announced
from edge_client.departure import Departure
from edge_client.events import (
    AckArrived,
    BrokerConnected,
    CancelTraining,
    ChunkArrived,
    DataPrepared,
    DropUpdate,
    Effect,
    Event,
    Leave,
    ModelScored,
    PrepareData,
    StartScoring,
    StartTraining,
    Tell,
    Ticked,
    TrainingProgressed,
    Update,
    UpdateKept,
    WorkFailed,
)
from edge_client.figures import Figures
from edge_client.library import Library
from edge_client.link import Link, Place
from edge_client.outbox import Outbox, Verdict
from edge_client.preparation import Preparation
from edge_client.rounds import (
    Answered,
    Assignment,
    Key,
    asks_to_score,
    assignment_of,
    counts,
    is_current,
    is_worth_beginning,
)
from edge_client.telling import Telling
from edge_client.work import ANNOUNCED_AS, Work
from fl_protocol import messages
from fl_protocol.errors import DataError
from fl_protocol.messages import (
    Cancel,
    ClientState,
    Decline,
    Progress,
    Rejection,
    RoundState,
    Scored,
)
from fl_protocol.tensors import chunk_bytes_for

DATA_UNUSABLE = "its data cannot be used as they are"
PROGRESS_EVERY_S = 0.5


class Session:
    """One edge in one job. ``models`` are the digests on disk, ``kept`` an update that an earlier process left."""

    def __init__(
        self, job: str, client: str, instance: str, *, models: Collection[str] = (), kept: Update | None = None,
        kept_accepted: bool = False, folder: str = "", private: bool = False,
    ) -> None:  # fmt: skip
        self.job, self.client, self.folder = job, client, folder
        self.link = Link(job, client, instance)
        self.work = Work.UNPREPARED
        self.over = False
        self._announced = Announced()
        self._preparation = Preparation()
        self._telling = Telling(job, client)
        self._doing: Assignment | None = None
        self.figures = Figures(private)
        self.outbox = Outbox(job, client, kept and self.figures.shared(kept), accepted=kept_accepted)
        self._answered = Answered()
        self.library = Library(job, models)
        self._departure = Departure(self.library)
        self._chunk_bytes = chunk_bytes_for(None)
        self._unsent = 0
        self._aggregator = ""
        self._progress_at = float("-inf")
        self._taken_up_at = 0.0
        self._told_round: Key | None = None

    # --- the machine --------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """The effects of one event; never raises, whatever the event."""
        if self.over:
            return []
        before = self.link.place
        effects = self.link.handle(event, now) + self.library.handle(event, now)
        handler = TRANSITIONS.get((self.work, type(event)))
        if handler is not None:
            effects += handler(self, event, now)
        if self.link.joined and before is not Place.JOINED:
            effects += self._joined(now)
        elif before is Place.JOINED and not self.link.joined:
            self.outbox.away()
        if self.link.place is not Place.SENT_AWAY:
            effects += self._pursue(now)
        self.over = any(isinstance(effect, Leave) for effect in effects)
        return effects if self.over else [*effects, *self._announce(now)]

    def deadline(self) -> float:
        """When :meth:`handle` wants a ``Ticked`` at the latest; infinite if nothing is timed."""
        ending = self._departure.deadline(finished=self._finished, welcomed=self.link.welcomed)
        again = float("inf") if self._finished else self._preparation.deadline
        return min(
            self._telling.deadline, self.link.deadline, self.library.deadline, self.outbox.deadline, ending, again
        )  # fmt: skip

    @property
    def working(self) -> bool:
        """Whether the task process is needed now."""
        return self.work in (Work.PREPARING, Work.TRAINING, Work.SCORING)

    @property
    def round(self) -> RoundState | None:
        """What the aggregator announced last."""
        return self._announced.round

    @property
    def _finished(self) -> bool:
        return self._announced.finished

    @property
    def _busy_with(self) -> Key | None:
        if self.work is Work.UPLOADING:
            return self.outbox.key
        return self._doing.key if self._doing else None

    def state(self) -> ClientState:
        """What ``up/<client>/state`` says now."""
        data = self._preparation.data
        return ClientState(
            self.link.instance,
            ANNOUNCED_AS[self.work],
            self._busy_with[0] if self._busy_with else 0,
            data.num_examples if data else 0,
            data.summary if data else None,
            data.device[:64] if data else "",
            self.figures.told,
            self.figures.round_number,
        )

    def _announce(self, now: float) -> list[Effect]:
        return self._telling.tell(self.state(), now, heard=self.link.joined)

    def farewell(self) -> ClientState:
        """What is said in place of the last will."""
        return self._telling.counted(ClientState(self.link.instance, messages.LEFT))

    # --- broker and aggregator ----------------------------------------------------------------------------

    def _broker_connected(self, event: BrokerConnected, now: float) -> list[Effect]:
        self._chunk_bytes = chunk_bytes_for(event.max_packet_bytes)
        self._unsent = event.unsent
        self._telling.connected(event.number)
        self._departure.connected(now)
        return []

    def _joined(self, now: float) -> list[Effect]:
        self._telling.forget()
        if self.link.aggregator != self._aggregator:
            # Another process, perhaps of a run begun afresh: what its predecessor was told is asked again.
            self._aggregator = self.link.aggregator
            self._answered.clear()
        lost, self._unsent = self._unsent == 0, 0
        # Said before anything is offered: an offer counts only from a client that said how many examples it has.
        return [*self._announce(now), *self.outbox.rejoined(now, lost=lost)]

    # --- rounds -------------------------------------------------------------------------------------------

    def _round_seen(self, event: RoundState, now: float) -> list[Effect]:
        news = self._announced.hear(event)
        if news is None:
            return []
        if news.another_run:
            return self._begin_anew()
        effects = self.outbox.rejoined(now, lost=True) if news.goes_on else []
        if (last := news.ended) is not None:
            effects.append(Tell(notices.RoundEnded(last.round_number, last.outcome, last.metrics)))
        return effects

    def _begin_anew(self) -> list[Effect]:
        """Another run: what we did was for the one before."""
        self._answered.clear()
        self.figures.scored = self._told_round = None
        idle = self.work in (Work.UNPREPARED, Work.PREPARING)
        stopped = [] if idle else self._stop_work()
        return [*stopped, *self.outbox.drop(), *self.outbox.end_parting()]

    def _cancelled(self, event: Cancel, now: float) -> list[Effect]:
        busy_with = self._busy_with
        if busy_with is None or busy_with[0] != event.round_number or self.round is None:
            return []
        told = Tell(notices.WorkCancelled(event.round_number, event.reason))
        self._answered.add(busy_with, self.round.attempt)
        return [told, *self._stop_work()]

    def _rejected_frame(self, event: Rejection, now: float) -> list[Effect]:
        return [Tell(notices.Warned(f"the aggregator refused a message of ours: {event.reason}"))]

    def _may_count(self, key: Key) -> bool:
        """Whether the update that is kept may still be of use; an accepted one only while its round is open."""
        may = counts if self.outbox.accepted_by is None else is_current
        return may(self.round, self.client, key)

    def _still_wanted(self, doing: Assignment) -> bool:
        """Whether what we work at is still worth doing."""
        may = is_worth_beginning if self.work is Work.FETCHING else counts
        return (may if doing.trains else asks_to_score)(self.round, self.client, doing.key)

    # --- what to do next ----------------------------------------------------------------------------------

    def _pursue(self, now: float) -> list[Effect]:
        """Whatever happened: bring what we do in line with what the round wants."""
        if self.round is None:
            return []
        effects = self._drop_outdated(now)
        effects += self._prepare(now)
        effects += self._take_up(now)
        effects += self._fetch(now)
        return effects

    def _drop_outdated(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        doing, outbox = self._doing, self.outbox
        if doing is not None and self.work is not Work.UPLOADING and not self._still_wanted(doing):
            cancelled = Tell(notices.WorkCancelled(doing.round_number, "the round moved on"))
            effects = [*([cancelled] if doing.trains else []), *self._stop_work()]
        if outbox.key is None or self._may_count(outbox.key):
            return effects
        if self.work is Work.UPLOADING:
            self.work = Work.READY
        if outbox.accepted_by is not None or self._finished:
            return [*effects, *outbox.drop()]
        if self.link.joined and self._preparation.data is not None:
            return [*effects, *self._announce(now), *outbox.part(self._chunk_bytes, now)]
        outbox.upload = None
        return effects

    def _stop_work(self) -> list[Effect]:
        """Leave FETCHING, TRAINING, SCORING or UPLOADING; an update under way is dropped."""
        effects: list[Effect] = []
        if self.work in (Work.TRAINING, Work.SCORING) and self._doing is not None:
            effects = [CancelTraining(self._doing.round_number)]
        elif self.work is Work.UPLOADING:
            effects = self.outbox.drop()
        self._doing, self.work = None, Work.READY
        return effects

    def _prepare(self, now: float) -> list[Effect]:
        assert self.round is not None
        wanted = (self.round.task, self.round.image_size)
        if not self.round.task or self.work is Work.PREPARING or self._finished:
            return []
        if not self._preparation.due(wanted, now):
            return []
        effects = self._stop_work() if self.work is not Work.UNPREPARED else []
        self._preparation.begin(wanted)
        self.work = Work.PREPARING
        return [*effects, PrepareData(*wanted)]

    def _take_up(self, now: float) -> list[Effect]:
        """If we have nothing to do: offer the update that is kept, or begin what the round wants."""
        if self.work is not Work.READY or not self.link.joined:
            return []
        wanted, key = assignment_of(self.round, self.client), self.outbox.key
        if key is not None and self.outbox.accepted_by != self._aggregator and self._may_count(key):
            self.work = Work.UPLOADING
            return [*self._announce(now), *self.outbox.offer(self._chunk_bytes, now)]
        if wanted is None or wanted.key == key or self._answered.has(wanted.key, wanted.attempt):
            return []
        if not wanted.trains and (self.figures.private or self.figures.scored == wanted.key):
            return []
        self._doing, self.work, self._taken_up_at = wanted, Work.FETCHING, now
        effects: list[Effect] = []
        if wanted.trains and self._told_round != wanted.key and self.round is not None:
            self._told_round = wanted.key
            cohort, rounds = len(self.round.cohort), self.round.rounds
            effects.append(Tell(notices.RoundJoined(wanted.round_number, rounds, cohort)))
        return effects

    # --- the model ----------------------------------------------------------------------------------------

    def _fetch(self, now: float) -> list[Effect]:
        """Want the model that is needed now; go on once it is here."""
        state = self.round
        assert state is not None
        if self._finished:
            return self._departure.pursue(
                state.base, self.outbox.end_parting, now, welcomed=self.link.welcomed
            )
        self._departure.stay()
        if self.work is Work.FETCHING and self._doing is not None:
            return self._fetch_for(self._doing, now)
        # A late joiner has the model at hand before its first round, and while the aggregator is away. When a launched run
        # has ended nobody leaves, and its last model is what a site was in it for.
        idle = self.library.empty or (self._announced.between_runs and self.work is Work.READY)
        return self.library.want(state.base if idle else None, now)

    def _fetch_for(self, doing: Assignment, now: float) -> list[Effect]:
        if self.library.has(doing.base):
            self.work = Work.TRAINING if doing.trains else Work.SCORING
            self._progress_at = now + PROGRESS_EVERY_S
            training = StartTraining(doing, now - self._taken_up_at)
            return [*self.library.want(None, now), training if doing.trains else StartScoring(doing)]
        if self.library.is_broken(doing.base):
            why = "the model that the broker retains does not match its digest"
            return self._decline(why) if doing.trains else self._scored({})
        return self.library.want(doing.base, now)

    def _chunk_arrived(self, event: ChunkArrived, now: float) -> list[Effect]:
        download = self.library.download
        if download is None or self._doing is None or download.digest != event.digest:
            return []
        return [Tell(notices.FetchAdvanced(self._doing.round_number, *download.progress))]

    # --- the task process ---------------------------------------------------------------------------------

    def _data_prepared(self, event: DataPrepared, now: float) -> list[Effect]:
        self._preparation.data, self.work = event, Work.READY
        return [Tell(notices.DataFound(self.folder, event.summary, event.problems))]

    def _preparing_failed(self, event: WorkFailed, now: float) -> list[Effect]:
        self.work = Work.UNPREPARED
        self._preparation.failed(now)
        if event.data:
            return [Leave(DataError(event.reason))]
        return [Tell(notices.Warned(f"reading the data failed, trying again: {event.reason}"))]

    def _training_progressed(self, event: TrainingProgressed, now: float) -> list[Effect]:
        if self._doing is None or event.round_number != self._doing.round_number:
            return []
        effects: list[Effect] = [
            Tell(notices.TrainingAdvanced(event.round_number, event.fraction, event.loss))
        ]
        if self.link.joined and now >= self._progress_at:
            self._progress_at = now + PROGRESS_EVERY_S
            loss = None if self.figures.private else event.loss
            effects.append(self.link.say(Progress(event.round_number, event.fraction, loss)))
        return effects

    def _model_scored(self, event: ModelScored, now: float) -> list[Effect]:
        if self._doing is None or event.round_number != self._doing.round_number:
            return []
        return self._scored(event.metrics)

    def _scored(self, metrics: dict[str, float]) -> list[Effect]:
        """Scoring is over, and is not tried again for this model. Nobody waits for it: said if it can be said now."""
        doing = self._doing
        assert doing is not None
        self.figures.scored, self._doing, self.work = doing.key, None, Work.READY
        found = self.figures.note(doing.round_number, metrics)
        if not found:
            return []
        said = [self.link.say(Scored(doing.round_number, doing.base, metrics))] if self.link.joined else []
        return [*said, Tell(notices.ModelScored(doing.round_number, found))]

    def _scoring_failed(self, event: WorkFailed, now: float) -> list[Effect]:
        if self._doing is None or event.cancelled or event.round_number != self._doing.round_number:
            return []
        return [*self._scored({}), Tell(notices.Warned(f"the model could not be scored: {event.reason}"))]

    def _training_failed(self, event: WorkFailed, now: float) -> list[Effect]:
        if self._doing is None or event.cancelled or event.round_number != self._doing.round_number:
            return []
        if event.data:  # the line may name files, and files are named after patients
            return [*self._decline(DATA_UNUSABLE), Tell(notices.Warned(event.reason))]
        return self._decline(event.reason)

    def _decline(self, reason: str) -> list[Effect]:
        doing = self._doing
        assert doing is not None
        self._answered.add(doing.key, doing.attempt)
        self._doing, self.work = None, Work.READY
        line = " ".join(reason.split())[:300]
        return [
            self.link.say(Decline(doing.round_number, line)),
            Tell(notices.RoundDeclined(doing.round_number, line)),
        ]

    # --- the update ---------------------------------------------------------------------------------------

    def _update_kept(self, event: UpdateKept, now: float) -> list[Effect]:
        update, doing = event.update, self._doing
        if self.work is not Work.TRAINING or doing is None or doing.key != (update.round_number, update.base):
            ours = self.outbox.kept is not None and self.outbox.kept.file == update.file
            return [] if ours else [DropUpdate(update)]  # of a training that was cancelled too late
        self._doing, self.work = None, Work.READY
        found = self.figures.note(update.round_number, update.metrics)
        told = [Tell(notices.ModelScored(update.round_number, found))] if found else []
        return [*told, *self.outbox.keep(self.figures.shared(update))]

    def _ack_arrived(self, event: AckArrived, now: float) -> list[Effect]:
        effects, way = self.outbox.ack(event, self._aggregator, now)
        if isinstance(way, Verdict):
            return [*effects, *self._verdict(way)]
        if way is None:
            return []
        return [*effects, Tell(notices.UploadAdvanced(way.update.round_number, *way.progress))]

    def _verdict(self, ended: Verdict) -> list[Effect]:
        update = ended.update
        attempt = self.round.attempt if self.round else 0
        self._answered.add((update.round_number, update.base), None if ended.accepted else attempt)
        if not ended.parting:
            self.work = Work.READY
        return [Tell(notices.VerdictReceived(update.round_number, ended.verdict, ended.reason))]

    def _ticked(self, event: Ticked, now: float) -> list[Effect]:
        return self.outbox.tick(now, event.unsent)


Handler = Callable[[Session, Any, float], list[Effect]]
_BUSY = (Work.FETCHING, Work.TRAINING, Work.UPLOADING)

TRANSITIONS: dict[tuple[Work, type[Any]], Handler] = {
    **{(work, BrokerConnected): Session._broker_connected for work in Work},
    **{(work, RoundState): Session._round_seen for work in Work},
    **{(work, Rejection): Session._rejected_frame for work in Work},
    **{(work, AckArrived): Session._ack_arrived for work in Work},
    **{(work, UpdateKept): Session._update_kept for work in Work},
    **{(work, Ticked): Session._ticked for work in Work},
    **{(work, Cancel): Session._cancelled for work in _BUSY},
    (Work.PREPARING, DataPrepared): Session._data_prepared,
    (Work.PREPARING, WorkFailed): Session._preparing_failed,
    (Work.FETCHING, ChunkArrived): Session._chunk_arrived,
    (Work.TRAINING, TrainingProgressed): Session._training_progressed,
    (Work.TRAINING, WorkFailed): Session._training_failed,
    (Work.SCORING, ModelScored): Session._model_scored,
    (Work.SCORING, WorkFailed): Session._scoring_failed,
}
"""What is heard in which state. What is not listed changes nothing there; link.py and library.py hear it too."""
