"""What Hilum asks of a broker, asked of both kinds: mosquitto (MQTT 5) and nats-server (MQTT 3.1.1)."""

from __future__ import annotations

import hashlib
import time

from fl_protocol import topics
from fl_protocol.network import Connected, Received, Will
from fl_protocol.tensors import MAX_CHUNK_BYTES
from fl_protocol.transport import probe
from tests.brokers import Broker, Peer, until

JOB = "lung"
DIGEST = hashlib.sha256(b"model").hexdigest()
AGG = f"fl/1/{JOB}/pub/agg"
CHUNKS = {i: bytes([i]) * MAX_CHUNK_BYTES for i in range(20)}


def test_the_newest_version_that_the_broker_speaks(broker: Broker) -> None:
    announced = probe(broker.options)
    assert announced == (Connected("5", 1048576) if broker.kind == "mosquitto" else Connected("3.1.1", None))


def test_retained_is_found_by_who_comes_later_and_cleared(broker: Broker, sender: Peer) -> None:
    sender.transport.publish(AGG, b"here", retain=True)
    sender.settle()
    with Peer(broker.options, "later", filters=[AGG]) as later:
        later.connected()
        assert later.next(Received) == Received(AGG, b"here", retained=True)
        sender.transport.publish(AGG, b"", retain=True)
        assert later.next(Received) == Received(AGG, b"", retained=False)
    with Peer(broker.options, "last", filters=[AGG, "end"]) as last:
        last.connected()
        sender.transport.publish("end", b"")
        assert [message.topic for message in last.receive_until("end")] == ["end"]


def test_every_filter_of_ours_finds_what_it_should_and_nothing_else(broker: Broker, sender: Peer) -> None:
    base = f"fl/1/{JOB}"
    client = [f"{base}/pub/agg", f"{base}/pub/round", f"{base}/pub/model/{DIGEST}", f"{base}/dn/a/control",
              f"{base}/dn/a/ack/t1"]  # fmt: skip
    aggregator = [f"{base}/up/a/state", f"{base}/up/b/event", f"{base}/up/a/offer/t1", f"{base}/up/b/chunk/t1/0",
                  f"{base}/pub/agg", f"{base}/dn/{topics.AGGREGATOR}/control"]  # fmt: skip
    watcher = [f"{base}/pub/agg", f"{base}/pub/round", f"{base}/up/a/state"]
    wanted = {
        "client": (topics.client_filters(JOB, "a"), client),
        "aggregator": (topics.aggregator_filters(JOB), aggregator),
        "watcher": (topics.watcher_filters(JOB), watcher),
        "anyjob": (topics.watcher_filters("+"), [*watcher, "fl/1/other/pub/agg"]),
        "manifest": ([topics.manifest_filter(JOB)], [f"{base}/pub/model/{DIGEST}"]),
        "block": ([topics.block_filter(JOB, DIGEST, 1)], [f"{base}/pub/block/{DIGEST}/1/0"]),
    }
    noise = [
        f"{base}/pub/block/{DIGEST}/0/0",
        f"{base}/dn/b/control",
        "fl/1/other/pub/agg",
        f"{base}/dn/b/ack/t9",
    ]
    everything = sorted({topic for _, expected in wanted.values() for topic in expected} | set(noise))
    peers = {
        name: Peer(broker.options, name, filters=[*filters, "end"]) for name, (filters, _) in wanted.items()
    }
    try:
        for peer in peers.values():
            peer.transport.start()
            peer.connected()
        for topic in everything:
            sender.transport.publish(topic, topic.encode())
        for name, (_, expected) in wanted.items():
            assert peers[name].receive(len(expected)) == {topic: topic.encode() for topic in expected}, name
        sender.transport.publish("end", b"")
        for name, peer in peers.items():
            assert [message.topic for message in peer.receive_until("end")] == ["end"], name
    finally:
        for peer in peers.values():
            peer.transport.close(timeout_s=1.0)


def test_a_block_is_pulled_by_wildcard_and_let_go(broker: Broker, sender: Peer) -> None:
    for block in (0, 1):
        for index, chunk in CHUNKS.items():
            sender.transport.publish(
                f"fl/1/{JOB}/pub/block/{DIGEST}/{block}/{index}",
                chunk[: 1000 + block],
                retain=True,
                bulk=True,
            )
    until(lambda: sender.transport.backlog() == 0, "both blocks are stored")
    with Peer(broker.options, "edge") as edge:
        edge.connected()
        for block in (0, 1):
            wanted = topics.block_filter(JOB, DIGEST, block)
            edge.transport.subscribe([wanted])
            got = edge.receive(len(CHUNKS))
            edge.transport.unsubscribe([wanted])
            assert got == {
                f"fl/1/{JOB}/pub/block/{DIGEST}/{block}/{i}": c[: 1000 + block] for i, c in CHUNKS.items()
            }


def test_five_megabytes_in_chunks_both_ways(broker: Broker, sender: Peer) -> None:
    with Peer(broker.options, "edge", filters=["down/+"]) as edge:
        edge.connected()
        sender.transport.subscribe(["up/+"])
        sender.settle()
        for i, chunk in CHUNKS.items():
            sender.transport.publish(f"down/{i}", lambda chunk=chunk: chunk, bulk=True)  # type: ignore[misc]
            edge.transport.publish(f"up/{i}", chunk, bulk=True)
        assert edge.receive(len(CHUNKS)) == {f"down/{i}": chunk for i, chunk in CHUNKS.items()}
        assert sender.receive(len(CHUNKS)) == {f"up/{i}": chunk for i, chunk in CHUNKS.items()}


def test_order_is_kept_within_a_lane(broker: Broker, sender: Peer) -> None:
    with Peer(broker.options, "edge", filters=["n/+"]) as edge:
        edge.connected()
        for i in range(200):
            sender.transport.publish(f"n/{i}", b"x")
        assert list(edge.receive(200)) == [f"n/{i}" for i in range(200)]


def test_the_last_will_speaks_for_the_dead_and_only_for_them(broker: Broker) -> None:
    with Peer(broker.options, "watcher", filters=[AGG, "orderly"]) as watcher:
        watcher.connected()
        crashed = Peer(broker.options, "crashed", Will(AGG, b"gone"))
        crashed.transport.start()
        crashed.connected()
        die(crashed)
        assert watcher.next(Received).payload == b"gone"
        with Peer(broker.options, "polite", Will(AGG, b"gone again")) as polite:
            polite.connected()
            assert polite.transport.close([("orderly", b"bye", True)])
        assert watcher.next(Received) == Received("orderly", b"bye", retained=False)
        with Peer(broker.options, "end") as end:
            end.connected()
            end.transport.publish("orderly", b"end")
            assert watcher.next(Received).payload == b"end"
    with Peer(broker.options, "late", filters=[AGG]) as late:
        late.connected()
        assert late.next(Received) == Received(AGG, b"gone", retained=True)


def die(peer: Peer) -> None:
    """Hang up as a killed process does: the thread ends, nothing is said."""
    transport = peer.transport
    transport._leave = lambda link: True  # type: ignore[method-assign]
    transport.close(timeout_s=1.0)


def test_a_farewell_flushes_what_waits_even_with_a_full_inbox(broker: Broker, sender: Peer) -> None:
    with Peer(broker.options, "full", filters=["flood/+"], room=5) as full:
        full.connected()
        for i in range(30):
            sender.transport.publish(f"flood/{i}", b"x" * 1000)
        until(full.events.full, "the inbox is full and nobody reads it")
        sender.transport.subscribe(["last", "farewell"])
        sender.settle()
        full.transport.publish("last", b"1")
        assert full.transport.close([("farewell", b"2", False)])
    assert sender.receive(2) == {"last": b"1", "farewell": b"2"}


def test_a_slow_owner_holds_the_flow_and_keeps_the_connection(broker: Broker, sender: Peer) -> None:
    with Peer(broker.options, "slow", filters=["n/+"], room=2) as slow:
        slow.connected()
        for i in range(60):
            sender.transport.publish(f"n/{i}", b"x" * 100_000, bulk=True)
        got = []
        for _ in range(60):
            event = slow.events.get(timeout=15)
            assert isinstance(event, Received), event
            got.append(event.topic)
            time.sleep(0.01)
        assert got == [f"n/{i}" for i in range(60)]


def test_urgent_messages_overtake_bulk(broker: Broker, sender: Peer) -> None:
    with Peer(broker.options, "edge", filters=["bulk/+", "urgent"]) as edge:
        edge.connected()
        for i in range(100):
            sender.transport.publish(f"bulk/{i}", bytes(100_000), bulk=True)
        sender.transport.publish("urgent", b"")
        assert len(edge.receive_until("urgent")) < 80
