"""Pulling a model over a broker that drops, repeats, reorders and lies."""

from __future__ import annotations

import random

import pytest

from edge_client import events as ev
from edge_client.download import MAX_BAD_LEAVES, STALL_S, Download, Stage
from fl_protocol.tensors import LEAF_BYTES, Manifest
from fl_protocol.topics import Kind, Topic, parse
from tests.unit.edge_client.sessions import manifest_of, of, payload_of

PAYLOAD = payload_of(3 * LEAF_BYTES + 1000, 3)
MANIFEST = manifest_of(PAYLOAD, chunk_bytes=4096)  # 193 chunks in 4 blocks


class Shelf:
    """A broker that retains one model, and a disk."""

    def __init__(self, manifest: Manifest = MANIFEST, payload: bytes = PAYLOAD) -> None:
        self.manifest, self.payload = manifest, payload
        self.download = Download("default", manifest.digest)
        self.open: set[str] = set()
        self.disk = bytearray(len(payload))
        self.inbox: list[int] = []
        self.sealed = False
        self.pulled = 0

    def perform(self, effects: list[ev.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, ev.Subscribe):
                self.open.update(effect.topics)
                self.inbox += [i for topic in effect.topics for i in self.retained(topic)]
            elif isinstance(effect, ev.Unsubscribe):
                assert self.open.issuperset(effect.topics)
                self.open.difference_update(effect.topics)
            elif isinstance(effect, ev.WriteLeaf):
                self.disk[effect.offset : effect.offset + len(effect.data)] = effect.data
            elif isinstance(effect, ev.SealModel):
                self.sealed = True

    def retained(self, topic: str) -> list[int]:
        if topic.endswith("+"):
            block = int(topic.split("/")[-2])
            return [i for i in range(self.manifest.num_chunks) if i // 64 == block]
        found = parse(topic)
        assert found.kind is Kind.BLOCK
        return [found.index]

    def data(self, index: int) -> bytes:
        at, length = self.manifest.chunk_span(index)
        return self.payload[at : at + length]

    def deliver(self, index: int, now: float, data: bytes | None = None) -> None:
        self.pulled += 1
        self.perform(self.download.chunk(index, self.data(index) if data is None else data, now))

    def begin(self, held: tuple[int, ...] = ()) -> None:
        self.perform(self.download.connected(0.0))
        assert of(ev.OpenPart, self.download.manifest(self.manifest))
        self.perform(self.download.opened(held, 0.0))


def test_block_by_block_in_any_order() -> None:
    shelf, rng = Shelf(), random.Random(1)
    shelf.begin()
    while shelf.inbox:
        assert len(shelf.inbox) <= 128, "never more than two blocks at once"
        shelf.deliver(shelf.inbox.pop(rng.randrange(len(shelf.inbox))), 0.0)
    assert shelf.sealed
    assert bytes(shelf.disk) == PAYLOAD
    assert (shelf.open, shelf.pulled) == (set(), MANIFEST.num_chunks)
    assert shelf.download.progress == (MANIFEST.num_chunks, MANIFEST.num_chunks)
    assert shelf.download.deadline == float("inf")


def test_what_is_held_already_is_not_pulled() -> None:
    shelf = Shelf()
    shelf.begin(held=(0, 2))
    while shelf.inbox:
        shelf.deliver(shelf.inbox.pop(), 0.0)
    assert shelf.sealed
    assert shelf.pulled == MANIFEST.num_chunks - 2 * 64
    assert bytes(shelf.disk[LEAF_BYTES : 2 * LEAF_BYTES]) == PAYLOAD[LEAF_BYTES : 2 * LEAF_BYTES]
    whole = Shelf()
    whole.begin(held=(0, 1, 2, 3))
    assert (whole.sealed, whole.inbox) == (True, [])


@pytest.mark.parametrize("loss", [0.1, 0.6])
def test_dropped_chunks_are_pulled_in_smaller_steps(loss: float) -> None:
    shelf, rng, now = Shelf(), random.Random(2), 0.0
    shelf.begin()
    for _ in range(3000):
        if shelf.sealed:
            break
        if not shelf.inbox:
            assert shelf.download.deadline < float("inf")
            now = max(now, shelf.download.deadline)
            shelf.perform(shelf.download.tick(now))
            assert shelf.download.deadline > now
            continue
        index = shelf.inbox.pop(0)
        if rng.random() > loss:
            shelf.deliver(index, now)
    assert shelf.sealed
    assert bytes(shelf.disk) == PAYLOAD


def test_it_stalls_only_after_a_silence() -> None:
    shelf = Shelf()
    shelf.begin()
    assert shelf.download.tick(4.9) == []
    assert of(ev.Subscribe, shelf.download.tick(5.0))
    assert shelf.download.tick(9.0) == []


def test_a_slow_link_is_given_four_times_its_longest_gap() -> None:
    shelf = Shelf()
    shelf.begin()
    for index, now in ((0, 3.0), (1, 6.0)):
        shelf.deliver(index, now)
    assert shelf.download.tick(6.0 + 11.9) == []
    assert shelf.download.tick(6.0 + 12.0)


def test_a_leaf_that_is_wrong_once_is_pulled_again() -> None:
    shelf, lied = Shelf(), False
    shelf.begin()
    while shelf.inbox and not shelf.sealed:
        index = shelf.inbox.pop(0)
        lie = index == 70 and not lied
        lied = lied or lie
        shelf.deliver(index, 0.0, bytes(4096) if lie else None)
    assert shelf.sealed
    assert bytes(shelf.disk) == PAYLOAD
    assert shelf.download.bad_leaves == 1


def test_a_leaf_that_stays_wrong_is_given_up() -> None:
    shelf = Shelf()
    shelf.begin()
    while shelf.inbox:
        index = shelf.inbox.pop(0)
        shelf.deliver(index, 0.0, bytes(4096) if index == 70 else None)
    assert shelf.download.stage is Stage.BROKEN
    assert shelf.download.bad_leaves == MAX_BAD_LEAVES
    assert shelf.open == set()
    assert not shelf.sealed


def test_a_cut_leaves_everything_and_goes_on_where_it_was() -> None:
    shelf = Shelf()
    shelf.begin()
    for _ in range(80):
        shelf.deliver(shelf.inbox.pop(0), 0.0)
    shelf.perform(shelf.download.disconnected())
    assert shelf.open == set()
    assert shelf.download.deadline == float("inf")
    shelf.inbox.clear()
    shelf.perform(shelf.download.connected(100.0))
    assert shelf.download.deadline > 100.0
    while shelf.inbox:
        shelf.deliver(shelf.inbox.pop(0), 100.0)
    assert shelf.sealed
    assert bytes(shelf.disk) == PAYLOAD


def test_events_out_of_turn_change_nothing() -> None:
    download = Download("default", MANIFEST.digest)
    assert download.chunk(0, b"x", 0.0) == []
    assert download.opened((), 0.0) == []
    assert download.abandon() == []
    assert download.progress == (0, 0)
    assert download.tick(1e9) == []
    download.manifest(MANIFEST)
    assert download.manifest(MANIFEST) == []


def test_a_manifest_that_does_not_come_is_asked_for_again() -> None:
    """Brokers drop messages without a word, the manifest too: subscribing makes them say again what they retain."""
    download = Download("default", MANIFEST.digest)
    download.connected(0.0)
    topic = str(Topic("default", Kind.MODEL, digest=MANIFEST.digest))
    assert download.tick(download.deadline - 0.1) == []
    first = download.deadline
    assert download.tick(first) == [ev.Subscribe((topic,))]
    assert download.deadline > first + STALL_S, "less and less often"
    download.tick(download.deadline)
    assert download.manifest(MANIFEST)[0] == ev.Unsubscribe((topic,))
    assert download.abandon() == []


def test_an_unanswered_question_is_taken_back() -> None:
    download = Download("default", MANIFEST.digest)
    download.connected(0.0)
    download.tick(download.deadline)
    assert download.abandon() == [
        ev.Unsubscribe((str(Topic("default", Kind.MODEL, digest=MANIFEST.digest)),))
    ]
    assert download.abandon() == []
