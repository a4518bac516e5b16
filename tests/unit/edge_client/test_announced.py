"""What is news in an announcement of rounds."""

from __future__ import annotations

from edge_client.announced import Announced, News
from fl_protocol.messages import FINISHED, WAITING, LastRound
from tests.unit.edge_client.sessions import AGG, round_state


def test_the_newest_announcement_stands_and_an_old_one_is_no_news() -> None:
    announced = Announced()
    first, second = (round_state(number, instance=AGG, seq=number) for number in (1, 2))
    assert (announced.round, announced.finished) == (None, False)
    assert announced.hear(first) == announced.hear(second) == News()
    assert announced.hear(first) is None
    assert announced.round == second


def test_a_round_has_ended_once_and_only_if_we_listened_before() -> None:
    ended = LastRound(1, "closed", 2, 0, 0, 1.5, None)
    announced = Announced()
    assert announced.hear(round_state(2, last=ended)) == News(), "who comes later heard it end for others"
    announced = Announced()
    announced.hear(round_state(1))
    assert announced.hear(round_state(2, last=ended)) == News(ended=ended)
    assert announced.hear(round_state(2, attempt=2, last=ended)) == News()


def test_another_run_is_told_by_its_name_and_a_nameless_one_is_none() -> None:
    announced = Announced()
    said = [announced.hear(round_state(1, run_id=run)) for run in (None, "a", None, "a", "b")]
    assert said == [News(), News(), News(), News(), News(another_run=True)]


def test_a_run_goes_on_after_it_had_stopped_between_two_rounds() -> None:
    announced = Announced()
    stopped = announced.hear(round_state(2, WAITING, rounds=2)), announced.between_runs
    assert stopped == (News(), True)
    open_again = announced.hear(round_state(3)), announced.between_runs
    assert open_again == (News(goes_on=True), False)
    announced.hear(round_state(3, WAITING))
    assert announced.hear(round_state(4)) == News(), "too few clients is no stop"
    announced.hear(round_state(4, FINISHED))
    assert announced.finished
