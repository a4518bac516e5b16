"""Random and mutated frames on every topic class, against a real aggregator and a real edge: counted, and no more.

A few thousand by default; ``HILUM_LONG=1`` (as ``make chaos``) sends 100,000.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fl_protocol import messages as msg
from fl_protocol.codec import MAX_FRAME_BYTES, decode, encode
from fl_protocol.errors import DecodeError
from fl_protocol.tensors import FLOAT32, Group, Manifest
from fl_protocol.topics import Kind, Topic, parse
from fl_protocol.transport import Received
from tests.brokers import Broker, Peer, mosquitto, running
from tests.e2e.echo_task import TINY
from tests.e2e.processes import Program, Programs
from tests.payloads import digest_of, manifest_of

FRAMES = 100_000 if os.environ.get("HILUM_LONG") else 3_000
BATCH = 250
"""So many are under way at once: a broker drops what waits too long, and every one is to be counted."""
GROWTH_MB = 16
SEED = 20_261_125
MARKER = "a" * 16
AT_AGGREGATOR = (Kind.STATE, Kind.EVENT, Kind.OFFER, Kind.CHUNK)
AT_EDGE = (Kind.CONTROL, Kind.ACK, Kind.ROUND)
AT_BOTH = (Kind.AGG, Kind.MODEL)
HARMLESS = (Kind.EVENT, Kind.OFFER, Kind.CHUNK)
"""Where a mutated frame may be a good one: what a stranger says well there changes nothing for the others."""


@dataclass(frozen=True)
class Frame:
    topic: str
    payload: bytes

    def fault(self) -> str:
        """How it is refused where it arrives; empty if it is a message."""
        try:
            decode(self.payload, parse(self.topic).kind)
        except DecodeError as error:
            return error.reason
        return ""

    @property
    def kind(self) -> Kind | None:
        """None if the topic is none."""
        try:
            return parse(self.topic).kind
        except DecodeError:
            return None

    def counts_at_aggregator(self) -> bool:
        """Offers and chunks of one that never joined are refused however good they are."""
        refused = bool(self.fault()) or self.kind in (Kind.OFFER, Kind.CHUNK)
        return refused and (self.kind is None or self.kind in (*AT_AGGREGATOR, *AT_BOTH))

    def counts_at_edge(self) -> bool:
        return bool(self.fault()) and self.kind in (*AT_EDGE, *AT_BOTH)


def examples() -> dict[Kind, list[bytes]]:
    """Good frames of every topic class, to be mutated."""
    payload = bytes(28)
    manifest = manifest_of(payload, tensors=TINY)
    offer = msg.Offer(1, digest_of("model 0"), 5, manifest, {"loss": 0.5})
    plan = msg.Plan(1, 8, 0.1, 3)
    instance = "f" * 16
    good: dict[Kind, list[msg.Message]] = {
        Kind.AGG: [msg.AggregatorState(True, instance)],
        Kind.ROUND: [
            msg.RoundState(msg.OPEN, 1, 2, 1, ("edge1",), digest_of("model 0"), "echo", "tiny", plan)
        ],
        Kind.MODEL: [
            Manifest((Group("model", FLOAT32, TINY),), manifest.size, manifest.chunk_bytes, manifest.leaves)
        ],
        Kind.STATE: [msg.ClientState(instance, msg.READY, 1, 5, msg.DataSummary(1, 1, 1, 0), "cpu")],
        Kind.EVENT: [
            msg.Hello(instance),
            msg.Pong(instance),
            msg.Progress(1, 0.5, 0.1),
            msg.Decline(1, "no"),
        ],
        Kind.OFFER: [offer],
        Kind.CHUNK: [msg.Chunk(0, payload)],
        Kind.CONTROL: [msg.Welcome(instance), msg.Refusal(instance, "no"), msg.Ping(instance), msg.Cancel(1)],
        Kind.ACK: [msg.Ack(b"\x01", 32, msg.ACCEPTED)],
    }
    return {kind: [encode(message) for message in messages] for kind, messages in good.items()}


def mutated(frame: bytes, rng: random.Random) -> bytes:
    """One to four bytes changed, inserted or removed, or the end cut off."""
    found = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(found) + 1)
        way = rng.randrange(4)
        if way == 0 and at < len(found):
            found[at] = rng.randrange(256)
        elif way == 1:
            found.insert(at, rng.randrange(256))
        elif way == 2:
            del found[at : at + rng.randint(1, 3)]
        elif rng.random() < 0.2:
            del found[at:]
    return bytes(found)


def noise(rng: random.Random) -> bytes:
    """Bytes of any kind; one in a thousand is larger than any frame may be."""
    if rng.random() < 0.001:
        return bytes(MAX_FRAME_BYTES + 1)
    return rng.randbytes(rng.choice((1, 2, 5, 20, 100, 2000)))


def topic_of(kind: Kind, job: str, client: str, rng: random.Random) -> str:
    digest = rng.choice((digest_of("model 0"), digest_of(str(rng.random()))))
    found = str(
        Topic(
            job,
            kind,
            client=client,
            transfer=f"1-{rng.randrange(99):032x}",
            digest=digest,
            lane=rng.randrange(9),
        )
    )
    strange = rng.random() < 0.02 and kind in AT_AGGREGATOR
    return found.replace(f"/{client}/", "/Ghost!/") if strange else found


def frames(kinds: tuple[Kind, ...], job: str, client: str, count: int, rng: random.Random) -> Iterator[Frame]:
    """So many frames that are refused, or harm nobody."""
    good = examples()
    while count:
        kind = rng.choice(kinds)
        payload = mutated(rng.choice(good[kind]), rng) if rng.random() < 0.6 else noise(rng)
        frame = Frame(topic_of(kind, job, client, rng), payload)
        if payload and (frame.fault() or kind in HARMLESS):
            count -= 1
            yield frame


@pytest.fixture
def broker_alone(tmp_path: Path) -> Iterator[Broker]:
    """One that queues enough for a batch of the largest."""
    lines = ("max_queued_messages 4000", "max_queued_bytes 67108864")
    with running(mosquitto(tmp_path / "broker", *lines)) as found:
        yield found


def resident_mb(program: Program) -> float:
    status = Path(f"/proc/{program.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found, program.told()
    return int(found[1]) / 1024


class Watcher:
    """Sends anything, and hears when all that it sent has been read on both sides."""

    def __init__(self, broker: Broker, job: str) -> None:
        base = f"fl/1/{job}"
        self.welcome, self.pong, self.state = (
            f"{base}/dn/marker/control",
            f"{base}/up/edge1/event",
            f"{base}/up/edge1/state",
        )
        self.hello, self.ping = f"{base}/up/marker/event", f"{base}/dn/edge1/control"
        self.round = f"{base}/pub/round"
        filters = [self.welcome, self.pong, self.state, self.round]
        self.peer = Peer(broker.options, "watcher", filters=filters, room=10_000)

    def __enter__(self) -> Watcher:  # noqa: PYI034 - Self needs Python 3.11
        self.peer.__enter__()
        self.peer.connected()
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.__exit__()

    def hear(self, topic: str, wanted: type[Any]) -> Any:
        """The next good message of this kind on this topic."""
        while True:
            received = self.peer.next(Received, 60.0)
            with contextlib.suppress(DecodeError):
                if received.topic == topic:
                    message = decode(received.payload, parse(topic).kind)
                    if isinstance(message, wanted):
                        return message

    def put(self, topic: str, payload: bytes) -> None:
        self.peer.transport.publish(topic, payload)

    def settle(self, edge_instance: str) -> None:
        """What is sent on one connection arrives in its order: so an answer is an answer to all before."""
        self.put(self.hello, encode(msg.Hello(MARKER)))
        self.hear(self.welcome, msg.Welcome)
        self.put(self.ping, encode(msg.Ping(edge_instance)))
        self.hear(self.pong, msg.Pong)


@pytest.mark.timeout(1200 if FRAMES > 10_000 else 120)
def test_every_frame_is_counted_and_nothing_grows(programs: Programs, broker_alone: Broker) -> None:
    programs.broker = broker_alone.options.where
    agg = programs.agg("--rounds", 2, "--min-clients", 2)
    edge = programs.edge("edge1", "--shard", "1/2")
    agg.says("client joined client=edge1")
    rng = random.Random(SEED)
    before: dict[Program, float] = {}
    counted = unusable = 0
    with Watcher(broker_alone, programs.job) as watcher:
        instance = watcher.hear(watcher.state, msg.ClientState).instance
        for number in range(FRAMES // BATCH):
            for kinds, client in (((*AT_AGGREGATOR, *AT_BOTH), "ghost"), ((*AT_EDGE, *AT_BOTH), "edge1")):
                for frame in frames(kinds, programs.job, client, BATCH // 2, rng):
                    watcher.put(frame.topic, frame.payload)
                    counted += frame.counts_at_aggregator()
                    unusable += frame.counts_at_edge()
            watcher.settle(instance)
            if number == 1:
                before = {program: resident_mb(program) for program in (agg, edge)}
    after = {program: resident_mb(program) for program in (agg, edge)}
    programs.edge("edge2", "--shard", "2/2")
    assert agg.wait() == 0, agg.told()
    assert edge.wait() == 0, edge.told()
    assert (agg.err, edge.err) == ("", "")
    refused = [each["count"] for record in programs.rounds() for each in record["rejected"]]
    assert sum(refused) == counted
    assert f"{unusable} unusable messages have arrived" in edge.out, edge.told()
    for program, grown in after.items():
        assert grown < before[program] + GROWTH_MB, f"{program.name}: from {before[program]} to {grown} MB"


def test_chunks_of_a_model_that_are_none(programs: Programs, broker_alone: Broker) -> None:
    """Both edges pull a model whose blocks somebody floods with nonsense meanwhile."""
    programs.broker = broker_alone.options.where
    rng = random.Random(SEED)
    chunk = encode(msg.Chunk(0, rng.randbytes(1000)))
    with Watcher(broker_alone, programs.job) as watcher:
        agg = programs.agg("--rounds", 2, "--min-clients", 2, "--model", "mb-5")
        edges = [programs.edge(f"edge{k}", "--shard", f"{k}/2") for k in (1, 2)]
        for number in (1, 2):
            while (
                state := watcher.hear(watcher.round, msg.RoundState)
            ).round_number < number or state.base is None:
                pass
            for index in range(200):
                topic = Topic(programs.job, Kind.BLOCK, digest=state.base, block=0, index=index % 25)
                frame = Frame(str(topic), noise(rng) if rng.random() < 0.5 else mutated(chunk, rng))
                if frame.fault():
                    watcher.put(frame.topic, frame.payload)
        assert agg.wait() == 0, agg.told()
        assert [edge.wait() for edge in edges] == [0, 0], edges[0].told()
    assert [record["accepted"] for record in programs.rounds()] == [["edge1", "edge2"]] * 2
