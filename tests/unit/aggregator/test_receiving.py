"""The shell around the intake, with a real spool and a real federation: leaves on disk, answers, no leak."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from aggregator import events as ev
from aggregator import notices as seen
from aggregator.cohort import Share
from aggregator.federation import Federation
from aggregator.intake import Intake
from aggregator.phase import Phase
from aggregator.receiving import Receiving
from aggregator.spool import Spool
from fl_protocol import messages as msg
from fl_protocol.codec import decode
from fl_protocol.tensors import LEAF_BYTES, TensorSpec
from fl_protocol.topics import Kind, Topic, parse
from fl_protocol.transfer import WINDOW, ChunkSet
from tests.federations import BASE, kinds, rule
from tests.payloads import chunks_of, floats, offer_of

CHUNK = LEAF_BYTES // 2
SIZE = 2 * LEAF_BYTES


@dataclass
class Aggregator:
    """Receiving and a federation in which a, b and c are asked for round 1; a little of the server's loop."""

    folder: Path
    slots: int = 8
    acks: list[tuple[str, msg.Ack]] = field(default_factory=list)
    effects: list[ev.Effect] = field(default_factory=list)
    shown: list[seen.Event] = field(default_factory=list)
    events: list[ev.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.spool = Spool(self.folder)
        self.federation = Federation(rule(min_clients=3, quorum=Share(count=3)), BASE)
        self.federation.start(0.0)
        for client in "abc":
            self.federation.handle(ev.ClientReady(client, 100), 0.0)
        intake = Intake((TensorSpec("w", (SIZE // 4,)),), self.slots)
        self.receiving = Receiving(
            "job", intake, self.spool, self.federation, self._publish, self.events.append, self
        )  # fmt: skip

    def _publish(self, topic: str, payload: bytes) -> None:
        where, ack = parse(topic), decode(payload, Kind.ACK)
        assert where.kind is Kind.ACK
        assert isinstance(ack, msg.Ack)
        self.acks.append((where.client, ack))

    def show(self, event: seen.Event) -> None:
        self.shown.append(event)

    def close(self) -> None:
        self.spool.close_all()

    def drain(self) -> list[ev.Event]:
        """Let the federation hear what happened, and answer."""
        self.receiving.settle()
        happened = list(self.events)
        while self.events:
            for effect in self.federation.handle(self.events.pop(0), 1.0):
                self.effects.append(effect)
                if isinstance(effect, ev.Answer):
                    self.receiving.answer(effect)
        return happened

    def offer(self, edge: Edge) -> list[ev.Event]:
        self.receiving.offer(Topic("job", Kind.OFFER, client=edge.name, transfer=edge.transfer), edge.offer)
        return self.drain()

    def send(self, edge: Edge, *indexes: int) -> list[ev.Event]:
        topic = Topic("job", Kind.CHUNK, client=edge.name, transfer=edge.transfer)
        happened: list[ev.Event] = []
        for index in indexes:
            self.receiving.chunk(topic, msg.Chunk(index, edge.chunks[index]))
            happened += self.drain()
        return happened

    def verdicts(self, client: str) -> list[str | None]:
        return [ack.verdict for name, ack in self.acks if name == client and ack.verdict]

    def held(self, client: str) -> list[int]:
        """Chunks missing, by the last acknowledgement."""
        last = [ack for name, ack in self.acks if name == client][-1]
        return ChunkSet(SIZE // CHUNK, last.held).missing()


class Edge:
    """One client's update: four chunks, two leaves."""

    def __init__(self, name: str, seed: int = 0, change: Callable[[bytearray], None] | None = None) -> None:
        payload = bytearray(floats(SIZE // 4, seed).tobytes())
        if change:
            change(payload)
        self.name, self.payload = name, bytes(payload)
        self.transfer, self.offer = offer_of(self.payload, base=BASE, chunk_bytes=CHUNK)
        self.chunks = chunks_of(self.payload, self.offer.manifest)


def poisoned(payload: bytearray) -> None:
    payload[-4:] = struct.pack("<f", float("nan"))


@pytest.fixture
def agg(tmp_path: Path) -> Aggregator:
    return Aggregator(tmp_path / "spool")


def test_an_update_from_offer_to_verdict(agg: Aggregator) -> None:
    edge = Edge("a")
    assert agg.offer(edge) == []
    assert agg.acks == [("a", msg.Ack(b"\0", WINDOW))]
    happened = agg.send(edge, 2, 0, 1, 3)
    assert [type(event) for event in happened] == [ev.UpdateArrived]
    assert kinds(agg.effects) == ["KeepUpdate", "Answer"]
    assert agg.verdicts("a") == [msg.ACCEPTED]
    assert agg.spool.path(1, "a", edge.transfer).read_bytes() == edge.payload
    assert [event for event in agg.shown if isinstance(event, seen.UploadAdvanced)]


def test_everything_twice_is_everything_once(agg: Aggregator) -> None:
    edge = Edge("a")
    for index in range(4):
        agg.offer(edge)
        agg.send(edge, index, index)
    agg.offer(edge)
    agg.send(edge, *range(4))
    assert kinds(agg.effects) == ["KeepUpdate", "Answer"]
    assert agg.verdicts("a") == [msg.ACCEPTED, msg.ACCEPTED], "the second answers the last offer"


def test_bytes_are_on_disk_before_the_update_counts(agg: Aggregator, monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    fdatasync = os.fdatasync

    def forced(fd: int) -> None:
        log.append("forced")
        fdatasync(fd)

    def happened(event: ev.Event) -> None:
        log.append(type(event).__name__)

    monkeypatch.setattr(os, "fdatasync", forced)
    monkeypatch.setattr(agg.receiving, "_happened", happened)
    edge = Edge("a")
    agg.offer(edge)
    agg.send(edge, *range(4))
    assert log == ["forced", "UpdateArrived"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"round_number": 2}, "bad_transfer"),
        ({"base": "0" * 64}, "wrong_base"),
        ({"num_examples": 0}, "bad_num_examples"),
        ({"num_examples": 101}, "bad_num_examples"),
    ],
)
def test_unacceptable_offers_are_refused_by_name_before_a_byte_is_kept(
    agg: Aggregator, change: dict[str, object], reason: str
) -> None:
    edge = Edge("a")
    edge.offer = replace(edge.offer, **change)  # type: ignore[arg-type]
    agg.offer(edge)
    agg.send(edge, *range(4))
    assert agg.effects[0] == ev.Answer("a", edge.transfer, msg.REJECTED, reason)
    assert agg.acks == [("a", msg.Ack(b"", 0, msg.REJECTED, reason))]
    assert list(agg.folder.iterdir()) == []


def test_wrong_shapes_are_refused(agg: Aggregator) -> None:
    edge = Edge("a")
    edge.transfer, edge.offer = offer_of(
        edge.payload, base=BASE, chunk_bytes=CHUNK, tensors=(TensorSpec("w", (2, SIZE // 8)),)
    )
    agg.offer(edge)
    assert agg.effects[0] == ev.Answer("a", edge.transfer, msg.REJECTED, "wrong_shapes")


def test_one_that_has_not_joined_is_heard_when_it_has(agg: Aggregator) -> None:
    """One that was invited and cut off has sent too soon; a stranger has sent what it should not."""
    agg.federation.handle(ev.ClientGone("a"), 0.0)
    edge = Edge("a")
    assert agg.offer(edge) == []
    assert agg.offer(Edge("z")) == [ev.FrameRefused("z", "not_joined")]
    assert agg.acks == []
    agg.federation.handle(ev.ClientReady("a", 100), 0.0)
    agg.offer(edge)
    agg.send(edge, *range(4))
    assert agg.verdicts("a") == [msg.ACCEPTED]


def test_poison_is_refused_by_name_and_not_written(agg: Aggregator) -> None:
    edge = Edge("a", change=poisoned)
    agg.offer(edge)
    happened = agg.send(edge, *range(4))
    assert happened == [ev.UpdateRefused("a", edge.transfer, "not_finite", round_number=1)]
    assert agg.verdicts("a") == [msg.REJECTED]
    assert agg.spool.path(1, "a", edge.transfer).read_bytes() == edge.payload[:LEAF_BYTES]
    assert agg.federation.round is not None
    assert agg.federation.round.waited_for == {"b", "c"}


def test_poison_in_the_last_leaf_does_not_cost_others_their_credit(tmp_path: Path) -> None:
    agg = Aggregator(tmp_path / "spool", slots=1)
    bad, good = Edge("a", change=poisoned), Edge("b", seed=1)
    agg.offer(bad)
    agg.offer(good)
    assert agg.acks[-1] == ("b", msg.Ack(b"\0", 0))
    agg.send(bad, *range(4))
    assert ("b", msg.Ack(b"\0", WINDOW)) in agg.acks
    agg.close()


def _complete(agg: Aggregator, edge: Edge) -> None:
    """The last chunk has come, and nobody has gone to the disk yet."""
    agg.receiving.offer(Topic("job", Kind.OFFER, client=edge.name, transfer=edge.transfer), edge.offer)
    topic = Topic("job", Kind.CHUNK, client=edge.name, transfer=edge.transfer)
    for index in range(4):
        agg.receiving.chunk(topic, msg.Chunk(index, edge.chunks[index]))


def test_what_is_complete_together_is_settled_together(
    agg: Aggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for edge in (Edge("a"), Edge("b", seed=1)):
        _complete(agg, edge)
    assert (agg.receiving.unsettled, agg.events, agg.effects) == (True, [], [])
    forced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", forced.append)
    agg.drain()
    assert len(set(forced)) == 2
    assert not agg.receiving.unsettled
    assert kinds(agg.effects) == ["KeepUpdate", "Answer"] * 2


def test_of_two_the_one_that_the_disk_takes_counts(agg: Aggregator, monkeypatch: pytest.MonkeyPatch) -> None:
    _complete(agg, Edge("a"))
    _complete(agg, Edge("b", seed=1))
    fdatasync, broken = os.fdatasync, agg.spool._open["a", Edge("a").transfer]

    def force(fd: int) -> None:
        if fd == broken:
            raise OSError(errno.EIO, "Input/output error")
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", force)
    agg.drain()
    assert (agg.verdicts("a"), agg.verdicts("b")) == ([], [msg.ACCEPTED])


def test_a_client_that_leaves_after_its_last_chunk_counts(agg: Aggregator) -> None:
    _complete(agg, Edge("a"))
    agg.receiving.gone("a")
    assert [type(event) for event in agg.drain()] == [ev.UpdateArrived]


def test_an_answer_before_the_disk_is_the_last_word(agg: Aggregator) -> None:
    edge = Edge("a")
    _complete(agg, edge)
    agg.receiving.answer(ev.Answer("a", edge.transfer, msg.LATE))
    assert agg.drain() == []
    assert agg.verdicts("a") == [msg.LATE]


def test_a_full_disk_costs_time_and_no_update(agg: Aggregator, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    edge, other = Edge("a"), Edge("b", seed=1)
    agg.offer(edge)
    agg.offer(other)
    agg.send(edge, 0, 1)
    with monkeypatch.context() as scarce:
        scarce.setattr(os, "pwrite", full)
        assert agg.send(edge, 2, 3) == []
    warnings = [str(event) for event in agg.shown if isinstance(event, seen.Warned)]
    assert len(warnings) == 1
    assert "make room in" in warnings[0]
    assert agg.verdicts("a") == []
    assert agg.acks[-1][0] == "b", "no acknowledgement says that the lost leaf is held"
    agg.offer(edge)
    assert agg.held("a") == [2, 3]
    agg.send(edge, 2, 3)
    assert agg.verdicts("a") == [msg.ACCEPTED]
    agg.close()


def test_a_disk_that_fails_at_the_last_moment_costs_time_and_no_update(
    agg: Aggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    edge = Edge("a")
    agg.offer(edge)
    with monkeypatch.context() as faulty:
        faulty.setattr(os, "fdatasync", broken)
        assert agg.send(edge, *range(4)) == []
    assert agg.effects == []
    happened = agg.offer(edge)
    assert [type(event) for event in happened] == [ev.UpdateArrived], (
        "all of it is there: only the force is missing"
    )
    assert agg.verdicts("a") == [msg.ACCEPTED]


def test_a_client_that_leaves_goes_on_where_it_was(agg: Aggregator) -> None:
    edge = Edge("a")
    agg.offer(edge)
    agg.send(edge, 0, 1, 2)
    agg.receiving.gone("a")
    agg.federation.handle(ev.ClientGone("a"), 1.0)
    agg.send(edge, 3)
    agg.federation.handle(ev.ClientReady("a", 100), 2.0)
    agg.offer(edge)
    assert agg.held("a") == [2, 3], "whole leaves are kept, half ones are not"
    agg.send(edge, 2, 3)
    assert agg.verdicts("a") == [msg.ACCEPTED]


def test_a_restart_takes_up_what_is_in_the_spool(agg: Aggregator) -> None:
    edge, whole = Edge("a"), Edge("b", seed=1)
    for each in (edge, whole):
        agg.offer(each)
        agg.send(each, 0, 1)
    agg.spool.write("b", whole.transfer, LEAF_BYTES, whole.payload[LEAF_BYTES:])
    agg.close()
    later = Aggregator(agg.folder)
    later.offer(edge)
    assert later.held("a") == [2, 3]
    assert [type(event) for event in later.offer(whole)] == [ev.UpdateArrived]
    later.send(edge, 2, 3)
    assert (later.verdicts("a"), later.verdicts("b")) == ([msg.ACCEPTED], [msg.ACCEPTED])
    assert later.spool.path(1, "a", edge.transfer).read_bytes() == edge.payload
    later.close()


def test_offers_without_end_leave_no_file_open(agg: Aggregator) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for seed in range(20):
        agg.offer(Edge("a", seed=seed))
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 1
    agg.receiving.gone("a")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_all_three_close_the_round(agg: Aggregator) -> None:
    for seed, client in enumerate("cab"):
        edge = Edge(client, seed)
        agg.offer(edge)
        agg.send(edge, *range(4))
    assert kinds(agg.effects)[-1] == "Aggregate"
    assert agg.federation.phase is Phase.AGGREGATING
    late = Edge("a", seed=9)
    agg.offer(late)
    assert agg.effects[-1] == ev.Answer("a", late.transfer, msg.LATE, msg.LATE)


def test_the_time_of_an_upload_is_ours_to_say(agg: Aggregator) -> None:
    edge = Edge("a")
    edge.offer = replace(edge.offer, metrics={"upload_s": 1e6, "train_s": 2.0})
    agg.offer(edge)
    happened = agg.send(edge, *range(len(edge.chunks)))
    (arrived,) = [event for event in happened if isinstance(event, ev.UpdateArrived)]
    assert arrived.update.metrics["train_s"] == 2.0
    assert 0.0 <= arrived.update.metrics["upload_s"] < 1000.0
