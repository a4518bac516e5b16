"""The schedule: a pure function of the seed, fair to all kinds."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_protocol.errors import ConfigError
from fl_sim.faults import AGGREGATOR, BROKER, KINDS, LASTS_S, MEANING, USUAL, parse_kinds, schedule


def test_a_seed_gives_one_schedule() -> None:
    first = schedule(USUAL, 20, 3, 7, 1.0)
    assert first == schedule(USUAL, 20, 3, 7, 1.0)
    assert first != schedule(USUAL, 20, 3, 8, 1.0)


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, unique=True), rounds=st.integers(1, 40),
    clients=st.integers(1, 9), seed=st.integers(0, 10**9), pace_s=st.floats(0, 100),
)  # fmt: skip
def test_every_fault_is_possible(
    kinds: list[str], rounds: int, clients: int, seed: int, pace_s: float
) -> None:
    faults = schedule(kinds, rounds, clients, seed, pace_s)
    assert list(faults) == sorted(faults, key=lambda fault: (fault.round_number, fault.after_s))
    names = {f"site-{k}" for k in range(1, clients + 1)}
    for fault in faults:
        assert 1 <= fault.round_number <= rounds
        assert 0 <= fault.after_s <= pace_s + 0.005
        low, high = LASTS_S[fault.kind]
        assert low <= fault.lasts_s <= high
        allowed = {"kill-agg": {AGGREGATOR}, "kill-broker": {BROKER}, "kill-edge": names}
        assert fault.target in allowed.get(fault.kind, names | {AGGREGATOR})
        assert (fault.kind, fault.round_number) != ("kill-broker", rounds)
    counts = Counter(fault.kind for fault in faults if fault.kind != "kill-broker")
    assert (
        max(counts.values(), default=0) - min((counts[k] for k in kinds if k != "kill-broker"), default=0)
        <= 1
    )


def test_every_round_has_a_fault() -> None:
    faults = schedule(("cut",), 30, 3, 1, 1.0)
    assert {fault.round_number for fault in faults} == set(range(1, 31))
    assert len(faults) > 30


def test_no_kinds_no_faults() -> None:
    assert schedule((), 10, 3, 0, 1.0) == ()


def test_a_list_of_kinds() -> None:
    assert parse_kinds("dup,cut,dup") == ("dup", "cut")
    assert parse_kinds("") == ()
    with pytest.raises(ConfigError, match="kill-agg, kill-edge"):
        parse_kinds("cut,fire")


def test_every_kind_has_a_meaning_and_a_length() -> None:
    assert set(LASTS_S) == set(MEANING)
    assert set(USUAL) < set(KINDS)
