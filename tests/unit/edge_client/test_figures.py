"""What leaves a site of what it measures, and who scores a model without training it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_client import events as ev
from edge_client.rounds import assignment_of
from fl_protocol.messages import AGGREGATING, ClientState, Decline, Offer, Progress, Scored
from tests.unit.edge_client.sessions import ME, MODEL, MODEL2, Play, of, round_state, sent, told, update_of

MEASURED = {"train_loss": 0.3, "local_steps": 9.0, "val_auroc": 0.8, "eval_auroc": 0.7, "eval_examples": 5.0}
SCORES = {"eval_auroc": 0.75, "eval_examples": 12.0}


def measured() -> ev.Update:
    return replace(update_of(), metrics=MEASURED)


def others_train(number: int = 1, **changes: Any) -> Any:
    """A round in which we only score."""
    return round_state(number, cohort=("site-b", "site-c"), **{"evaluators": (ME,), **changes})


def scoring(play: Play | None = None) -> Play:
    play = play or Play()
    play.ready(others_train())
    assert of(ev.StartScoring, play.log), play.log
    return play


# --- what leaves -------------------------------------------------------------------------------------------------


def test_metrics_go_with_the_update_and_figures_into_the_state() -> None:
    play = Play()
    play.ready()
    effects = play.trained(measured())
    assert sent(Offer, effects)[0].metrics == MEASURED
    assert "ModelScored" in told(effects)
    states = sent(ClientState, play.later(1.0))
    assert (states[-1].figures, states[-1].scored_round) == ({"auroc": 0.7, "examples": 5.0}, 1)


def test_a_private_site_sends_what_it_did_and_nothing_of_how_well() -> None:
    play = Play(private=True)
    play.ready()
    play.now += 1.0
    play.hear(ev.TrainingProgressed(1, 0.5, 0.4))
    effects = play.trained(measured())
    play.later(1.0)
    assert sent(Offer, effects)[0].metrics == {"local_steps": 9.0}
    assert [progress.loss for progress in sent(Progress, play.log)] == [None]
    assert {state.figures for state in sent(ClientState, play.log)} == {None}
    assert {"TrainingAdvanced", "ModelScored"} <= set(told(play.log)), "the person here sees them"


def test_an_update_of_a_site_that_was_not_private_then_is_now() -> None:
    play = Play(kept=measured(), private=True)
    effects = play.ready()
    assert sent(Offer, effects)[0].metrics == {"local_steps": 9.0}


def test_a_private_site_is_not_asked_twice_to_score() -> None:
    play = Play(private=True)
    play.ready(others_train())
    assert not of(ev.StartScoring, play.log)
    assert not sent(Scored, play.log)


# --- who scores --------------------------------------------------------------------------------------------------


def test_who_is_asked_for_what() -> None:
    def asked(**changes: Any) -> tuple[bool, bool] | None:
        wanted = assignment_of(round_state(**changes), ME)
        return (wanted.trains, wanted.scores) if wanted else None

    assert asked() == (True, True)
    assert asked(evaluators=("site-c",)) == (True, False)
    assert asked(evaluators=(ME,)) == (True, True)
    assert asked(cohort=("site-b",)) is None
    assert asked(cohort=("site-b",), evaluators=(ME,)) == (False, True)
    assert asked(cohort=("site-b",), evaluators=(ME,), phase=AGGREGATING) is None


def test_an_evaluator_fetches_scores_says_so_and_is_ready_again() -> None:
    play = scoring()
    effects = play.hear(ev.ModelScored(1, SCORES))
    assert sent(Scored, effects) == [Scored(1, MODEL.digest, SCORES)]
    assert told(effects) == ["ModelScored"]
    assert not sent(Offer, play.log)
    assert "RoundJoined" not in told(play.log)
    again = play.hear(others_train(accepted=1))
    assert not of(ev.StartScoring, again), "once is enough"
    assert of(ev.StartTraining, play.hear(round_state(2))), "and it trains when it is asked to"


def test_scores_are_of_the_model_of_the_round() -> None:
    play = scoring(Play(disk=(MODEL.digest, MODEL2.digest)))
    play.hear(ev.ModelScored(1, SCORES))
    effects = play.hear(others_train(2, base=MODEL2.digest))
    assert [effect.assignment.base for effect in of(ev.StartScoring, effects)] == [MODEL2.digest]


def test_a_round_that_moves_on_does_not_wait_for_scores() -> None:
    play = scoring()
    effects = play.hear(others_train(phase=AGGREGATING))
    assert of(ev.CancelTraining, effects)
    assert "WorkCancelled" not in told(effects)
    assert play.hear(ev.ModelScored(1, SCORES)) == [], "too late"
    assert not sent(Scored, play.log)


def test_a_scorer_drawn_for_the_next_attempt_trains() -> None:
    play = scoring()
    effects = play.hear(round_state(attempt=2))
    assert of(ev.CancelTraining, effects)
    assert of(ev.StartTraining, effects)


def test_a_scorer_that_fails_or_has_nobody_held_out_says_nothing() -> None:
    for outcome in (ev.ModelScored(1, {}), ev.WorkFailed(1, "out of memory")):
        play = scoring()
        effects = play.hear(outcome)
        assert not sent(Scored, effects)
        assert not sent(Decline, effects)
        assert play.session.working is False
        assert not of(ev.StartScoring, play.hear(others_train(accepted=1)))


def test_scores_that_nobody_can_hear_are_not_kept() -> None:
    play = scoring()
    play.hear(ev.BrokerLost("gone"))
    effects = play.hear(ev.ModelScored(1, SCORES))
    assert not sent(Scored, effects)
    assert told(effects) == ["ModelScored"]


def test_how_long_it_took_leaves_even_a_private_site() -> None:
    play = Play(private=True)
    play.ready()
    update = replace(update_of(), metrics=MEASURED | {"fetch_s": 0.5, "train_s": 9.0})
    assert sent(Offer, play.trained(update))[0].metrics == {
        "local_steps": 9.0,
        "fetch_s": 0.5,
        "train_s": 9.0,
    }
