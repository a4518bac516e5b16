"""The line under a clock of the test's own."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_sim.line import PACKET_BYTES, PROFILES, QUEUE_S, Flow, Line, goodput


def flow(line: Line, *, up: bool = True, seed: int = 0) -> Flow:
    return Flow(line, up=up, rng=random.Random(seed))


def test_the_rate_holds_each_way() -> None:
    line = Line(up_kbit_s=8, down_kbit_s=80)
    assert flow(line, up=True).enter(5_000, 100.0) == pytest.approx(105.0)
    assert flow(line, up=False).enter(5_000, 100.0) == pytest.approx(100.5)


def test_a_line_that_was_idle_has_saved_nothing_up() -> None:
    slow = flow(Line(up_kbit_s=8))
    slow.enter(1_000, 0.0)
    assert slow.enter(1_000, 50.0) == pytest.approx(51.0)


def test_delay_is_added_once_however_many_wait() -> None:
    slow = flow(Line(up_kbit_s=8, delay_ms=200))
    assert [slow.enter(1_000, 0.0) for _ in range(3)] == pytest.approx([1.2, 2.2, 3.2])


def test_the_queue_holds_its_sender_back() -> None:
    slow = flow(Line(up_kbit_s=8))
    assert slow.ready_at(0.0) == 0.0
    slow.enter(1_000, 0.0)
    assert slow.ready_at(0.0) == pytest.approx(1.0 - QUEUE_S)
    assert slow.ready_at(2.0) == 2.0


def test_a_new_shape_holds_for_what_comes_next() -> None:
    changing = flow(Line(up_kbit_s=8))
    changing.enter(1_000, 0.0)
    changing.shape(Line())
    assert changing.enter(1_000, 0.0) == pytest.approx(1.0), "nothing overtakes"
    assert changing.enter(1_000, 5.0) == 5.0


def test_loss_costs_what_the_equation_says() -> None:
    assert goodput(PROFILES["lossy"], up=True) == pytest.approx(PACKET_BYTES / 0.21 * math.sqrt(75))
    assert goodput(Line(up_kbit_s=80, delay_ms=1, loss=0.0001), up=True) == 10_000, "the rate is the less"
    assert goodput(Line(), up=True) == math.inf


def test_loss_shows_as_silences_of_a_round_trip_and_more() -> None:
    """100,000 packets of which 2 % are lost: so many late ones, and a few that waited for the timer."""
    line = Line(delay_ms=100, loss=0.02)
    lossy = flow(line, seed=3)
    waits = [lossy._stall(PACKET_BYTES) for _ in range(100_000)]
    late = [wait for wait in waits if wait > 0]
    assert len(late) / len(waits) == pytest.approx(0.02, rel=0.1)
    assert min(late) == pytest.approx(line.round_trip_s)
    assert sum(wait > line.round_trip_s for wait in late) / len(late) == pytest.approx(0.02, rel=0.5)


def test_a_line_without_loss_never_stands_still() -> None:
    assert flow(Line(delay_ms=100))._stall(10**6) == 0.0


@given(
    sizes=st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 5)), max_size=40),
    line=st.builds(
        Line, st.floats(1, 1e6), st.floats(1, 1e6), st.floats(0, 500), st.floats(0, 500), st.floats(0, 0.3)
    ),
    up=st.booleans(),
)
def test_nothing_overtakes_and_nothing_is_faster_than_the_line(
    sizes: list[tuple[int, float]], line: Line, up: bool
) -> None:
    shaped, now, before, total = flow(line, up=up), 0.0, 0.0, 0
    for size, later in sizes:
        now, total = now + later, total + size
        out = shaped.enter(size, now)
        assert out >= before
        assert out >= now + size / goodput(line, up) + line.delay_ms / 1000 - 1e-6
        assert out >= total / goodput(line, up) - 1e-6
        before = out


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_profile_is_a_possible_line(name: str) -> None:
    line = PROFILES[name]
    assert line.up_kbit_s <= line.down_kbit_s
    assert 0 <= line.loss < 0.1
    assert PACKET_BYTES <= flow(line).piece_bytes <= 65536
