"""Who takes part in a simulation."""

from __future__ import annotations

from fl_sim.settings import of_those_able
from fl_sim.simulation import Clients
from tests.federations import rule


def test_a_round_needs_no_more_than_can_train() -> None:
    who = Clients(("a", "b", "c"), (10, 0, 5), ())
    assert of_those_able(rule(min_clients=3), who).min_clients == 2
    assert of_those_able(rule(min_clients=1), who).min_clients == 1
