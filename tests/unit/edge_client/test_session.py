"""The edge's state machine: what it trains, offers and says, whatever happens in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge_client import events as ev
from edge_client.departure import LAST_MODEL_S
from edge_client.rounds import training_seed
from edge_client.session import TRANSITIONS
from edge_client.telling import SETTLED_S
from edge_client.work import Work
from fl_protocol.errors import AccessRefused, BrokerUnavailable, DataError
from fl_protocol.messages import (
    ACCEPTED,
    AGGREGATING,
    FINISHED,
    STOPPED,
    WAITING,
    AggregatorState,
    Cancel,
    ClientState,
    Decline,
    Offer,
    Ping,
    Progress,
    Refusal,
    Rejection,
    RoundState,
    Welcome,
    state_seq,
)
from tests.unit.edge_client.sessions import (
    AGG,
    AGG2,
    INSTANCE,
    ME,
    MODEL,
    MODEL2,
    MODEL_BYTES,
    PLAN,
    SUMMARY,
    Play,
    of,
    offers,
    round_state,
    sent,
    told,
    update_of,
)


def test_a_round_from_invitation_to_verdict() -> None:
    play = Play()
    started = play.ready()
    assert [effect.assignment.key for effect in of(ev.StartTraining, started)] == [(1, MODEL.digest)]
    assert sent(ClientState, started)[-1].num_examples == 8, "told at once: an offer counts only after it"
    offered = play.trained()
    offer = sent(Offer, offered)[0]
    assert (offer.round_number, offer.base, offer.num_examples, offer.metrics) == (
        1,
        MODEL.digest,
        8,
        {"loss": 0.5},
    )
    assert of(ev.SendChunks, offered) == [], "three chunks wait for credit"
    granted = play.ack(offered, window=32)
    assert of(ev.SendChunks, granted)[0].indexes == (0, 1, 2)
    over = play.ack(offered, ACCEPTED)
    assert told(over) == ["VerdictReceived"]
    assert of(ev.KeepAccepted, over)
    assert sent(ClientState, play.later(SETTLED_S))[-1].state == "ready"
    assert of(ev.DropUpdate, play.hear(round_state(2, base=MODEL2.digest)))


def test_a_state_is_told_once_it_lasts_and_never_twice() -> None:
    play = Play()
    play.ready()
    assert play.session.deadline() == pytest.approx(SETTLED_S)
    assert sent(ClientState, play.later(SETTLED_S / 2)) == []
    told_late = sent(ClientState, play.later(SETTLED_S / 2))
    assert told_late == [ClientState(INSTANCE, "training", 1, 8, SUMMARY, "cpu", seq=2)]
    assert sent(ClientState, play.later(60.0)) == []


def test_a_quick_round_tells_no_state() -> None:
    play = Play()
    play.ready()
    play.later(SETTLED_S)
    offered = play.trained()
    over = play.ack(offered, ACCEPTED)
    again = play.hear(round_state(2))
    assert [effect.assignment.round_number for effect in of(ev.StartTraining, again)] == [2]
    assert sent(ClientState, [*offered, *over, *again]) == []


def test_an_update_of_one_chunk_goes_along_with_its_offer() -> None:
    play = Play()
    play.ready()
    effects = play.trained(update_of(size=4000))
    assert of(ev.SendChunks, effects)[0].indexes == (0,)


def test_the_seed_is_the_clients_own_and_stable() -> None:
    play = Play()
    plan = of(ev.StartTraining, play.ready())[0].assignment.plan
    assert plan == replace(PLAN, seed=training_seed(7, 1, ME))
    assert training_seed(7, 1, "site-b") != plan.seed
    assert training_seed(7, 2, ME) != plan.seed
    assert training_seed(7, 1, ME) == 9098948189008123822


def test_nothing_is_said_of_ourselves_before_the_welcome() -> None:
    play = Play()
    effects = play.hear(
        ev.BrokerConnected(None),
        AggregatorState(True, AGG),
        round_state(),
        ev.DataPrepared(SUMMARY, 8, "cpu"),
    )
    assert sent(ClientState, effects) == []
    assert of(ev.StartTraining, effects) == []
    assert of(ev.StartTraining, play.hear(Welcome(INSTANCE)))


def test_a_refusal_ends_it() -> None:
    play = Play()
    play.hear(ev.BrokerConnected(None), AggregatorState(True, AGG))
    assert play.hear(Refusal("dd" * 8, "not us")) == []
    (leave,) = of(ev.Leave, play.hear(Refusal(INSTANCE, "the name is another's")))
    assert isinstance(leave.error, AccessRefused)
    assert str(leave.error) == "the name is another's"
    assert play.session.over
    assert not play.session.link.welcomed
    assert play.hear(round_state(), Welcome(INSTANCE)) == []


@pytest.mark.parametrize(
    "state",
    [
        round_state(2, base=MODEL2.digest),
        round_state(1, cohort=("site-b",)),
        round_state(1, AGGREGATING),
        round_state(1, STOPPED, cohort=()),
        round_state(1, base=MODEL2.digest),
        round_state(0, WAITING, base=MODEL2.digest, cohort=()),
    ],
)
def test_training_is_cancelled_when_the_round_moves_on(state: RoundState) -> None:
    play = Play()
    play.ready()
    effects = play.hear(state)
    assert of(ev.CancelTraining, effects) == [ev.CancelTraining(1)]
    late = play.trained(update_of())
    assert of(ev.DropUpdate, late)
    assert offers(late) == []


def test_between_two_attempts_the_work_goes_on_and_is_not_done_twice() -> None:
    play = Play()
    play.ready()
    assert of(ev.CancelTraining, play.hear(round_state(0, WAITING, cohort=(), attempt=0))) == []
    offered = play.trained()
    assert len(offers(offered)) == 1
    again = play.hear(round_state(1, attempt=2))
    assert of(ev.StartTraining, again) == []
    assert play.session.work is Work.UPLOADING
    play.ack(offered, ACCEPTED)
    assert of(ev.StartTraining, play.hear(round_state(1, attempt=3))) == []


def test_a_cancel_is_obeyed_until_the_next_attempt() -> None:
    play = Play()
    play.ready()
    assert of(ev.CancelTraining, play.hear(Cancel(1, "enough")))
    assert of(ev.StartTraining, play.hear(round_state())) == []
    assert of(ev.StartTraining, play.hear(round_state(attempt=2)))


def test_what_is_wrong_with_the_data_is_told_here_and_not_elsewhere() -> None:
    """The reason names files, and hospitals name files after patients."""
    play = Play()
    play.ready()
    effects = play.hear(
        ev.WorkFailed(1, "none of the 2 images in /srv can be used (smith.png is broken)", data=True)
    )
    assert sent(Decline, effects) == [Decline(1, "its data cannot be used as they are")]
    assert "smith.png" in str(of(ev.Tell, effects))


def test_a_failed_training_declines_the_attempt() -> None:
    play = Play()
    play.ready()
    effects = play.hear(ev.WorkFailed(1, "the loss\nis not finite"))
    assert sent(Decline, effects) == [Decline(1, "the loss is not finite")]
    assert sent(ClientState, play.later(SETTLED_S))[-1].state == "ready"
    assert of(ev.StartTraining, play.hear(round_state())) == []
    assert of(ev.StartTraining, play.hear(round_state(attempt=2)))


def test_the_answer_of_a_cancelled_training_is_no_decline() -> None:
    play = Play()
    play.ready()
    play.hear(round_state(2))
    assert play.session.work is Work.TRAINING
    assert sent(Decline, play.hear(ev.WorkFailed(1, "cancelled", cancelled=True))) == []
    assert sent(Decline, play.hear(ev.WorkFailed(2, "cancelled", cancelled=True))) == []
    assert sent(Decline, play.hear(ev.WorkFailed(1, "of the round before"))) == []


def test_bad_data_ends_it_and_other_trouble_is_tried_again() -> None:
    play = Play()
    play.join()
    assert of(ev.PrepareData, play.hear(round_state(0, WAITING))) == [ev.PrepareData("chest-xray", 32)]
    assert told(play.hear(ev.WorkFailed(0, "the process died"))) == ["Warned"]
    assert of(ev.PrepareData, play.later(29)) == []
    assert of(ev.PrepareData, play.later(2))
    (leave,) = of(ev.Leave, play.hear(ev.WorkFailed(0, "no images", data=True)))
    assert isinstance(leave.error, DataError)


def test_another_task_or_size_is_prepared_anew() -> None:
    play = Play()
    play.ready(round_state(0, WAITING))
    assert of(ev.PrepareData, play.hear(round_state(0, WAITING))) == []
    effects = play.hear(round_state(0, WAITING, image_size=64))
    assert of(ev.PrepareData, effects) == [ev.PrepareData("chest-xray", 64)]
    assert sent(ClientState, effects)[-1] == ClientState(INSTANCE, "preparing", seq=2)


def test_progress_is_told_at_most_twice_a_second_and_not_of_a_quick_training() -> None:
    play = Play()
    play.ready()
    heard = [ev.TrainingProgressed(1, 0.1 * i, 0.5) for i in range(5)]
    assert sent(Progress, play.hear(*heard)) == []
    for _ in range(2):
        play.now += 0.6
        assert len(sent(Progress, play.hear(*heard))) == 1


def test_the_final_model_is_fetched_and_ends_it() -> None:
    play = Play()
    play.ready(round_state(0, WAITING))
    assert of(ev.Leave, play.hear(round_state(5, FINISHED, base=MODEL2.digest))) == []
    play.disk.add(MODEL2.digest)
    assert of(ev.Leave, play.hear(ev.ModelFound(MODEL2.digest))) == [ev.Leave(None, MODEL2.digest)]


def test_an_ended_run_may_be_the_one_before_its_aggregator_comes() -> None:
    """Broker news of an ended run, and nobody serves it: ten seconds pass before it is believed."""
    play = Play(disk=(MODEL.digest,))
    ended = round_state(5, FINISHED, base=MODEL.digest)
    effects = play.hear(
        ev.BrokerConnected(None), AggregatorState(False, AGG), ended, ev.ModelFound(MODEL.digest)
    )
    assert of(ev.Leave, effects) == []
    play.now += 10
    assert of(ev.Leave, play.hear(ev.Ticked(0))) == [ev.Leave(None, MODEL.digest)]


def test_a_stopped_job_is_waited_for() -> None:
    play = Play()
    play.ready(round_state(0, WAITING))
    assert of(ev.Leave, play.hear(round_state(1, STOPPED, reason="too few"))) == []
    assert of(ev.StartTraining, play.hear(round_state(1)))


def test_a_late_joiner_fetches_the_model_while_the_aggregator_is_away() -> None:
    play = Play(disk=())
    effects = play.hear(
        ev.BrokerConnected(None),
        AggregatorState(False, AGG),
        round_state(),
        ev.ManifestArrived(MODEL.digest, MODEL),
    )
    assert told(effects) == ["AggregatorLost"]
    assert of(ev.OpenPart, effects)
    assert of(ev.Subscribe, effects)
    assert of(ev.StartTraining, effects) == []


def test_a_client_that_is_not_invited_and_has_a_model_fetches_none() -> None:
    play = Play()
    effects = play.ready(round_state(base=MODEL2.digest, cohort=("site-b",)))
    assert of(ev.FindModel, effects) == []


def test_the_last_model_of_a_launched_run_is_fetched_and_nobody_leaves() -> None:
    """While it runs each round's base is enough; when it has had its rounds, or was stopped, an operator decides."""
    play = Play()
    play.ready(round_state(2, WAITING, cohort=(), base=MODEL2.digest))
    assert of(ev.FindModel, play.log) == []
    effects = play.hear(round_state(5, WAITING, cohort=(), base=MODEL2.digest))
    assert of(ev.FindModel, effects) == [ev.FindModel(MODEL2.digest)]
    effects += play.hear(ev.ManifestArrived(MODEL2.digest, MODEL2))
    assert of(ev.OpenPart, effects) and of(ev.Leave, effects) == []
    effects = play.hear(round_state(1))
    assert of(ev.StartTraining, effects), "another run does not wait for it"
    assert play.session.library.download is None


def test_a_model_that_the_broker_no_longer_has_is_not_waited_for() -> None:
    play = Play(disk=(MODEL2.digest,))
    play.ready(round_state(max_staleness=5))
    assert play.session.work.value == "fetching"
    play.hear(round_state(2, base=MODEL2.digest, max_staleness=5))
    assert play.session.work.value == "fetching"
    moved = play.hear(round_state(3, base=MODEL2.digest, max_staleness=5))
    assert [effect.assignment.round_number for effect in of(ev.StartTraining, moved)] == [3]


def test_the_base_model_is_declined_if_the_broker_keeps_another() -> None:
    play = Play(disk=())
    play.ready()
    play.hear(ev.ManifestArrived(MODEL.digest, MODEL))
    effects: list[ev.Effect] = []
    for _ in range(40):
        for index in range(MODEL.num_chunks):
            effects += play.hear(ev.ChunkArrived(MODEL.digest, index, bytes(MODEL.chunk_span(index)[1])))
    assert len(sent(Decline, effects)) == 1


def test_pings_are_answered_and_rejections_shown() -> None:
    play = Play()
    play.join()
    assert len(play.hear(Ping(INSTANCE))) == 1
    assert play.hear(Ping("dd" * 8)) == []
    assert told(play.hear(Rejection(1, "not_msgpack"))) == ["Warned"]


def test_the_table_names_known_states_and_events_only() -> None:
    assert {work for work, _ in TRANSITIONS} == set(Work)
    assert all(callable(handler) for handler in TRANSITIONS.values())


def test_an_old_round_that_is_told_again_does_not_bring_its_work_back() -> None:
    play = Play()
    play.ready(round_state(2, instance=AGG, seq=5))
    assert play.session.work is Work.TRAINING
    assert of(ev.CancelTraining, play.hear(round_state(1, instance=AGG, seq=2))) == []
    assert play.session.work is Work.TRAINING


def test_states_count_up_and_the_farewell_is_the_last() -> None:
    play = Play()
    play.join()
    effects = play.hear(round_state(), ev.DataPrepared(SUMMARY, 8, "cpu"))
    play.later(SETTLED_S)
    numbers = [state.seq for state in sent(ClientState, play.log)]
    assert numbers == sorted(set(numbers)) and len(numbers) >= 2
    assert state_seq(0) > play.session.farewell().seq > numbers[-1]
    play.hear(
        ev.BrokerLost("cut"),
        ev.BrokerConnected(None, number=2),
        AggregatorState(True, AGG),
        Welcome(INSTANCE),
    )
    again = sent(ClientState, play.log)[-1]
    assert state_seq(2) > again.seq >= state_seq(2, 0) > state_seq(1)
    assert effects


def test_a_final_model_that_does_not_come_is_not_waited_for_for_ever() -> None:
    play = Play(disk=())
    play.ready()
    play.hear(round_state(phase=FINISHED, cohort=()))
    assert of(ev.Leave, play.later(LAST_MODEL_S - 1)) == []
    play.hear(ev.ManifestArrived(MODEL.digest, MODEL))
    play.hear(ev.ChunkArrived(MODEL.digest, 0, MODEL_BYTES[:4096]))
    assert of(ev.Leave, play.later(LAST_MODEL_S - 1)) == [], "it moves"
    (left,) = of(ev.Leave, play.later(1))
    assert isinstance(left.error, BrokerUnavailable)
    assert "did not come" in str(left.error)


# --- another run of one aggregator -------------------------------------------------------------------------------


def in_run(run_id: str, number: int = 1, **changes: Any) -> RoundState:
    return round_state(number, run_id=run_id, **changes)


def test_a_round_of_another_run_is_trained_though_its_number_and_base_were_answered() -> None:
    play = Play()
    play.ready(in_run("a1"))
    play.ack(play.trained(), ACCEPTED)
    play.log.clear()
    between = play.hear(in_run("a1", 1, phase=WAITING, base=None, cohort=()))
    assert of(ev.StartTraining, between) == []
    assert of(ev.StartTraining, play.hear(in_run("a2"))), "the same number and base, another run"


def test_work_for_the_run_before_is_dropped_when_another_begins() -> None:
    play = Play()
    play.ready(in_run("a1"))
    effects = play.hear(in_run("a2", plan=replace(PLAN, learning_rate=0.5)))
    assert of(ev.CancelTraining, effects) and of(ev.StartTraining, effects)
    kept = Play()
    kept.ready(in_run("a1"))
    kept.trained()
    effects = kept.hear(in_run("a2"))
    assert of(ev.DropUpdate, effects) and of(ev.StartTraining, effects)


def test_a_restart_of_the_same_run_goes_on_with_what_was_done() -> None:
    play = Play()
    play.ready(in_run("a1", instance=AGG))
    effects = play.trained()
    assert offers(effects)
    effects = play.hear(in_run("a1", instance=AGG2))
    assert not of(ev.DropUpdate, effects) and not of(ev.StartTraining, effects)


def test_how_long_a_model_took_to_come_is_told_with_the_training() -> None:
    play = Play(disk=())
    play.ready()
    play.now = 4.5
    (started,) = of(ev.StartTraining, play.hear(ev.ModelFound(MODEL.digest)))
    assert started.fetch_s == 4.5


def test_what_was_offered_while_there_was_no_run_is_offered_again_when_it_goes_on() -> None:
    play = Play()
    play.ready(in_run("a1", 3))
    idle = in_run("a1", 2, phase=WAITING, rounds=2, attempt=0, cohort=())
    assert of(ev.CancelTraining, play.hear(idle)) == [], "it may go on"
    assert offers(play.trained(update_of(3)))
    assert offers(play.hear(in_run("a1", 3, instance=AGG)))
