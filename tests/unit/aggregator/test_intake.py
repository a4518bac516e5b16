"""Uploads on their way in: credit, acknowledgements, verdicts, and what a bad client can make us keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aggregator import intake as up
from aggregator.intake import ACK_EVERY, Completed, Effect, Intake, Refused, SendAck, WriteLeaf
from fl_protocol.messages import Ack, Offer, transfer_id
from fl_protocol.tensors import LEAF_BYTES, Group, TensorSpec
from fl_protocol.transfer import WINDOW, ChunkSet
from tests.payloads import chunks_of, offer_of, random_payload

SMALL = random_payload(100)
LARGE = random_payload(3 * LEAF_BYTES, seed=1)
CHUNK = LEAF_BYTES // 4


def intake_for(payload: bytes = LARGE, slots: int = 2) -> Intake:
    return Intake((TensorSpec("w", (len(payload) // 4,)),), slots)


def large(seed: int = 1) -> tuple[str, Offer, list[bytes]]:
    payload = random_payload(3 * LEAF_BYTES, seed)
    transfer, offer = offer_of(payload, chunk_bytes=CHUNK)
    return transfer, offer, chunks_of(payload, offer.manifest)


def bits(total: int, *indexes: int) -> bytes:
    chunks = ChunkSet(total)
    for index in indexes:
        chunks.add(index)
    return chunks.to_bytes()


def sent(intake: Intake, client: str, transfer: str, chunks: list[bytes]) -> list[Effect]:
    return [
        effect for index, data in enumerate(chunks) for effect in intake.chunk(client, transfer, index, data)
    ]


def test_a_single_chunk_needs_no_acknowledgement_before_its_verdict() -> None:
    intake = intake_for(SMALL)
    transfer, offer = offer_of(SMALL)
    assert intake.offered("a", transfer, offer) == []
    assert intake.chunk("a", transfer, 0, SMALL) == [
        WriteLeaf("a", transfer, 0, SMALL), Completed("a", transfer, offer)
    ]  # fmt: skip
    verdict = Ack(b"\1", 0, "accepted")
    assert intake.answer("a", transfer, "accepted") == [SendAck("a", transfer, verdict)]
    assert intake.offered("a", transfer, offer) == [SendAck("a", transfer, verdict)], "told again, for ever"
    assert intake.chunk("a", transfer, 0, SMALL) == []
    assert intake.strays == 0


def test_a_large_one_is_granted_acknowledged_and_completed() -> None:
    intake = intake_for()
    transfer, offer, chunks = large()
    assert intake.offered("a", transfer, offer) == [SendAck("a", transfer, Ack(bits(12), WINDOW))]
    effects = sent(intake, "a", transfer, chunks)
    assert [effect.offset for effect in effects if isinstance(effect, WriteLeaf)] == [
        0,
        LEAF_BYTES,
        2 * LEAF_BYTES,
    ]
    acks = [effect.ack for effect in effects if isinstance(effect, SendAck)]
    assert acks == [Ack(bits(12, *range(ACK_EVERY)), WINDOW)]
    assert effects[-1] == Completed("a", transfer, offer)
    assert intake.progress("a", transfer) == (12, 12)
    assert intake.progress("b", transfer) is None


def test_duplicates_and_reordering_change_nothing() -> None:
    intake = intake_for()
    transfer, offer, chunks = large()
    intake.offered("a", transfer, offer)
    order = [3, 3, 11, 0, 0, 2, 1, 10, 9, 8, 4, 6, 5, 5, 7]
    effects = [effect for index in order for effect in intake.chunk("a", transfer, index, chunks[index])]
    assert len([effect for effect in effects if isinstance(effect, WriteLeaf)]) == 3
    assert [effect for effect in effects if isinstance(effect, Completed)] == [
        Completed("a", transfer, offer)
    ]
    assert intake.chunk("a", transfer, 0, chunks[0]) == []


def test_an_offer_told_again_is_answered_with_what_is_held() -> None:
    intake = intake_for()
    transfer, offer, chunks = large()
    intake.offered("a", transfer, offer)
    intake.chunk("a", transfer, 5, chunks[5])
    assert intake.knows("a", transfer)
    assert not intake.knows("b", transfer)
    assert intake.offered("a", transfer, offer) == [SendAck("a", transfer, Ack(bits(12, 5), WINDOW))]


def test_an_earlier_try_is_taken_up_from_its_leaves() -> None:
    intake = intake_for()
    transfer, offer, chunks = large()
    effects = intake.offered("a", transfer, offer, held=[0, 2])
    assert effects == [SendAck("a", transfer, Ack(bits(12, 0, 1, 2, 3, 8, 9, 10, 11), WINDOW))]
    for index in (4, 5, 6):
        assert intake.chunk("a", transfer, index, chunks[index]) == []
    assert [type(effect) for effect in intake.chunk("a", transfer, 7, chunks[7])] == [WriteLeaf, Completed]


def test_one_that_is_whole_on_disk_completes_with_its_offer() -> None:
    transfer, offer, _ = large()
    effects = intake_for().offered("a", transfer, offer, held=[0, 1, 2])
    assert effects == [Completed("a", transfer, offer)]


def test_credit_goes_to_as_many_as_there_are_slots_and_then_in_turn() -> None:
    intake = intake_for(slots=2)
    offers = {client: large(seed) for seed, client in enumerate("abcd", 1)}
    for client, (transfer, offer, _) in offers.items():
        window = WINDOW if client in "ab" else 0
        assert intake.offered(client, transfer, offer) == [SendAck(client, transfer, Ack(bits(12), window))]
    transfer, _, chunks = offers["a"]
    effects = sent(intake, "a", transfer, chunks)
    assert effects[-1] == SendAck("c", offers["c"][0], Ack(bits(12), WINDOW)), (
        "a is whole: its slot goes to c"
    )
    assert intake.gone("b") == [SendAck("d", offers["d"][0], Ack(bits(12), WINDOW))]
    assert not intake.knows("b", offers["b"][0])


def test_a_verdict_and_a_forgotten_upload_free_their_slots() -> None:
    for free in ("answer", "forget"):
        intake = intake_for(slots=1)
        (first, offer, _), (second, other, _) = large(1), large(2)
        intake.offered("a", first, offer)
        intake.offered("b", second, other)
        effects = (
            intake.forget("a", first) if free == "forget" else intake.answer("a", first, "rejected", "why")
        )
        assert effects[-1] == SendAck("b", second, Ack(bits(12), WINDOW))


def test_a_new_upload_of_a_client_replaces_its_unfinished_one() -> None:
    intake = intake_for(slots=1)
    (first, offer, chunks), (second, other, _) = large(1), large(2)
    intake.offered("a", first, offer)
    assert intake.offered("a", second, other) == [SendAck("a", second, Ack(bits(12), WINDOW))]
    assert intake.chunk("a", first, 0, chunks[0]) == []
    assert intake.strays == 1
    assert intake.open_transfers() == [("a", second, 1)]


def test_a_refused_offer_does_not_replace_one_under_way() -> None:
    intake = intake_for()
    (first, offer, _), (second, other, _) = large(1), large(2)
    intake.offered("a", first, offer)
    assert intake.offered("a", second, other, refusal="late") == [Refused("a", second, "late", 1)]
    assert intake.knows("a", first)
    assert not intake.knows("a", second)


def test_one_client_cannot_touch_anothers_upload() -> None:
    intake = intake_for()
    transfer, offer, chunks = large()
    intake.offered("a", transfer, offer)
    assert intake.chunk("b", transfer, 0, chunks[0]) == []
    assert (intake.strays, intake.progress("a", transfer)) == (1, (0, 12))


@pytest.mark.parametrize(
    ("index", "data", "reason"),
    [(12, bytes(CHUNK), "bad_chunk"), (0, bytes(CHUNK - 1), "bad_chunk"), (0, b"", "bad_chunk")],
)
def test_a_chunk_that_is_none_refuses_the_upload(index: int, data: bytes, reason: str) -> None:
    intake = intake_for()
    transfer, offer, _ = large()
    intake.offered("a", transfer, replace(offer, round_number=4))
    assert intake.chunk("a", transfer, index, data) == [Refused("a", transfer, reason, 4)]
    assert intake.round_of("a", transfer) == 4
    assert intake.round_of("b", transfer) == 0


def test_a_false_leaf_refuses_the_upload_and_is_not_written() -> None:
    intake = intake_for()
    transfer, offer, chunks = large()
    intake.offered("a", transfer, offer)
    effects = sent(intake, "a", transfer, [*chunks[:3], bytes(CHUNK)])
    assert effects == [Refused("a", transfer, "bad_digest", 1)]


def _offer(**changes: object) -> Offer:
    offer = large()[1]
    manifest = replace(offer.manifest, **changes)  # type: ignore[arg-type]
    return replace(offer, manifest=manifest)


LAYOUT = (TensorSpec("w", (len(LARGE) // 4,)),)


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (_offer(), None),
        (_offer(groups=(Group("model", "f32", LAYOUT),)), "wrong_groups"),
        (_offer(groups=(Group("delta", "f32", LAYOUT), Group("control", "f32", ()))), "wrong_groups"),
        (_offer(groups=()), "wrong_groups"),
        (_offer(groups=(Group("delta", "f16", LAYOUT),)), "unknown_codec"),
        (_offer(groups=(Group("delta", "f32", (TensorSpec("v", LAYOUT[0].shape),)),)), "wrong_shapes"),
        (_offer(groups=(Group("delta", "f32", (TensorSpec("w", (len(LARGE) // 8, 2)),)),)), "wrong_shapes"),
    ],
)
def test_misfit(offer: Offer, reason: str | None) -> None:
    assert intake_for().misfit(transfer_id(1, offer.manifest.digest), offer) == reason


BOTH = (*LAYOUT, TensorSpec("control/w", LAYOUT[0].shape))


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ((Group("delta", "f32", LAYOUT), Group("control", "f32", BOTH[1:])), None),
        ((Group("delta", "f32", LAYOUT),), "wrong_groups"),
        ((Group("control", "f32", BOTH[1:]), Group("delta", "f32", LAYOUT)), "wrong_groups"),
        ((Group("delta", "f32", BOTH),), "wrong_groups"),
        ((Group("delta", "f32", LAYOUT), Group("control", "f16", BOTH[1:])), "unknown_codec"),
        ((Group("delta", "f32", LAYOUT), Group("control", "f32", LAYOUT)), "wrong_shapes"),
        ((Group("delta", "f32", BOTH), Group("control", "f32", ())), "wrong_shapes"),
    ],
)
def test_an_update_of_scaffold_has_the_groups_of_its_model(
    groups: tuple[Group, ...], reason: str | None
) -> None:
    offer = _offer(groups=groups)
    assert Intake(BOTH).misfit(transfer_id(1, offer.manifest.digest), offer) == reason


def test_a_transfer_must_have_the_name_of_its_update() -> None:
    intake = intake_for()
    transfer, offer, _ = large()
    assert intake.misfit(transfer + "0", offer) == "bad_transfer"
    assert intake.misfit(transfer, replace(offer, round_number=2)) == "bad_transfer"


def test_a_reason_that_may_pass_is_not_held_against_the_same_bytes() -> None:
    """Not drawn in one attempt, drawn in the next: it trains again, and gets the same update."""
    intake = intake_for(SMALL)
    transfer, offer = offer_of(SMALL)
    assert intake.offered("a", transfer, offer, refusal="not_invited") == [
        Refused("a", transfer, "not_invited", 1)
    ]
    assert intake.answer("a", transfer, "rejected", "not_invited") == [
        SendAck("a", transfer, Ack(b"", 0, "rejected", "not_invited"))
    ]
    assert not intake.knows("a", transfer)
    assert intake.offered("a", transfer, offer) == []
    assert intake.chunk("a", transfer, 0, SMALL)[-1] == Completed("a", transfer, offer)


def test_verdicts_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "MAX_REMEMBERED", 3)
    intake = intake_for()
    for number in range(5):
        intake.answer("a", f"t{number}", "rejected", "x" * 999)
    assert [intake.knows("a", f"t{number}") for number in range(5)] == [False, False, True, True, True]
    _, offer, _ = large()
    effect = intake.offered("a", "t4", offer)[0]
    assert isinstance(effect, SendAck)
    assert len(effect.ack.reason) == 300


def test_an_upload_that_stands_still_gives_its_slot_to_one_that_waits() -> None:
    """And gets one again when it moves: nobody's hang keeps the others out until the deadline."""
    intake = intake_for(slots=1)
    (first, one, chunks), (second, two, _) = large(1), large(2)
    intake.offered("a", first, one)
    intake.chunk("a", first, 0, chunks[0])
    for now in (0.0, 100.0):
        assert intake.tick(now) == [], "nobody waits"
    assert intake.offered("b", second, two) == [SendAck("b", second, Ack(bits(12), 0))]
    assert intake.tick(200.0) == []
    intake.chunk("a", first, 1, chunks[1])
    assert intake.tick(200.0 + up.STILL_S) == [], "it moved"
    assert intake.tick(200.1 + 2 * up.STILL_S) == [SendAck("b", second, Ack(bits(12), WINDOW))]
    assert intake.offered("a", first, one) == [SendAck("a", first, Ack(bits(12, 0, 1), 0))]
    assert intake.gone("b") == [SendAck("a", first, Ack(bits(12, 0, 1), WINDOW))]


def test_the_strategy_may_have_something_against_an_update() -> None:
    intake = Intake(LAYOUT, refusal=lambda metrics: None if "local_steps" in metrics else "no_local_steps")
    offer = _offer()
    transfer = transfer_id(1, offer.manifest.digest)
    assert intake.misfit(transfer, offer) == "no_local_steps"
    assert intake.misfit(transfer, replace(offer, metrics={"local_steps": 3.0})) is None


def test_verdicts_of_rounds_long_past_are_forgotten() -> None:
    """However many rounds a run has, and whatever a peer calls its transfers."""
    intake = intake_for(SMALL)
    held = []
    for number in range(1, 1001):
        for client in ("a", "b"):
            transfer, offer = offer_of(SMALL, round_number=number)
            intake.offered(client, transfer, offer)
            intake.answer(client, transfer, "accepted")
        intake.answer("mallory", f"no-round-{number}", "rejected", "bad_transfer")
        intake.settle(number - 1)
        held.append(len(intake._verdicts))
    assert max(held) <= 3 * (up.REMEMBERED_ROUNDS + 1)
    newest, _ = offer_of(SMALL, round_number=1000)
    oldest, _ = offer_of(SMALL, round_number=1)
    assert intake.knows("a", newest) and not intake.knows("a", oldest)
