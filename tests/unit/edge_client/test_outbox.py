"""Which finished update still counts, which parts, and which file goes when."""

from __future__ import annotations

from dataclasses import replace

from edge_client import events as ev
from edge_client.outbox import Outbox, Verdict
from fl_protocol.messages import ACCEPTED, LATE, REJECTED, Ack
from tests.unit.edge_client.sessions import AGG, MODEL, of, offers, update_of

CHUNK = 262144
FIRST, SECOND = update_of(1), update_of(2)


def outbox_of(kept: ev.Update | None = FIRST, *, accepted: bool = False) -> Outbox:
    return Outbox("default", "site-a", kept, accepted=accepted)


def answer(
    outbox: Outbox, effects: list[ev.Effect], verdict: str, reason: str = ""
) -> tuple[list[ev.Effect], Verdict]:
    transfer = offers(effects)[0].topic.rpartition("/")[2]
    after, ended = outbox.ack(ev.AckArrived(transfer, Ack(b"", 0, verdict, reason)), AGG, 1.0)
    assert isinstance(ended, Verdict)
    return after, ended


def test_what_is_accepted_stays_and_remembers_by_whom() -> None:
    outbox = outbox_of()
    assert outbox.key == (1, MODEL.digest)
    after, ended = answer(outbox, outbox.offer(CHUNK, 0.0), ACCEPTED)
    assert after == [ev.KeepAccepted(FIRST)]
    assert ended == Verdict(FIRST, ACCEPTED, "", parting=False)
    assert (outbox.kept, outbox.accepted_by, outbox.upload) == (FIRST, AGG, None)
    assert outbox_of(accepted=True).accepted_by == ""


def test_what_is_refused_goes() -> None:
    for verdict in (REJECTED, LATE):
        outbox = outbox_of()
        after, ended = answer(outbox, outbox.offer(CHUNK, 0.0), verdict, "bad_values")
        assert [effect.update.file for effect in of(ev.DropUpdate, after)] == [FIRST.file]
        assert (ended.verdict, ended.reason, ended.accepted) == (verdict, "bad_values", False)
        assert outbox.key is None


def test_a_new_update_replaces_the_old_one() -> None:
    outbox = outbox_of()
    assert outbox.keep(SECOND) == [ev.DropUpdate(FIRST)]
    assert outbox.kept == SECOND
    assert outbox_of(None).keep(FIRST) == []


def test_a_round_trained_again_keeps_the_file_that_an_earlier_try_shares() -> None:
    again = replace(FIRST, num_examples=FIRST.num_examples + 1)
    assert outbox_of().keep(again) == []
    outbox = outbox_of()
    parting = outbox.part(CHUNK, 1.0)
    outbox.keep(again)
    after, _ = answer(outbox, parting, ACCEPTED)
    assert of(ev.DropUpdate, after) == []


def test_a_parting_update_is_beside_the_current_one() -> None:
    outbox = outbox_of()
    outbox.offer(CHUNK, 0.0)
    parting = outbox.part(CHUNK, 1.0)
    assert outbox.key is None
    outbox.keep(SECOND)
    current = outbox.offer(CHUNK, 2.0)
    after, ended = answer(outbox, parting, LATE)
    assert ended.parting
    assert [effect.update.file for effect in of(ev.DropUpdate, after)] == [FIRST.file]
    assert outbox.kept == SECOND
    assert not answer(outbox, current, ACCEPTED)[1].parting


def test_a_second_parting_ends_the_first() -> None:
    outbox = outbox_of()
    outbox.part(CHUNK, 0.0)
    outbox.keep(SECOND)
    assert [effect.update.file for effect in of(ev.DropUpdate, outbox.part(CHUNK, 1.0))] == [FIRST.file]


def test_parting_without_an_answer_is_given_up() -> None:
    outbox = outbox_of()
    outbox.part(CHUNK, 0.0)
    assert outbox.tick(9.0, 0) == []
    assert len(of(ev.DropUpdate, outbox.tick(outbox.deadline, 0))) == 1
    assert outbox.deadline == float("inf")


def test_all_that_is_under_way_is_offered_to_who_comes_back() -> None:
    outbox = outbox_of()
    outbox.part(CHUNK, 0.0)
    outbox.keep(SECOND)
    outbox.offer(CHUNK, 0.0)
    outbox.away()
    assert outbox.deadline == float("inf")
    assert len(offers(outbox.rejoined(5.0, lost=True))) == 2


def test_an_ack_of_no_transfer_of_ours_changes_nothing() -> None:
    assert outbox_of().ack(ev.AckArrived("1-ab", Ack(b"", 4)), AGG, 0.0) == ([], None)
    assert outbox_of(None).drop() == []
    assert outbox_of(None).end_parting() == []


def test_a_parting_update_that_had_been_accepted_is_kept_track_of_before_it_goes() -> None:
    """Its verdict was lost on the way: what the site keeps of it counts nevertheless."""
    outbox = outbox_of()
    outbox.offer(CHUNK, 0.0)
    after, ended = answer(outbox, outbox.part(CHUNK, 1.0), ACCEPTED)
    assert ended.parting
    assert [type(effect) for effect in after] == [ev.KeepAccepted, ev.DropUpdate]
