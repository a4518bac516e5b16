"""The three machines that move a payload, one behaviour at a time; tests/properties has them on a bad link."""

from __future__ import annotations

import pytest

from fl_protocol.errors import PeerError
from fl_protocol.tensors import CHUNKS_PER_BLOCK, LEAF_BYTES
from fl_protocol.transfer import FEW, MAX_PENDING_LEAVES, WINDOW, Assembly, ChunkSet, Pulling, Sending
from tests.payloads import chunks_of, manifest_of, random_payload

QUARTER = LEAF_BYTES // 4


# --- ChunkSet -----------------------------------------------------------------------------------------------


def test_chunk_set_on_the_wire_has_its_lowest_bit_first() -> None:
    chunks = ChunkSet(10)
    for index in (0, 3, 9):
        chunks.add(index)
    assert chunks.to_bytes() == bytes([0b1001, 0b10])
    assert ChunkSet(10, chunks.to_bytes()).missing() == [1, 2, 4, 5, 6, 7, 8]


def test_chunk_set_counts_each_chunk_once() -> None:
    chunks = ChunkSet(3)
    chunks.add(1)
    chunks.add(1)
    assert (len(chunks), 1 in chunks, 0 in chunks, 7 in chunks, chunks.complete) == (
        1,
        True,
        False,
        False,
        False,
    )
    chunks.discard(1)
    chunks.discard(1)
    assert (len(chunks), chunks.to_bytes()) == (0, b"\0")


@pytest.mark.parametrize(("bits", "held"), [(b"", 0), (b"\xff\xff\xff", 3), (b"\5", 2)])
def test_chunk_set_reads_hostile_bits_within_its_bound(bits: bytes, held: int) -> None:
    chunks = ChunkSet(3, bits)
    assert len(chunks) == held
    assert len(chunks.to_bytes()) == 1
    assert chunks.complete is (held == 3)


def test_chunk_set_without() -> None:
    assert ChunkSet(9, b"\xff\1").without(ChunkSet(9, b"\x7f\0")) == [7, 8]
    assert ChunkSet(9, b"\1").without(ChunkSet(9, b"\xff")) == []


# --- Assembly -----------------------------------------------------------------------------------------------


def test_assembly_hands_out_a_leaf_when_its_last_chunk_comes() -> None:
    payload = random_payload(LEAF_BYTES + 10)
    manifest = manifest_of(payload, QUARTER)
    assembly, chunks = Assembly(manifest), chunks_of(payload, manifest)
    assert [assembly.add(index, chunks[index]) for index in (2, 0, 3)] == [None] * 3
    assert assembly.add(1, chunks[1]) == (0, payload[:LEAF_BYTES])
    assert assembly.held.missing() == [4]
    assert assembly.add(4, chunks[4]) == (LEAF_BYTES, payload[LEAF_BYTES:])
    assert assembly.complete
    assert assembly.add(4, chunks[4]) is None, "a duplicate changes nothing"


def test_assembly_starts_from_leaves_on_disk() -> None:
    payload = random_payload(3 * LEAF_BYTES)
    manifest = manifest_of(payload, QUARTER)
    assembly = Assembly(manifest, held_leaves=[0, 2])
    assert assembly.held.missing() == [4, 5, 6, 7]
    assert Assembly(manifest, held_leaves=[0, 1, 2]).complete


@pytest.mark.parametrize(
    ("index", "length"), [(5, QUARTER), (10**7, 4), (0, QUARTER - 1), (0, 0), (4, QUARTER)]
)
def test_assembly_refuses_what_is_no_chunk_of_this_payload(index: int, length: int) -> None:
    assembly = Assembly(manifest_of(random_payload(LEAF_BYTES + 10), QUARTER))
    with pytest.raises(PeerError) as caught:
        assembly.add(index, bytes(length))
    assert caught.value.reason == "bad_chunk"
    assert len(assembly.held) == 0


def test_assembly_wants_every_chunk_of_a_false_leaf_again() -> None:
    payload = random_payload(2 * LEAF_BYTES)
    manifest = manifest_of(payload, QUARTER)
    assembly, chunks = Assembly(manifest), chunks_of(payload, manifest)
    for index in (0, 1, 2, 4):
        assembly.add(index, chunks[index])
    with pytest.raises(PeerError) as caught:
        assembly.add(3, bytes(QUARTER))
    assert caught.value.reason == "bad_digest"
    assert assembly.held.missing() == [0, 1, 2, 3, 5, 6, 7]
    assert [assembly.add(index, chunks[index]) for index in range(4)][-1] == (0, payload[:LEAF_BYTES])


def test_assembly_forgets_the_oldest_of_too_many_unfinished_leaves() -> None:
    num_leaves = MAX_PENDING_LEAVES + 1
    payload = random_payload(num_leaves * LEAF_BYTES)
    manifest = manifest_of(payload, LEAF_BYTES // 2)
    assembly, chunks = Assembly(manifest), chunks_of(payload, manifest)
    for leaf in range(num_leaves):
        assembly.add(2 * leaf, chunks[2 * leaf])
    assert len(assembly.held) == MAX_PENDING_LEAVES
    assert 0 not in assembly.held


# --- Sending ------------------------------------------------------------------------------------------------


def _held(total: int, *indexes: int) -> bytes:
    chunks = ChunkSet(total)
    for index in indexes:
        chunks.add(index)
    return chunks.to_bytes()


def test_sending_waits_for_credit_and_keeps_within_it() -> None:
    sending = Sending(10)
    assert sending.take() == []
    sending.acknowledge(b"", 4)
    assert sending.take() == [0, 1, 2, 3]
    assert (sending.take(), sending.under_way) == ([], 4)
    assert sending.acknowledge(_held(10, 0, 1), 4)
    assert sending.take() == [4, 5]


def test_sending_does_not_send_what_is_held_already() -> None:
    sending = Sending(4)
    sending.acknowledge(_held(4, 0, 2), 8)
    assert sending.take() == [1, 3]
    sending.acknowledge(_held(4, 0, 1, 2, 3), 8)
    assert (sending.complete, sending.under_way, sending.take()) == (True, 0, [])


def test_sending_takes_a_chunk_for_lost_when_three_later_ones_arrived() -> None:
    sending = Sending(40)
    sending.acknowledge(b"", 8)
    assert sending.take() == list(range(8))
    sending.acknowledge(_held(40, 1, 2), 8)
    assert sending.take() == [8, 9], "2 was sent two after 0: too early to tell"
    sending.acknowledge(_held(40, 1, 2, 3), 8)
    assert (sending.take()[0], sending.resent) == (0, 1)


def test_sending_halves_its_window_on_loss_and_grows_by_one() -> None:
    sending = Sending(1000)
    sending.acknowledge(b"", 1000)
    assert len(sending.take()) == WINDOW
    sending.acknowledge(_held(1000, *range(1, WINDOW)), 1000)
    assert sending.take() == [0, *range(WINDOW, WINDOW + WINDOW // 2 - 1)]
    sending.acknowledge(_held(1000, *range(WINDOW)), 1000)
    sending.take()
    assert sending.under_way == WINDOW // 2 + 1


def test_sending_ignores_old_news() -> None:
    sending = Sending(10)
    sending.acknowledge(b"", 4)
    sending.take()
    sending.acknowledge(_held(10, 0, 1, 2), 4)
    assert not sending.acknowledge(_held(10, 0), 4)
    assert sending.held.missing() == list(range(3, 10))


def test_sending_sends_again_after_a_cut() -> None:
    sending = Sending(6)
    sending.acknowledge(b"", 3)
    assert sending.take() == [0, 1, 2]
    sending.forget_under_way()
    assert sending.take() == [0, 1, 2]
    assert sending.resent == 3


def test_sending_believes_a_receiver_that_lost_what_it_held() -> None:
    """Four chunks make a leaf; the aggregator held two of them in memory when it was killed."""
    sending = Sending(8)
    sending.acknowledge(b"", 8)
    assert sending.take() == list(range(8))
    sending.acknowledge(_held(8, 0, 1, 2, 3, 4, 5), 8)
    sending.forget_under_way()
    assert not sending.acknowledge(_held(8, 0, 1, 2, 3), 8)
    assert sorted(sending.take()) == [4, 5, 6, 7]
    assert sending.acknowledge(_held(8, *range(8)), 8)
    assert sending.complete


def test_sending_believes_a_receiver_that_gained_and_forgot() -> None:
    sending = Sending(8)
    sending.acknowledge(b"", 8)
    sending.take()
    sending.acknowledge(_held(8, 0, 1), 8)
    sending.acknowledge(_held(8, 0, 2, 3, 4), 8)
    assert sending.take() == [1]


def test_sending_one_chunk_grants_itself() -> None:
    sending = Sending(1)
    sending.grant(1)
    assert sending.take() == [0]


# --- Pulling ------------------------------------------------------------------------------------------------


def _pulling(num_chunks: int, *held: int) -> tuple[Pulling, ChunkSet]:
    chunks = ChunkSet(num_chunks, _held(num_chunks, *held))
    return Pulling(manifest_of(bytes(num_chunks * 4096), 4096), chunks), chunks


def test_pulling_opens_a_block_and_the_next_when_half_of_it_is_here() -> None:
    pulling, held = _pulling(3 * CHUNKS_PER_BLOCK)
    assert pulling.more() == ([0], [])
    assert pulling.more() == ([], [])
    for index in range(CHUNKS_PER_BLOCK // 2):
        held.add(index)
        assert pulling.arrived(index) == ([], [])
    assert pulling.more() == ([1], [])
    assert pulling.outstanding == CHUNKS_PER_BLOCK + CHUNKS_PER_BLOCK // 2


def test_pulling_leaves_a_block_with_its_last_chunk_and_skips_whole_ones() -> None:
    pulling, held = _pulling(2 * CHUNKS_PER_BLOCK + 2, *range(CHUNKS_PER_BLOCK))
    assert pulling.more() == ([1], [])
    for index in range(CHUNKS_PER_BLOCK, 2 * CHUNKS_PER_BLOCK):
        held.add(index)
        done = pulling.arrived(index)
    assert done == ([1], [])
    assert pulling.more() == ([2], [])


def test_pulling_narrows_after_each_stall() -> None:
    pulling, held = _pulling(100)
    pulling.more()
    assert pulling.stalled() == ([0], [])
    blocks, single = pulling.more()
    assert (blocks, single) == ([], list(range(16)))
    held.add(1)
    assert pulling.arrived(1) == ([], [1])
    assert pulling.more() == ([], []), "the rest of the batch is still under way"
    for narrow in (8, 4, 2, 1, 1):
        assert pulling.stalled()[0] == []
        assert len(pulling.more()[1]) == narrow


def test_pulling_starts_over_after_a_reconnection() -> None:
    pulling, _ = _pulling(2 * CHUNKS_PER_BLOCK)
    pulling.more()
    pulling.reconnected()
    assert (pulling.outstanding, pulling.more()) == (0, ([0], []))
    assert pulling.outstanding == CHUNKS_PER_BLOCK


def test_of_a_block_held_in_part_only_what_is_missing_is_asked_for() -> None:
    """A cut at chunk 60 of 64 must not bring 60 chunks again over a slow line."""
    pulling, held = _pulling(3 * CHUNKS_PER_BLOCK)
    pulling.more()
    for index in range(CHUNKS_PER_BLOCK - 4):
        held.add(index)
        pulling.arrived(index)
    pulling.reconnected()
    assert pulling.more() == ([1], [60, 61, 62, 63])
    assert pulling.arrived(60) == ([], [60])
    assert pulling.more() == ([], []), "enough is under way"


def test_what_is_asked_for_by_name_is_asked_for_in_bounds_and_once() -> None:
    pulling, held = _pulling(CHUNKS_PER_BLOCK + 5, 0)
    asked: list[int] = []
    while not held.complete:
        blocks, single = pulling.more()
        assert len(single) <= 3 * FEW and pulling.outstanding <= CHUNKS_PER_BLOCK
        asked += single + [index for block in blocks for index in range(64, 69) if block == 1]
        for index in list(pulling.single)[:3] or [next(iter(left)) for left in pulling.open_blocks.values()]:
            held.add(index)
            pulling.arrived(index)
    assert sorted(asked) == list(range(1, CHUNKS_PER_BLOCK + 5))


def test_pulling_shrugs_at_what_it_did_not_ask_for() -> None:
    pulling, _ = _pulling(10)
    assert pulling.arrived(3) == ([], [])
