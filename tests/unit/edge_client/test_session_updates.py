"""What becomes of a finished update while rounds move on, processes end and lines are cut."""

from __future__ import annotations

from edge_client import events as ev
from edge_client.work import Work
from fl_protocol.messages import (
    ACCEPTED,
    AGGREGATING,
    LATE,
    REJECTED,
    AggregatorState,
    ClientState,
    Hello,
    Offer,
    Welcome,
)
from tests.unit.edge_client.sessions import (
    AGG,
    AGG2,
    INSTANCE,
    MODEL,
    MODEL2,
    SUMMARY,
    Play,
    of,
    offers,
    round_state,
    sent,
    told,
    update_of,
)


def test_a_rejection_and_a_late_verdict_delete_the_update() -> None:
    for verdict in (REJECTED, LATE):
        play = Play()
        play.ready()
        offered = play.trained()
        over = play.ack(offered, verdict, reason="bad_values")
        assert of(ev.DropUpdate, over)
        assert of(ev.StartTraining, over) == []
        assert of(ev.StartTraining, play.hear(round_state())) == []


def test_an_update_that_the_aggregator_holds_already_counts_as_accepted() -> None:
    play = Play()
    play.ready()
    over = play.ack(play.trained(), REJECTED, reason="duplicate_update")
    assert of(ev.KeepAccepted, over)
    assert of(ev.StartTraining, play.hear(round_state(attempt=2))) == []


def test_a_finished_update_of_an_earlier_process_is_offered_and_not_trained_again() -> None:
    play = Play(kept=update_of())
    effects = play.ready()
    assert of(ev.StartTraining, effects) == []
    assert len(offers(effects)) == 1


def test_a_leftover_update_of_a_past_round_is_offered_once_then_deleted() -> None:
    play = Play(kept=update_of())
    effects = play.ready(round_state(2, base=MODEL2.digest, cohort=("site-b",)))
    assert len(offers(effects)) == 1
    assert offers(play.later(9)) == []
    assert of(ev.DropUpdate, play.later(2))
    assert offers(play.later(60)) == []


def test_a_leftover_update_that_was_accepted_is_deleted_without_a_word() -> None:
    play = Play(kept=update_of(), kept_accepted=True)
    effects = play.ready(round_state(2, base=MODEL2.digest, cohort=("site-b",)))
    assert offers(effects) == []


def test_the_update_of_a_round_that_moved_on_parts_while_the_next_is_worked_for() -> None:
    play = Play(disk=(MODEL.digest, MODEL2.digest))
    play.ready()
    offered = play.trained()
    moved = play.hear(round_state(2, base=MODEL2.digest))
    assert [effect.assignment.round_number for effect in of(ev.StartTraining, moved)] == [2]
    assert [effect.topic for effect in offers(moved)] == [offers(offered)[0].topic]
    late = play.ack(offered, LATE, reason="late")
    assert told(late) == ["VerdictReceived"]
    assert of(ev.DropUpdate, late)
    assert play.session.work is Work.TRAINING


def test_a_straggler_finishes_what_may_still_count_and_takes_up_the_next_round() -> None:
    play = Play(disk=(MODEL.digest, MODEL2.digest))
    play.ready(round_state(max_staleness=1))
    closing = play.hear(round_state(phase=AGGREGATING, max_staleness=1))
    moved = play.hear(round_state(2, base=MODEL2.digest, max_staleness=1))
    assert of(ev.CancelTraining, closing + moved) == []
    offered = play.trained(update_of())
    assert [offer.round_number for offer in sent(Offer, offered)] == [1]
    accepted = play.ack(offered, ACCEPTED)
    assert [effect.assignment.round_number for effect in of(ev.StartTraining, accepted)] == [2]
    assert of(ev.DropUpdate, accepted), "its round is over: nobody will ask for it again"


def test_a_straggler_gives_up_what_fell_behind_too_far() -> None:
    play = Play(disk=(MODEL.digest, MODEL2.digest))
    play.ready(round_state(max_staleness=1))
    play.hear(round_state(2, base=MODEL2.digest, max_staleness=1))
    moved = play.hear(round_state(3, base=MODEL2.digest, max_staleness=1))
    assert of(ev.CancelTraining, moved)
    assert [effect.assignment.round_number for effect in of(ev.StartTraining, moved)] == [3]


def test_an_update_under_way_is_sent_on_while_it_may_count() -> None:
    play = Play(disk=(MODEL.digest, MODEL2.digest))
    play.ready(round_state(max_staleness=1))
    play.trained()
    assert offers(play.hear(round_state(2, base=MODEL2.digest, max_staleness=1))) == []
    assert play.session.work.value == "uploading"
    parting = play.hear(round_state(3, base=MODEL2.digest, max_staleness=1))
    assert [offer.round_number for offer in sent(Offer, parting)] == [1]
    assert [effect.assignment.round_number for effect in of(ev.StartTraining, parting)] == [3]


def test_a_new_aggregator_is_offered_again_what_the_old_one_accepted() -> None:
    play = Play()
    play.ready()
    play.ack(play.trained(), ACCEPTED)
    assert offers(play.hear(AggregatorState(False, AGG), AggregatorState(True, AGG), Welcome(INSTANCE))) == []
    again = play.hear(AggregatorState(True, AGG2), Welcome(INSTANCE))
    assert len(offers(again)) == 1
    assert of(ev.StartTraining, again) == []


def test_training_goes_on_without_broker_and_is_offered_after_it() -> None:
    play = Play()
    play.ready()
    play.hear(ev.BrokerLost("cut"))
    assert offers(play.trained()) == []
    assert len(offers(play.join())) == 1


def test_after_a_cut_the_state_is_said_before_the_offer() -> None:
    play = Play()
    play.ready()
    play.trained()
    assert offers(play.hear(ev.BrokerLost("cut"))) == []
    published = [effect.message for effect in play.join() if isinstance(effect, ev.Send)]
    assert [type(message) for message in published] == [Hello, ClientState, Offer]
    assert published[1] == ClientState(INSTANCE, "uploading", 1, 8, SUMMARY, "cpu")
