"""Sending one update: offered, granted, acknowledged; cut, forgotten and offered again."""

from __future__ import annotations

from edge_client import events as ev
from edge_client.upload import SILENCE_S, Upload
from fl_protocol.messages import ACCEPTED, Ack
from fl_protocol.tensors import LEAF_BYTES
from fl_protocol.transfer import ChunkSet
from tests.unit.edge_client.sessions import of, offers, update_of

NUM_CHUNKS = 40


def upload_of(chunks: int = NUM_CHUNKS) -> Upload:
    return Upload("default", "site-a", update_of(size=chunks * LEAF_BYTES), LEAF_BYTES)


def indexes(effects: list[ev.Effect]) -> list[int]:
    return [index for effect in of(ev.SendChunks, effects) for index in effect.indexes]


def held(*chunks: int) -> bytes:
    found = ChunkSet(NUM_CHUNKS)
    for chunk in chunks:
        found.add(chunk)
    return found.to_bytes()


def test_topics_name_client_and_transfer() -> None:
    upload = upload_of(1)
    offer, chunks = upload.offer(0.0)
    assert isinstance(offer, ev.Send)
    assert isinstance(chunks, ev.SendChunks)
    assert offer.topic == f"fl/1/default/up/site-a/offer/{upload.transfer}"
    assert chunks.topic == f"fl/1/default/up/site-a/chunk/{upload.transfer}/0"
    assert upload.transfer == f"1-{upload.update.manifest.digest[:32]}"


def test_the_chunk_size_is_the_links_and_the_transfer_is_not() -> None:
    small = Upload("default", "site-a", update_of(), 65536)
    assert small.update.manifest.chunk_bytes == 65536
    assert small.sending.held.total == 10
    assert small.transfer == Upload("default", "site-a", update_of(), LEAF_BYTES).transfer


def test_chunks_follow_credit() -> None:
    upload = upload_of()
    assert indexes(upload.offer(0.0)) == []
    assert indexes(upload.ack(Ack(b"", 0), 0.1)) == []
    assert indexes(upload.ack(Ack(b"", 8), 0.2)) == list(range(8))
    assert indexes(upload.ack(Ack(held(0, 1), 8), 0.3)) == [8, 9]
    assert upload.progress == (2, NUM_CHUNKS)
    assert upload.ack(Ack(b"", 0, ACCEPTED), 0.4) == []
    assert upload.over
    assert upload.deadline == float("inf")


def test_silence_offers_again_ever_more_rarely() -> None:
    upload, now, waits = upload_of(), 0.0, []
    upload.offer(now)
    for _ in range(5):
        waits.append(upload.deadline - now)
        now = upload.deadline
        assert upload.tick(now - 0.1, 0) == []
        assert len(offers(upload.tick(now, 0))) == 1
    assert waits == [SILENCE_S, 20.0, 40.0, 60.0, 60.0]
    upload.ack(Ack(held(0), 8), now)
    assert upload.deadline == now + SILENCE_S


def test_after_a_silence_what_was_under_way_is_sent_again() -> None:
    upload = upload_of()
    upload.offer(0.0)
    assert indexes(upload.ack(Ack(b"", 4), 0.1)) == [0, 1, 2, 3]
    again = upload.tick(upload.deadline, 0)
    assert len(offers(again)) == 1
    assert indexes(again) == [0, 1, 2, 3]


def test_a_slow_link_that_still_moves_is_no_silence() -> None:
    upload = upload_of()
    upload.offer(0.0)
    upload.ack(Ack(b"", 8), 0.1)
    assert upload.tick(upload.deadline, unsent=6) == []
    assert upload.tick(upload.deadline, unsent=4) == []
    assert offers(upload.tick(upload.deadline, unsent=4)), "it does not move any more"


def test_the_wait_grows_with_the_round_trip() -> None:
    upload = upload_of()
    upload.offer(0.0)
    upload.ack(Ack(b"", 8), 5.0)
    assert upload.deadline == 5.0 + 20.0


def test_nobody_is_waited_for_while_nobody_can_answer() -> None:
    upload = upload_of()
    upload.offer(0.0)
    upload.ack(Ack(b"", 4), 0.1)
    upload.away()
    assert upload.tick(1e6, 0) == []
    kept = upload.rejoined(2e6, lost=False)
    assert len(offers(kept)) == 1
    assert indexes(kept) == []
    assert indexes(upload.rejoined(2e6, lost=True)) == [0, 1, 2, 3]


def test_a_parting_update_is_offered_once() -> None:
    upload = upload_of()
    assert len(offers(upload.part(0.0))) == 1
    assert upload.tick(upload.deadline, 0) == []
    assert upload.given_up
    assert upload.over


def test_a_single_chunk_is_sent_again_with_every_offer() -> None:
    upload = upload_of(1)
    assert indexes(upload.offer(0.0)) == [0]
    assert indexes(upload.tick(upload.deadline, 0)) == [0]
