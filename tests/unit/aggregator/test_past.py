"""What ended rounds still mean: whose late update may count, and whose counts already."""

from __future__ import annotations

from aggregator.past import Past
from aggregator.round import Round
from fl_protocol.messages import LATE
from tests.federations import record, update_of
from tests.payloads import digest_of


def base_of(round_number: int) -> str:
    return digest_of(f"model {round_number - 1}")


def stale(client_id: str, round_number: int, staleness: int) -> dict[str, object]:
    return {"client_id": client_id, "round": round_number, "staleness": staleness, "num_examples": 1}


def short(round_number: int, *accepted: str, **changes: object) -> dict[str, object]:
    """The record of a round of a, b and c in which only these were in time."""
    return record(round_number, cohort=["a", "b", "c"], accepted=list(accepted), **changes)


def test_nothing_has_passed_before_the_first_round() -> None:
    past = Past(3)
    assert (past.rounds_done, past.last) == (0, None)
    assert past.in_time(1, 1) == "wrong_round"
    assert not past.counts_already("a", 1)


def test_an_update_is_in_time_while_it_is_behind_by_no_more_than_the_strategy_takes() -> None:
    past = Past(2, [short(number, "a") for number in range(1, 6)])
    assert [past.in_time(number, 6) for number in range(7)] == [
        "wrong_round", LATE, LATE, LATE, None, None, "wrong_round"
    ]  # fmt: skip
    assert Past(0, [short(1, "a")]).in_time(1, 2) == LATE


def test_who_was_invited_and_did_not_count_is_admitted_from_the_base_of_its_round() -> None:
    past = Past(2, [short(1, "a"), short(2, "b")])
    assert past.admission("b", 1, base_of(1)) is None
    assert past.admission("b", 1, base_of(2)) == "wrong_base"
    assert past.admission("x", 1, base_of(1)) == "not_invited"
    assert past.admission("a", 1, base_of(1)) == LATE
    assert past.admission("a", 2, base_of(2)) is None


def test_what_was_folded_in_late_counts_already() -> None:
    records = [short(1, "a"), short(2, "a"), short(3, "a", stale=[stale("b", 1, 2), stale("c", 2, 1)])]
    past = Past(2, records)
    assert past.counts_already("b", 1)
    assert past.admission("b", 1, base_of(1)) == LATE
    assert past.admission("c", 1, base_of(1)) is None
    assert not past.counts_already("b", 2)


def test_a_round_that_is_closed_can_be_late_for_before_its_record_is_there() -> None:
    past = Past(1, [short(1, "a")])
    closed = Round(2, 1, frozenset("abc"), base_of(2), 1, 1.0, 1.0, 0.0)
    closed.accept(update_of("a", 2), 0.0)
    closed.accept(update_of("b", 1, staleness=1), 0.0)
    past.close(closed)
    assert past.rounds_done == 1
    assert past.in_time(2, 3) is None
    assert past.admission("c", 2, base_of(2)) is None
    assert past.admission("a", 2, base_of(2)) == LATE
    assert past.counts_already("b", 1)


def test_only_as_much_is_remembered_as_can_matter() -> None:
    past = Past(1)
    for number in range(1, 50):
        past.add(short(number, "a"))
    assert [number for number in range(50) if past.counts_already("a", number)] == [48, 49]


def test_a_record_from_before_bases_were_recorded_lets_nobody_in() -> None:
    old = short(1, "a")
    del old["base_sha256"], old["stale"]
    assert Past(1, [old]).admission("b", 1, base_of(1)) == "wrong_base"


def test_the_last_loss_of_each_client_is_known_from_all_records() -> None:
    told = [
        {"a": {"loss": 0.5, "auroc": 0.7}, "b": {"loss": 0.4}},
        {"b": {"auroc": 0.9}},
        {"b": {"loss": 0.3}},
    ]
    past = Past(0, [record(number, sites=sites) for number, sites in enumerate(told[:2], 1)])
    assert past.losses == {"a": 0.5, "b": 0.4}, "also of rounds that mean nothing else any more"
    past.add(record(3, sites=told[2]))
    assert past.losses == {"a": 0.5, "b": 0.3}
