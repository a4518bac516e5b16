"""Whatever an edge hears, in whatever order: it does not break, and trains nothing that was accepted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client import events as ev
from edge_client.work import Work
from fl_protocol.messages import (
    ACCEPTED,
    AGGREGATING,
    FINISHED,
    LATE,
    REJECTED,
    STOPPED,
    WAITING,
    Ack,
    AggregatorState,
    Cancel,
    ClientState,
    Offer,
    Ping,
    Welcome,
)
from tests.unit.edge_client.sessions import (
    AGG,
    AGG2,
    INSTANCE,
    ME,
    MODEL,
    MODEL2,
    SUMMARY,
    Play,
    of,
    offers,
    round_state,
    update_of,
)

BASES = (MODEL.digest, MODEL2.digest)
small = st.integers(0, 3)
bases = st.sampled_from(BASES)
round_states = st.builds(
    round_state,
    number=small,
    phase=st.sampled_from(["open", "open", "open", WAITING, AGGREGATING, STOPPED, FINISHED]),
    attempt=st.integers(0, 2),
    base=bases,
    cohort=st.sampled_from([(ME, "site-b"), (ME,), ("site-b",)]),
    image_size=st.sampled_from([32, 32, 32, 64]),
)
updates = st.builds(update_of, small, bases, st.sampled_from([4000, 600_000]), st.integers(0, 2))
acks = st.builds(
    Ack, st.binary(max_size=2), small, st.sampled_from([None, None, ACCEPTED, REJECTED, LATE]), st.just("why")
)
TRANSFERS = [f"{n}-{update_of(n).manifest.digest[:32]}" for n in range(4)]
instances = st.sampled_from([INSTANCE, "dd" * 8])
events = st.one_of(
    round_states,
    st.builds(ev.BrokerConnected, st.sampled_from([None, 131_072]), small),
    st.builds(ev.BrokerLost, st.just("cut")),
    st.builds(AggregatorState, st.booleans(), st.sampled_from([AGG, AGG, AGG2])),
    st.builds(Welcome, instances),
    st.builds(Ping, instances),
    st.builds(Cancel, small),
    st.builds(ev.ManifestArrived, bases, st.sampled_from([MODEL, MODEL2])),
    st.builds(ev.ChunkArrived, bases, st.integers(0, 12), st.sampled_from([bytes(4096), b""])),
    st.builds(ev.AckArrived, st.sampled_from(TRANSFERS), acks),
    st.builds(ev.ModelFound, bases),
    st.builds(ev.ModelMissing, bases),
    st.builds(ev.PartOpened, bases, st.just(())),
    st.builds(ev.DataPrepared, st.just(SUMMARY), st.just(8), st.just("cpu")),
    st.builds(ev.TrainingProgressed, small, st.just(0.5), st.just(0.1)),
    st.builds(ev.UpdateKept, updates),
    st.builds(ev.WorkFailed, small, st.just("why"), st.just(False), st.booleans()),
    st.builds(ev.Ticked, small),
)


def hint_finished(play: Play) -> list[ev.Event]:
    """What the session waits for just now, so that a random walk gets somewhere."""
    work = play.session.work
    if work is Work.PREPARING:
        return [ev.DataPrepared(SUMMARY, 8, "cpu")]
    if work is Work.TRAINING:
        started = of(ev.StartTraining, play.log)[-1].assignment
        return [ev.UpdateKept(update_of(started.round_number, started.base, 4000, started.attempt))]
    if work is Work.UPLOADING:
        transfer = offers(play.log)[-1].topic.rpartition("/")[2]
        return [ev.AckArrived(transfer, Ack(b"", 4, ACCEPTED))]
    return [Welcome(INSTANCE)]


class Watcher:
    """Holds every effect against what was before it."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.accepted: set[tuple[int, str]] = set()
        self.aggregator = ""
        self.said_examples = False

    def watch(self, effects: list[ev.Effect]) -> None:
        if self.play.session.link.aggregator != self.aggregator:
            self.aggregator = self.play.session.link.aggregator
            self.accepted.clear()
        if not self.play.session.link.connected:
            self.said_examples = False
        for effect in effects:
            self._watch_work(effect)
            if isinstance(effect, ev.Send):
                self._watch_words(effect.message)

    def _watch_work(self, effect: ev.Effect) -> None:
        if isinstance(effect, ev.StartTraining):
            assert effect.assignment.key not in self.accepted, "what was accepted is trained again"
        if isinstance(effect, ev.KeepAccepted):
            self.accepted.add((effect.update.round_number, effect.update.base))

    def _watch_words(self, message: object) -> None:
        if isinstance(message, ClientState):
            self.said_examples = message.num_examples > 0
        if isinstance(message, Offer):
            assert self.said_examples, "an offer of a client that never said it has examples"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.one_of(events, st.none()), st.sampled_from([0.0, 0.3, 6.0, 70.0])), max_size=40),
    st.one_of(st.none(), updates),
    st.booleans(),
)
def test_no_sequence_of_events_breaks_it_or_trains_what_was_accepted(
    happened: list[tuple[ev.Event | None, float]], kept: ev.Update | None, begun: bool
) -> None:
    play = Play(disk=BASES, kept=kept)
    watcher = Watcher(play)
    watcher.watch(play.ready() if begun else [])
    for event, pause in happened:
        play.now += pause
        for each in [event] if event is not None else hint_finished(play):
            watcher.watch(play.hear(each))
        watcher.watch(play.hear(ev.Ticked()))
        if not play.session.over:
            assert play.session.deadline() > play.now, "a deadline that is never met"
