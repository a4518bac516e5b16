"""Virtual time: who arrives when, who is waited for, and what becomes of stragglers and of those who vanish."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from aggregator import events as ev
from aggregator.cohort import Sampling, Share
from aggregator.federation import Federation
from fl_sim.profiles import Dropout, Profile
from fl_sim.world import Begin, Drop, Effect, Outcome, Work, World
from tests.federations import BASE, model_after, rule


@dataclass
class Story:
    """A world played to its end with trainings that take no time; ``told`` is what happened, and when."""

    world: World
    failing: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    away: dict[str, float] = field(default_factory=dict)
    told: list[tuple[float, Effect]] = field(default_factory=list)
    over: bool = False

    def play(self) -> Story:
        self._perform(self.world.begin(self.away))
        while not self.over and not self.world.idle:
            work = self.world.awaited()
            self._perform(self.world.step(self._outcome(work) if work else None))
        return self

    def _outcome(self, work: Work) -> Outcome:
        if work.client_id in self.failing:
            return Outcome(reason="no use")
        if work.client_id in self.refused:
            return Outcome(10, {"loss": 1.0}, refused="absurd_values")
        return Outcome(10, {"eval_loss" if work.assignment.scores else "loss": float(work.shard)})

    def _perform(self, effects: list[Effect]) -> None:
        pending = deque(effects)
        while pending:
            effect = pending.popleft()
            self.told.append((self.world.now, effect))
            if isinstance(effect, ev.Aggregate):
                digest = model_after(effect.round_number, effect.updates)
                pending.extend(self.world.tell(ev.Aggregated(effect.round_number, digest)))
            elif isinstance(effect, ev.Evaluate):
                pending.extend(self.world.tell(ev.Evaluated(effect.round_number, None)))
            elif isinstance(effect, ev.Finish | ev.Fail):
                self.over = True

    def of(self, kind: type[Any]) -> list[tuple[float, Any]]:
        return [(now, effect) for now, effect in self.told if isinstance(effect, kind)]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [effect.record for _, effect in self.of(ev.KeepRecord)]


def world(factors: tuple[float, ...], profile: dict[str, Any] | None = None, **changes: Any) -> World:
    """Clients a, b, ... with 10 examples each; a pace of 0.1 s makes speed 1 a second a round."""
    names = tuple("abcdefghij"[: len(factors)])
    config = rule(**{"min_clients": len(names), **changes})
    return World(
        Federation(config, BASE), names, (10,) * len(names),
        Profile(factors, pace_s=0.1, **(profile or {})), payload_bytes=100,
    )  # fmt: skip


def test_rounds_last_as_long_as_their_slowest_client() -> None:
    story = Story(world((1.0, 3.0, 2.0))).play()
    assert [record["outcome"] for record in story.records] == ["closed", "closed"]
    assert [record["duration_s"] for record in story.records] == [3.0, 3.0]
    assert story.world.now == 6.0
    assert [now for now, _ in story.of(ev.KeepUpdate)] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_all_are_here_before_the_first_cohort_is_drawn() -> None:
    story = Story(world((1.0,) * 8, cohort=Share(count=2), quorum=Share(count=2))).play()
    opened = story.of(ev.KeepRound)
    assert {len(effect.cohort) for _, effect in opened} == {2}
    assert opened[0][1].cohort != ("a", "b") or opened[1][1].cohort != ("a", "b")


def test_after_the_grace_the_straggler_is_left_behind() -> None:
    story = Story(world((1.0, 1.0, 50.0), grace_s=5.0)).play()
    assert [record["stragglers"] for record in story.records] == [["c"], ["c"]]
    assert [now for now, _ in story.of(ev.KeepRecord)] == [6.0, 12.0]
    assert [drop.work.client_id for _, drop in story.of(Drop)] == ["c", "c"], "its work is given up each time"


def test_the_deadline_ends_a_round() -> None:
    story = Story(world((1.0, 50.0), quorum=Share(count=2), deadline_s=20.0, retries=1)).play()
    (record,) = story.records
    assert (record["outcome"], record["attempts"]) == ("abandoned", 2)
    assert story.world.now == 40.0


def test_a_failing_client_declines_and_is_not_waited_for() -> None:
    story = Story(world((1.0, 5.0)), failing=frozenset("b")).play()
    assert [record["outcome"] for record in story.records] == ["closed_short"] * 2
    assert story.records[0]["rejected"] == [{"client_id": "b", "reason": "declined: no use", "count": 1}]


def test_a_refused_update_is_answered_and_not_waited_for() -> None:
    story = Story(world((1.0, 5.0)), refused=frozenset("b")).play()
    assert [record["outcome"] for record in story.records] == ["closed_short"] * 2
    assert story.records[0]["rejected"] == [{"client_id": "b", "reason": "absurd_values", "count": 1}]
    answers = [effect for _, effect in story.of(ev.Answer) if effect.client_id == "b"]
    assert [(answer.verdict, answer.reason) for answer in answers] == [("rejected", "absurd_values")] * 2


def test_who_vanishes_is_not_waited_for_and_comes_back() -> None:
    gone = {"dropout": Dropout(0.5, 7.0), "seed": 3}
    story = Story(world((1.0,) * 10, gone, rounds=20, quorum=Share(fraction=0.1), grace_s=0.0)).play()
    in_vain = [begin.work.client_id for _, begin in story.of(Begin) if begin.in_vain]
    assert len(story.records) == 20
    assert set(in_vain) == set("abcdefghij"), "everyone vanishes at some time, and is invited again after it"
    assert all(record["outcome"] in ("closed", "closed_short") for record in story.records)
    assert max(record["duration_s"] for record in story.records) < 8.0


def test_who_comes_back_takes_the_open_round_up_again() -> None:
    gone = {"dropout": Dropout(0.9, 2.0), "seed": 5}
    story = Story(
        world((1.0, 1.0), gone, quorum=Share(count=2), deadline_s=1000.0, grace_s=500.0, rounds=1)
    ).play()
    assert [record["outcome"] for record in story.records] == ["closed"]
    begun = [begin for _, begin in story.of(Begin)]
    assert len([begin for begin in begun if not begin.in_vain]) == 2
    assert len(begun) > 2


@pytest.mark.parametrize("away_s", [None, 7.0])
def test_who_vanishes_does_so_in_the_midst_of_its_work_and_is_away_as_long_as_was_said(
    away_s: float | None,
) -> None:
    made = world((3.0,), {"dropout": Dropout(0.9, away_s), "seed": 5}, quorum=Share(count=1), deadline_s=1e6)
    share = made.profile.vanishes_at(1, 1, 1, 1)
    assert share is not None and 0.0 < share < 1.0
    made.begin()
    made.step()
    assert made.now == pytest.approx(3.0 * share)
    back = made.now + (3.0 if away_s is None else away_s)
    assert made.away == {"a": pytest.approx(back)}
    made.step()
    assert made.now == pytest.approx(back) and made.away == {}


def test_an_update_that_comes_at_the_very_deadline_is_late() -> None:
    story = Story(world((1.0, 20.0), quorum=Share(count=1), grace_s=100.0, deadline_s=20.0, rounds=1)).play()
    (record,) = story.records
    assert (record["accepted"], record["stragglers"], story.world.now) == (["a"], ["b"], 20.0)


def test_who_is_away_when_it_begins_returns_in_time() -> None:
    made = world(
        (1.0, 1.0), rounds=2, min_clients=1, grace_s=0.0, quorum=Share(count=1), cohort=Share(count=1)
    )
    story = Story(made, away={"a": 1.5}).play()
    assert story.records[0]["cohort"] == ["b"]
    assert story.world.away == {}


def test_the_link_adds_to_the_work() -> None:
    story = Story(world((1.0, 1.0), {"link_bytes_s": 50.0}, rounds=1)).play()
    assert story.records[0]["duration_s"] == pytest.approx(1.0 + 2 * 100 / 50)


def test_a_client_without_examples_is_not_there() -> None:
    federation = Federation(rule(min_clients=2, rounds=1), BASE)
    story = Story(World(federation, "abc", (10, 0, 10), Profile((1.0,) * 3), 100)).play()
    assert story.records[0]["cohort"] == ["a", "c"]


def test_too_few_clients_and_nothing_can_happen() -> None:
    story = Story(
        World(Federation(rule(min_clients=3), BASE), "ab", (10, 10), Profile((1.0,) * 2), 100)
    ).play()
    assert not story.over
    assert story.world.idle


def test_the_same_seed_tells_the_same_story() -> None:
    def told() -> list[tuple[float, str]]:
        gone = {"dropout": Dropout(0.3), "seed": 9}
        made = world((1.0, 2.5, 0.3, 7.0), gone, rounds=6, grace_s=1.0, quorum=Share(fraction=0.5), retries=9)
        return [(now, repr(effect)) for now, effect in Story(made).play().told]

    assert told() == told()


def test_local_steps_count_instead_of_passes() -> None:
    plan = rule().plan
    made = world((1.0, 1.0), rounds=1, plan=plan.__class__(1, 16, 0.05, 0, local_steps=4))
    assert Story(made).play().records[0]["duration_s"] == pytest.approx(4 * 16 * 0.1)
    made = world((1.0, 1.0), rounds=1, plan=replace(plan, local_epochs=3))
    assert Story(made).play().records[0]["duration_s"] == pytest.approx(3 * 10 * 0.1)


def test_who_does_not_train_scores_and_is_told_to_the_round() -> None:
    """Two of four train; the others score the round's base, and the round does not wait for them."""
    story = Story(world((1.0,) * 4, cohort=Share(count=2), eval_cohort=Share(count=2))).play()
    for record in story.records:
        begun = [
            effect.work
            for _, effect in story.of(Begin)
            if effect.work.assignment.round_number == record["round"]
        ]
        scoring = {work.client_id for work in begun if not work.assignment.trains}
        assert scoring == set("abcd") - set(record["cohort"]) == set(record["sites"])
        assert all(
            figures == {"loss": float("abcd".index(name) + 1)} for name, figures in record["sites"].items()
        )
        assert record["duration_s"] == 1.0


def test_a_score_that_comes_after_the_round_is_given_up() -> None:
    """The model takes longer to travel than the one who trains needs: nobody waits."""
    slow = world((1.0, 1.0), cohort=Share(count=1), eval_cohort=Share(count=1), quorum=Share(count=1), grace_s=0.0,
                 deadline_s=0.5, retries=0)  # fmt: skip
    slow.profile = replace(slow.profile, link_bytes_s=10.0)
    story = Story(slow).play()
    assert [record["outcome"] for record in story.records] == ["abandoned"]
    assert story.records[0]["sites"] == {}
    assert story.world.at_work == []


def test_the_loss_that_sites_tell_steers_who_is_drawn_next() -> None:
    """All score, so after the first round all losses are known: that of a client is its shard."""
    sampling = Sampling("power-of-choice", 4)
    config: dict[str, Any] = {
        "cohort": Share(count=2),
        "eval_cohort": Share(fraction=1.0),
        "sampling": sampling,
        "rounds": 3,
    }
    story = Story(world((1.0,) * 4, **config)).play()
    assert set(story.records[0]["sites"]) == set("abcd")
    assert [record["cohort"] for record in story.records[1:]] == [["c", "d"], ["c", "d"]]
