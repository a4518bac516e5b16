"""What is heard late, twice, or from a process that another has succeeded."""

from __future__ import annotations

from edge_client.newest import Newest
from tests.unit.edge_client.sessions import round_state


def test_what_comes_late_is_known_for_old() -> None:
    """Twice, out of order, a round late, and from an aggregator that another has succeeded."""
    a, b = "aa" * 8, "bb" * 8
    newest = Newest()
    said = [round_state(number, instance=a, seq=number) for number in (1, 2, 3)]
    assert [newest.takes(said[at]) for at in (0, 0, 2, 1, 0, 2)] == [True, True, True, False, False, True]
    assert newest.takes(round_state(3, instance=b, seq=1)), "another process begins to count anew"
    assert not newest.takes(round_state(4, instance=a, seq=9))
    assert newest.takes(round_state(4, instance=b, seq=2))


def test_an_aggregator_that_does_not_count_is_taken_at_its_word() -> None:
    newest = Newest()
    assert newest.takes(round_state(2)) and newest.takes(round_state(1)) and newest.takes(round_state(2))
