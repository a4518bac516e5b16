"""Who takes part in a simulation, and what is said of those who cannot."""

from __future__ import annotations

from fl_sim.settings import MOST_NAMED, in_words, of_those_able
from fl_sim.simulation import Clients
from tests.federations import rule


def test_a_round_needs_no_more_than_can_train() -> None:
    who = Clients(("a", "b", "c"), (10, 0, 5), ())
    assert of_those_able(rule(min_clients=3), who).min_clients == 2
    assert of_those_able(rule(min_clients=1), who).min_clients == 1


def test_of_many_names_the_first_are_said_and_the_rest_counted() -> None:
    assert in_words(["a", "b"]) == "a, b"
    names = [str(number) for number in range(MOST_NAMED + 2)]
    assert in_words(names).endswith("6, 7 and 2 more")
