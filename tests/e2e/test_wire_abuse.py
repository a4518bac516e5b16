"""An evil peer on an open broker: everything it sends is refused by name and counted, and the run ends as without it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from fl_protocol import messages as msg
from fl_protocol.codec import encode
from fl_protocol.tensors import FLOAT32, LEAF_BYTES, Group, Manifest, TensorSpec
from fl_protocol.topics import Kind
from tests.brokers import Broker
from tests.e2e.echo_task import TINY
from tests.e2e.peer import Peer
from tests.e2e.processes import Program, Programs
from tests.payloads import digest_of, manifest_of

ROUNDS = 2
FLOOD = 20_000
FLOOD_MB = 24
"""How much memory a flood may cost: two queues of 64 frames, a table of 1000 refusals, and Python's own ways."""


def counts(record: dict[str, Any], client_id: str) -> dict[str, int]:
    """Refusals of one client in a round's record, by reason."""
    return {each["reason"]: each["count"] for each in record["rejected"] if each["client_id"] == client_id}


@dataclass
class Federation:
    """An aggregator, and two edges that train when ``gate`` is opened."""

    programs: Programs
    agg: Program
    edges: list[Program]
    gate: Path

    def end(self) -> list[dict[str, Any]]:
        """Let the edges train; all end well; the records."""
        self.gate.touch()
        assert self.agg.wait() == 0, self.agg.told()
        assert [edge.wait() for edge in self.edges] == [0, 0], self.edges[0].told()
        assert self.agg.err == "", self.agg.err
        return self.programs.rounds()


def begin(programs: Programs, rounds: int = ROUNDS, min_clients: int = 2) -> Federation:
    gate = programs.folder / "gate"
    agg = programs.agg("--rounds", rounds, "--min-clients", min_clients)
    edges = [programs.edge(f"edge{k}", "--shard", f"{k}/2", env={"ECHO_GATE": str(gate)}) for k in (1, 2)]
    return Federation(programs, agg, edges, gate)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> list[str]:
    """The models of every round without an evil peer."""
    programs = Programs(tmp_path_factory.mktemp("undisturbed"), broker.options.where, "undisturbed")
    try:
        return [record["model_sha256"] for record in begin(programs).end()]
    finally:
        programs.close()


@pytest.fixture
def peers(programs: Programs, broker: Broker) -> Iterator[dict[str, Peer]]:
    """Evil peers by name: made when asked for, closed in the end."""

    class Peers(dict[str, Peer]):
        def __missing__(self, name: str) -> Peer:
            self[name] = Peer(broker.options.where, programs.job, name)
            return self[name]

    made = Peers()
    yield made
    for peer in made.values():
        peer.close()


def update(state: msg.RoundState, values: float = 0.5, num_examples: int = 5) -> tuple[msg.Offer, bytes]:
    """A valid offer for an open round, and its payload."""
    payload = np.full(7, values, "<f4").tobytes()
    assert state.base is not None
    return msg.Offer(
        state.round_number, state.base, num_examples, manifest_of(payload, tensors=TINY)
    ), payload


def huge_manifest() -> Manifest:
    """300 MB, consistent in itself."""
    size = 300_000_000
    leaves = bytes(32) * -(-size // LEAF_BYTES)
    return Manifest((Group("delta", FLOAT32, (TensorSpec("a", (size // 4,)),)),), size, LEAF_BYTES, leaves)


def plain(offer: msg.Offer, **fields: Any) -> bytes:
    """The frame of an offer with some fields of its manifest replaced by anything."""
    body = msgpack.unpackb(encode(offer))
    body["manifest"] |= fields
    return bytes(msgpack.packb(body))


def test_frames_that_are_none(programs: Programs, peers: dict[str, Peer], undisturbed: list[str]) -> None:
    """A peer that never joined, also under the name of an edge."""
    federation = begin(programs)
    evil = peers["evil"]
    state = evil.open_round(1)
    offer, payload = update(state)
    event, offers, chunk = (
        f"fl/1/{programs.job}/up/{{}}/{kind}" for kind in ("event", "offer/1-x", "chunk/1-x/0")
    )
    good = msgpack.unpackb(encode(msg.Progress(1, 0.5)))
    sent: list[tuple[str, bytes, str]] = [
        (event, b"\xc1 no msgpack", "not_msgpack"),
        (event, b"[1, 2, 3]", "not_msgpack"),
        (event, b"\xdf\xff\xff\xff\xff", "not_msgpack"),  # a map of 4 billion entries
        (event, b"\xdd\x11\xe1\xa3\x00", "not_msgpack"),  # a list of 300 million
        (chunk, b"\x83\xa1v\x01\xa1t\xa5Chunk\xa4data\xc6\x11\xe1\xa3\x00", "not_msgpack"),  # 300 MB of bytes
        (event, b"\xdb\x11\xe1\xa3\x00text", "not_msgpack"),  # 300 MB of text
        (event, b"\x91" * 5000, "not_msgpack"),  # nested beyond any stack
        (event, b"\x81\xa1v\xc7\x04\x05\x00\x00\x00\x00", "not_msgpack"),  # an extension type
        (event, msgpack.packb(good | {"v": 2}), "unknown_version"),
        (event, msgpack.packb(good | {"v": "1"}), "unknown_version"),
        (event, msgpack.packb(good | {"t": "Nonsense"}), "unknown_message"),
        (event, encode(msg.Chunk(0, b"x")), "wrong_topic"),
        (event, msgpack.packb({"v": 1, "t": "Progress"}), "missing_field"),
        (event, msgpack.packb(good | {"fraction": float("nan")}), "bad_field"),
        (event, msgpack.packb(good | {"round_number": -1}), "bad_field"),
        (chunk, encode(msg.Chunk(0, bytes(LEAF_BYTES + 1))), "bad_field"),
        (chunk, bytes(2 * 1024 * 1024), "too_large"),
        (offers, plain(offer, size=300_000_000), "size_mismatch"),
        (offers, plain(offer, leaves=b""), "size_mismatch"),
        (offers, plain(offer, size=0), "size_mismatch"),
        (offers, plain(offer, chunk_bytes=5000), "bad_chunk_size"),
        (offers, plain(offer, groups=[]), "size_mismatch"),
        (offers, plain(offer, groups=[{"name": "delta", "codec": "pickle", "tensors": []}]), "unknown_codec"),
    ]
    for client in ("evil", "edge1"):
        for topic, frame, _ in sent:
            evil.put(topic.format(client), frame)
    evil.put(event.format("No Name"), encode(msg.Hello("ab")))
    evil.say(Kind.OFFER, offer, transfer="1-x")  # well-formed, of nobody
    evil.put(chunk.format("evil"), encode(msg.Chunk(0, payload)))
    evil.ask_in()
    record, later = federation.end()
    wanted = Counter(reason for *_, reason in sent)
    assert counts(record, "edge1") == wanted
    assert counts(record, "evil") == wanted | {"not_joined": 2}
    assert counts(record, "No Name") == {"unknown_topic": 1}
    assert not later["rejected"]
    assert [record["model_sha256"], later["model_sha256"]] == undisturbed
    assert record["outcome"] == later["outcome"] == "closed"
    told = next(m for _, m in evil.heard if isinstance(m, msg.Rejection))
    assert told.reason == "not_msgpack"


def test_updates_that_must_not_count(
    programs: Programs, peers: dict[str, Peer], undisturbed: list[str]
) -> None:
    """A peer that was invited, and one that joined too late."""
    evil = peers["evil"]
    federation = begin(programs, rounds=1, min_clients=3)
    federation.agg.says("client joined.*(.|\n)*client joined")
    evil.join(num_examples=20)
    state = evil.open_round(1)
    assert state.cohort == ("edge1", "edge2", "evil")
    offer, payload = update(state)
    other = replace(offer.manifest, groups=(Group("delta", FLOAT32, (TensorSpec("a", (7,)),)),))
    refused = [
        (replace(offer, manifest=other), b"", "wrong_shapes"),
        (replace(offer, manifest=huge_manifest()), b"", "wrong_shapes"),
        (
            replace(offer, manifest=replace(offer.manifest, groups=(Group("model", FLOAT32, TINY),))),
            b"",
            "wrong_groups",
        ),
        (replace(offer, round_number=7), payload, "wrong_round"),
        (replace(offer, base=digest_of("another")), payload, "wrong_base"),
    ]
    for bad, data, reason in refused:
        assert evil.offer(bad, data) == reason
    for number, count in enumerate((0, 21, 10**10)):
        one, data = update(state, values=0.1 + number, num_examples=count)
        assert evil.offer(one, data) == "bad_num_examples"
    for value, reason in (
        (np.nan, "not_finite"),
        (np.inf, "not_finite"),
        (-np.inf, "not_finite"),
        (3e38, "absurd_values"),
    ):
        assert evil.offer(*update(state, values=float(value))) == reason
    one, data = update(state, values=0.25)
    assert evil.offer(one, data, transfer="1-mine") == "bad_transfer"
    assert evil.offer(one, data[:-4]) == "bad_chunk"
    one, data = update(state, values=0.26)
    assert evil.offer(one, bytes(28)) == "bad_digest"

    late = peers["late"]
    late.join(num_examples=20)
    assert late.offer(*update(late.open_round(1), values=0.3)) == "not_invited"
    late.put(f"fl/1/{programs.job}/up/late/chunk/1-of-nothing/0", encode(msg.Chunk(0, payload)))  # a stray
    late.ask_in()
    evil.leave()
    late.leave()
    (record,) = federation.end()
    assert (record["outcome"], record["accepted"]) == ("closed_short", ["edge1", "edge2"])
    assert counts(record, "evil") == {
        "wrong_shapes": 2, "wrong_groups": 1, "wrong_round": 1, "wrong_base": 1, "bad_num_examples": 3, "not_finite": 3,
        "absurd_values": 1, "bad_transfer": 1, "bad_chunk": 1, "bad_digest": 1,
    }  # fmt: skip
    assert counts(record, "late") == {"not_invited": 1}
    assert record["model_sha256"] == undisturbed[0]


def test_an_update_counts_once(programs: Programs, peers: dict[str, Peer]) -> None:
    """Accepted, the same again is acknowledged and changes nothing; another one is refused."""
    evil = peers["evil"]
    federation = begin(programs, rounds=1, min_clients=3)
    federation.agg.says("client joined.*(.|\n)*client joined")
    evil.join(num_examples=20)
    state = evil.open_round(1)
    first = update(state)
    assert evil.offer(*first) == msg.ACCEPTED
    evil.heard.clear()
    assert evil.offer(*first) == msg.ACCEPTED
    assert evil.offer(*update(state, values=0.75)) == "duplicate_update"
    evil.leave()
    (record,) = federation.end()
    assert record["accepted"] == ["edge1", "edge2", "evil"]
    assert counts(record, "evil") == {"duplicate_update": 1}
    assert record["client_examples"]["evil"] == 5


def random_frames(job: str, seed: int) -> Iterator[tuple[str, bytes, bool]]:
    """Topic, bytes, and whether the aggregator is to refuse them: on every class of topic, in everybody's name."""
    rng = random.Random(seed)
    base = f"fl/1/{job}"
    upward = ("state", "event", "offer/1-ab", "chunk/1-ab/0")
    digest = digest_of("x")
    others = ("pub/round", f"pub/model/{digest}", f"pub/block/{digest}/0/0", "dn/edge1/control", "dn/edge1/ack/1-ab",
              "dn/edge2/control", "dn/edge2/ack/1-ab")  # fmt: skip
    whole = [encode(message) for message in (msg.Hello("ab"), msg.Progress(1, 0.5), msg.Pong("ab"), msg.Decline(9, "x"),
             msg.Chunk(0, bytes(300)), msg.ClientState("ab", msg.READY, num_examples=1))]  # fmt: skip
    while True:
        bad = bytes([0xC1]) + rng.randbytes(rng.randrange(120))
        draw = rng.random()
        if draw < 0.2:
            yield f"{base}/{rng.choice(others)}", bad, False
        elif draw < 0.5:
            frame = bytearray(rng.choice(whole))
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            yield f"{base}/up/ghost{rng.randrange(40)}/{rng.choice(upward)}", bytes(frame), False
        elif draw < 0.55:
            yield f"{base}/{rng.choice(('pub/agg', 'dn/_aggregator/control'))}", bad, True
        else:
            name = rng.choice(("edge1", "edge2", f"n{rng.randrange(10**9)}", "Not A Name"))
            yield f"{base}/up/{name}/{rng.choice(upward)}", bad, True


def test_a_flood_of_random_frames(programs: Programs, peers: dict[str, Peer], undisturbed: list[str]) -> None:
    federation = begin(programs)
    evil = peers["evil"]
    evil.open_round(1)
    before = [program.peak_mb() for program in (federation.agg, *federation.edges)]
    refused = 0
    frames = random_frames(programs.job, seed=1)
    for number in range(1, FLOOD + 1):
        topic, frame, counted = next(frames)
        refused += counted
        evil.put(topic, frame)
        if number % 1000 == 0:
            evil.ask_in()
    after = [program.peak_mb() for program in (federation.agg, *federation.edges)]
    record, later = federation.end()
    assert [record["model_sha256"], later["model_sha256"]] == undisturbed
    assert sum(each["count"] for each in record["rejected"]) >= refused
    assert len(record["rejected"]) <= 1001
    grown = [round(now - then, 1) for now, then in zip(after, before, strict=True)]
    assert max(grown) < FLOOD_MB, grown
    assert len(federation.agg.out.splitlines()) < 3000
