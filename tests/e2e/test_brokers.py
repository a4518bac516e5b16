"""A 5 MB model goes both ways on every broker that Hilum may meet, and ends in the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Broker, mosquitto, nats, shipped_mosquitto
from tests.e2e.processes import Programs

BROKERS: dict[str, Callable[[Path], Broker]] = {
    "as shipped": shipped_mosquitto,
    "queues 20 messages": lambda folder: mosquitto(folder, "max_queued_messages 20"),
    "queues 20, sends 2": lambda folder: mosquitto(
        folder, "max_queued_messages 20", "max_inflight_messages 2"
    ),
    "packets of 128 KiB": lambda folder: mosquitto(folder, "max_packet_size 131072"),
    "embedded, MQTT 3.1.1": nats,
}
EXPECTED: dict[str, list[str]] = {}


@pytest.mark.parametrize("kind", BROKERS)
def test_five_megabytes_go_both_ways(kind: str, tmp_path: Path) -> None:
    broker = BROKERS[kind](tmp_path / "broker")
    broker.start()
    programs = Programs(tmp_path, broker.options.where, "five")
    try:
        agg = programs.agg("--rounds", "2", "--min-clients", "3", "--model", "mb-5")
        edges = [programs.edge(f"edge{k}", "--shard", f"{k}/3") for k in (1, 2, 3)]
        assert agg.wait(90) == 0, agg.told()
        assert [edge.wait() for edge in edges] == [0, 0, 0], edges[0].told()
        records = programs.rounds()
        assert [(r["outcome"], r["accepted"]) for r in records] == [
            ("closed", ["edge1", "edge2", "edge3"])
        ] * 2
        digests = [record["model_sha256"] for record in records]
        assert digests == EXPECTED.setdefault("all", digests), "the broker must not change the result"
    finally:
        programs.close()
        broker.stop()
