"""The run, step by step: effects and their order, between rounds, between attempts and after a restart."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from aggregator import events as ev
from aggregator.best import Best
from aggregator.cohort import Share
from aggregator.federation import Federation
from aggregator.phase import Phase
from aggregator.round import MAX_REFUSALS
from aggregator.schedule import Schedules, parse_schedule
from fl_protocol import messages as msg
from fl_protocol.codec import decode, encode
from fl_protocol.topics import Kind
from tests.federations import (
    BASE,
    answers,
    arrived,
    finish_round,
    kinds,
    of_kind,
    opened,
    rule,
    update_of,
)
from tests.payloads import digest_of

ALL = Share(count=3)


# --- one round ----------------------------------------------------------------------------------------------


def test_a_round_opens_when_enough_are_here() -> None:
    federation = Federation(rule(min_clients=2), BASE)
    assert kinds(federation.start(0.0)) == ["Announce"]
    assert federation.handle(ev.ClientReady("a", 100), 1.0) == []
    kept, told = federation.handle(ev.ClientReady("b", 100), 2.0)
    assert kept == ev.KeepRound(1, 1, ("a", "b"), BASE, 1)
    assert isinstance(told, ev.Announce)
    assert (told.state.phase, told.state.round_number, told.state.cohort) == (msg.OPEN, 1, ("a", "b"))
    assert federation.next_instant() == 62.0


def test_an_update_is_kept_before_it_is_answered_and_the_last_one_closes() -> None:
    federation = opened("a", "b")
    effects = federation.handle(arrived("a"), 1.0)
    assert effects == [
        ev.KeepUpdate(1, update_of("a")),
        ev.Answer("a", update_of("a").transfer, msg.ACCEPTED),
    ]  # fmt: skip
    effects = federation.handle(arrived("b"), 2.0)
    assert kinds(effects) == ["KeepUpdate", "Answer", "Aggregate"]
    assert effects[2] == ev.Aggregate(1, BASE, (update_of("a"), update_of("b")))


def test_the_fold_gets_its_updates_in_the_order_of_names() -> None:
    for order in itertools.permutations("abc"):
        federation = opened("a", "b", "c")
        last = [federation.handle(arrived(client), 1.0) for client in order][-1]
        assert [update.client_id for update in of_kind(last, ev.Aggregate)[0].updates] == ["a", "b", "c"]


def test_the_model_is_adopted_scored_and_recorded_and_the_next_round_opens() -> None:
    federation = opened("a", "b")
    federation.handle(arrived("a", num_examples=30), 1.0)
    federation.handle(arrived("b", num_examples=10), 2.0)
    digest = digest_of("model 1")
    assert federation.handle(ev.Aggregated(1, digest), 3.0) == [
        ev.AdoptModel(1, digest, BASE), ev.Evaluate(1, digest)
    ]  # fmt: skip
    record, best, kept, told = federation.handle(ev.Evaluated(1, {"auroc": 0.9}), 4.5)
    assert best == ev.KeepBest(Best("auroc", 0.9, 1, digest))
    assert isinstance(record, ev.KeepRecord)
    assert record.record == {
        "round": 1, "outcome": "closed", "cohort": ["a", "b"], "accepted": ["a", "b"], "rejected": [],
        "stragglers": [], "stale": [], "num_examples": 40, "duration_s": 4.5, "metrics": {"auroc": 0.9},
        "client_metrics": {}, "client_examples": {"a": 30, "b": 10}, "base_sha256": BASE, "model_sha256": digest,
        "attempts": 1, "sites": {}, "plan": {"learning_rate": 0.05, "local_epochs": 1, "proximal_mu": 0.0},
        "best": {"round": 1, "metric": "auroc", "value": 0.9, "model_sha256": digest},
    }  # fmt: skip
    assert kept == ev.KeepRound(2, 1, ("a", "b"), digest, 1)
    assert isinstance(told, ev.Announce)
    assert told.state.last == msg.LastRound(1, "closed", 2, 0, 0, 4.5, {"auroc": 0.9})


def test_the_record_has_the_plan_of_its_own_round() -> None:
    halved = Schedules(learning_rate=parse_schedule("step:1:0.5", "--learning-rate-schedule"))
    federation = opened("a", rounds=2, schedules=halved)
    told = []
    for number in (1, 2):
        federation.handle(arrived("a", number, federation.base), float(number))
        effects = finish_round(federation, number + 0.5)
        told.append(of_kind(effects, ev.KeepRecord)[0].record["plan"]["learning_rate"])
    assert told == [0.05, 0.025]


def test_the_run_ends_after_its_last_round() -> None:
    federation = opened("a", "b", rounds=1)
    federation.handle(arrived("a"), 1.0)
    federation.handle(arrived("b"), 1.0)
    effects = finish_round(federation, 2.0)
    assert kinds(effects) == ["AdoptModel", "Evaluate", "KeepRecord", "Announce", "Finish"]
    assert federation.state().phase == msg.FINISHED
    assert kinds(federation.handle(arrived("a", 2), 3.0)) == ["Answer"]


def test_metrics_that_are_no_numbers_do_not_reach_the_record() -> None:
    """A model that diverged scores nan: JSON and the wire have no word for it, and nobody could read the round."""
    federation = opened("a", "b")
    federation.handle(arrived("a"), 1.0)
    federation.handle(arrived("b"), 1.0)
    effects = finish_round(federation, 2.0, {"loss": float("nan"), "auroc": 0.5, "worst": float("inf")})
    assert of_kind(effects, ev.KeepRecord)[0].record["metrics"] == {"auroc": 0.5}
    assert decode(encode(federation.state()), Kind.ROUND) == federation.state()


# --- who may send what --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "verdict", "reason"),
    [
        (arrived("x"), msg.REJECTED, "bad_num_examples"),
        (arrived("a", num_examples=0), msg.REJECTED, "bad_num_examples"),
        (arrived("a", num_examples=101), msg.REJECTED, "bad_num_examples"),
        (arrived("a", 2), msg.REJECTED, "wrong_round"),
        (arrived("a", 0), msg.REJECTED, "wrong_round"),
        (arrived("a", base="0" * 64), msg.REJECTED, "wrong_base"),
        (arrived("b", try_number=1), msg.REJECTED, "duplicate_update"),
    ],
)
def test_refused_by_name_and_counted(event: ev.UpdateArrived, verdict: str, reason: str) -> None:
    federation = opened("a", "b", "c")
    federation.handle(arrived("b"), 1.0)
    effects = federation.handle(event, 2.0)
    assert answers(effects) == [(event.update.client_id, verdict, reason)]
    assert not of_kind(effects, ev.KeepUpdate)
    assert federation.round is not None
    assert [(r.client_id, r.reason, n) for r, n in federation.round.refusals.items()] == [
        (event.update.client_id, reason, 1)
    ]


def test_one_outside_the_cohort_is_not_invited() -> None:
    federation = opened("a", "b", "c", "d", cohort=Share(count=2))
    assert federation.round is not None
    outsider = min(set("abcd") - federation.round.cohort)
    assert answers(federation.handle(arrived(outsider), 1.0)) == [(outsider, msg.REJECTED, "not_invited")]


def test_an_accepted_update_offered_again_is_accepted_again_and_no_refusal() -> None:
    """The acknowledgement was lost with our process: the edge must not hear that its update was refused."""
    federation = opened("a", "b", "c")
    federation.handle(arrived("a"), 1.0)
    transfer = update_of("a").transfer
    again = [
        federation.handle(arrived("a"), 2.0),
        federation.handle(ev.UpdateRefused("a", transfer, "duplicate_update", round_number=1), 2.0),
    ]
    for effects in again:
        assert effects == [ev.Answer("a", transfer, msg.ACCEPTED)]
    assert federation.round is not None
    assert federation.round.refusals == {}
    for client in "bc":
        federation.handle(arrived(client), 3.0)
    assert federation.phase is Phase.AGGREGATING
    refused = ev.UpdateRefused("a", transfer, msg.LATE, round_number=1)
    assert federation.handle(refused, 4.0) == [ev.Answer("a", transfer, msg.ACCEPTED)]


def test_a_refused_update_is_the_clients_answer_and_a_better_one_still_counts() -> None:
    federation = opened("a", "b", quorum=Share(count=2))
    federation.handle(arrived("a"), 1.0)
    effects = federation.handle(ev.UpdateRefused("b", "t", "not_finite", round_number=1), 2.0)
    assert answers(effects) == [("b", msg.REJECTED, "not_finite")]
    assert kinds(effects) == ["Answer", "Abandon", "KeepRound", "Announce"], "nobody is left to wait for"
    assert kinds(federation.handle(arrived("b"), 3.0)) == ["KeepUpdate", "Answer", "Aggregate"]


def test_a_late_answer_to_the_last_round_is_no_answer_to_this_one() -> None:
    federation = opened("a", "b", quorum=Share(count=1))
    federation.handle(arrived("a"), 1.0)
    federation.handle(ev.Ticked(), 11.0)
    finish_round(federation, 12.0)
    assert federation.round is not None
    assert federation.round.number == 2
    effects = federation.handle(ev.UpdateRefused("b", "1-x", msg.LATE, round_number=1), 13.0)
    assert answers(effects) == [("b", msg.LATE, msg.LATE)]
    assert federation.round.waited_for == {"a", "b"}
    federation.handle(arrived("a", 2, federation.base), 14.0)
    assert federation.phase is Phase.OPEN, "b trains and is waited for"


def test_a_straggler_that_comes_late_is_still_a_straggler() -> None:
    federation = opened("a", "b", quorum=Share(count=1))
    federation.handle(arrived("a"), 1.0)
    assert kinds(federation.handle(ev.Ticked(), 11.0)) == ["Aggregate", "Announce"]
    federation.handle(ev.UpdateRefused("b", "1-x", msg.LATE, round_number=1), 11.5)
    record = of_kind(finish_round(federation, 12.0), ev.KeepRecord)[0].record
    assert record["outcome"] == "closed_short"
    assert record["stragglers"] == ["b"]
    assert record["rejected"] == [{"client_id": "b", "reason": "late", "count": 1}]


def test_an_update_of_the_round_before_whose_answer_was_lost_is_told_that_it_counts() -> None:
    """A restart may lose the answer; the update is in the model, so it is neither late nor refused."""
    federation = opened("a", "b", quorum=Share(count=1))
    federation.handle(arrived("a"), 1.0)
    federation.handle(ev.Ticked(), 11.0)
    finish_round(federation, 12.0)
    again = federation.handle(ev.UpdateRefused("a", "1-a", msg.LATE, round_number=1), 13.0)
    late = federation.handle(ev.UpdateRefused("b", "1-b", msg.LATE, round_number=1), 13.0)
    assert of_kind(again, ev.Answer) == [ev.Answer("a", "1-a", msg.ACCEPTED)]
    assert of_kind(late, ev.Answer) == [ev.Answer("b", "1-b", msg.LATE, msg.LATE)]
    assert federation.round is not None
    assert [refused.client_id for refused in federation.round.refusals] == ["b"]


def test_declining_is_recorded_once_however_often_it_is_said() -> None:
    federation = opened("a", "b")
    for _ in range(3):
        federation.handle(ev.ClientDeclined("b", 1, "no data"), 1.0)
    federation.handle(ev.ClientDeclined("b", 2, "no data"), 1.0)
    federation.handle(arrived("a"), 2.0)
    record = of_kind(finish_round(federation, 3.0), ev.KeepRecord)[0].record
    assert record["rejected"] == [{"client_id": "b", "reason": "declined: no data", "count": 1}]
    assert (record["stragglers"], record["outcome"]) == ([], "closed_short")


# --- attempts -----------------------------------------------------------------------------------------------


def abandoned(*, retries: int = 1) -> Federation:
    """Attempt 1 of round 1 was abandoned with the update of a; all have left: attempt 2 waits for two more."""
    federation = opened("a", "b", "c", quorum=Share(count=2), retries=retries, cohort=ALL)
    federation.handle(arrived("a"), 1.0)
    for client in "abc":
        federation.handle(ev.ClientGone(client), 2.0)
    effects = federation.handle(ev.Ticked(), 12.0)
    assert kinds(effects)[0] == "Abandon"
    return federation


def test_an_abandoned_attempt_is_told_and_carried_over() -> None:
    federation = abandoned()
    assert federation.state().phase == msg.WAITING
    for client in "bc":
        effects = federation.handle(ev.ClientReady(client, 100), 20.0)
    kept = of_kind(effects, ev.KeepRound)[0]
    assert (kept.attempt, "a" in kept.cohort, len(kept.cohort)) == (2, True, 3)
    other = min(set(kept.cohort) - {"a"})
    closing = federation.handle(arrived(other), 21.0)
    federation.handle(ev.Ticked(), 31.0)
    assert federation.phase is Phase.AGGREGATING
    assert federation.round is not None
    assert set(federation.round.accepted) == {"a", other}
    assert kinds(closing) == ["KeepUpdate", "Answer"]
    record = of_kind(finish_round(federation, 32.0), ev.KeepRecord)[0].record
    assert (record["attempts"], record["duration_s"]) == (2, 32.0)


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (arrived("b"), (msg.ACCEPTED, "")),
        (arrived("b", num_examples=0), (msg.REJECTED, "bad_num_examples")),
        (arrived("b", num_examples=101), (msg.REJECTED, "bad_num_examples")),
        (arrived("b", base="0" * 64), (msg.REJECTED, "wrong_base")),
        (arrived("b", 2), (msg.REJECTED, "wrong_round")),
        (arrived("d"), (msg.REJECTED, "not_invited")),
        (arrived("a", try_number=1), (msg.REJECTED, "duplicate_update")),
        (arrived("a"), (msg.ACCEPTED, "")),
    ],
)
def test_between_attempts_the_same_rules_hold(event: ev.UpdateArrived, answer: tuple[str, str]) -> None:
    federation = abandoned()
    federation.config = replace(federation.config, min_clients=9)
    for client in "abd":
        federation.handle(ev.ClientReady(client, 100), 20.0)
    assert federation.phase is Phase.WAITING
    effects = federation.handle(event, 21.0)
    assert [each[1:] for each in answers(effects)] == [answer]
    assert len(of_kind(effects, ev.KeepUpdate)) == (event == arrived("b"))


def test_an_update_between_attempts_is_folded_in_the_next() -> None:
    federation = abandoned()
    federation.handle(ev.ClientReady("b", 100), 20.0)
    assert kinds(federation.handle(arrived("b"), 21.0)) == ["KeepUpdate", "Answer"]
    effects = federation.handle(ev.ClientReady("c", 100), 22.0)
    assert kinds(effects) == ["KeepRound", "Announce"]
    assert federation.round is not None
    assert set(federation.round.accepted) == {"a", "b"}
    assert kinds(federation.handle(ev.Ticked(), 32.0)) == ["Aggregate", "Announce"]


def test_refusals_are_counted_over_all_attempts() -> None:
    federation = opened("a", "b", quorum=Share(count=2), retries=1)
    for _ in range(3):
        federation.handle(ev.FrameRefused("a", "not_msgpack"), 1.0)
    federation.handle(ev.ClientGone("b"), 1.0)
    federation.handle(ev.Ticked(), 60.0)
    assert federation.phase is Phase.WAITING
    federation.handle(ev.FrameRefused("a", "not_msgpack"), 61.0)
    federation.handle(ev.ClientReady("b", 100), 62.0)
    federation.handle(ev.FrameRefused("a", "not_msgpack"), 63.0)
    federation.handle(arrived("a"), 64.0)
    federation.handle(arrived("b"), 64.0)
    record = of_kind(finish_round(federation, 65.0), ev.KeepRecord)[0].record
    assert record["rejected"] == [{"client_id": "a", "reason": "not_msgpack", "count": 5}]


def test_refusals_between_rounds_are_bounded_and_counted_in_the_next() -> None:
    federation = Federation(rule(), BASE)
    federation.start(0.0)
    for number in range(2 * MAX_REFUSALS):
        federation.handle(ev.FrameRefused(f"x{number}", "not_joined"), 0.0)
    for client in "ab":
        federation.handle(ev.ClientReady(client, 100), 1.0)
    assert federation.round is not None
    assert sum(federation.round.refusals.values()) == 2 * MAX_REFUSALS
    assert len(federation.round.refusals) <= MAX_REFUSALS + 1


def test_the_last_attempt_ends_the_run() -> None:
    federation = opened("a", "b", quorum=Share(count=2), retries=0)
    federation.handle(arrived("a"), 1.0)
    effects = federation.handle(ev.Ticked(), 60.0)
    assert kinds(effects) == ["Abandon", "KeepRecord", "Announce", "Fail"]
    assert of_kind(effects, ev.Abandon) == [ev.Abandon(1, 1, 1, 2, again=False)]
    assert of_kind(effects, ev.KeepRecord)[0].record["outcome"] == "abandoned"
    assert "1 updates of the 2 needed, after 1 attempt" in of_kind(effects, ev.Fail)[0].reason
    assert federation.state().phase == msg.STOPPED
