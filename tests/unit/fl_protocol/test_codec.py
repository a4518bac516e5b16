"""Frames: there and back, and each way in which bytes are no frame of ours."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest

from fl_protocol import messages as msg
from fl_protocol.codec import ALLOWED, MAX_FRAME_BYTES, SCHEMA_VERSION, TAGS, decode, encode
from fl_protocol.errors import DecodeError
from fl_protocol.tensors import FRAME_MARGIN, MAX_CHUNK_BYTES, Manifest
from fl_protocol.topics import Kind
from tests.payloads import digest_of, manifest_of, random_payload

MANIFEST = manifest_of(random_payload(300_000))
D = digest_of("x")

EXAMPLES: list[tuple[Kind, msg.Message]] = [
    (Kind.AGG, msg.AggregatorState(True, "ab", "cd")),
    (
        Kind.ROUND,
        msg.RoundState(
            "open", 2, 9, 1, ("a", "b"), D, "chest-xray", "hilum-cnn", msg.Plan(1, 16, 0.05, 3, options={"x": 1.5}),
            last=msg.LastRound(1, "closed", 2, 0, 0, 1.25, {"auroc": 0.9}),
        ),
    ),
    (Kind.MODEL, MANIFEST),
    (Kind.BLOCK, msg.Chunk(3, b"\0\1\2")),
    (Kind.STATE, msg.ClientState("ab", "ready", 1, 20, msg.DataSummary(30, 9, 20, 10, classes={"NORMAL": 3}), "cpu")),
    (Kind.EVENT, msg.Hello("ab")),
    (Kind.EVENT, msg.Pong("ab")),
    (Kind.EVENT, msg.Progress(1, 0.25, 0.7)),
    (Kind.EVENT, msg.Scored(1, "0" * 64, {"eval_auroc": 0.7})),
    (Kind.EVENT, msg.Decline(1, "no data")),
    (Kind.OFFER, msg.Offer(1, D, 20, MANIFEST, {"loss": 0.5})),
    (Kind.CHUNK, msg.Chunk(0, bytes(MAX_CHUNK_BYTES))),
    (Kind.CONTROL, msg.Welcome("ab")),
    (Kind.CONTROL, msg.Refusal("ab", "in use")),
    (Kind.CONTROL, msg.Ping("ab")),
    (Kind.CONTROL, msg.Cancel(1, "over")),
    (Kind.CONTROL, msg.Rejection(1, "bad_field")),
    (Kind.CONTROL, msg.Probe("ab")),
    (Kind.CHUNK, msg.Probe("ab", bytes(9))),
    (Kind.ACK, msg.Echo("ab", "chunk", "ready", 1.5)),
    (Kind.ACK, msg.Ack(b"\7", 32, "accepted", "")),
    (Kind.RUN, msg.RunInfo("ab", "default", b"{}", (msg.PAUSE, msg.EVICT), paused=True, first=1, newest=3)),
    (Kind.LINE, msg.RoundLine(b'{"round": 1}', "default")),
    (Kind.COMMAND, msg.Command("ab", msg.LAUNCH, {"rounds": "3"})),
    (Kind.ANSWER, msg.Answer("ab", False, "--rounds must be at least 1")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message"), EXAMPLES)
def test_there_and_back(kind: Kind, message: msg.Message) -> None:
    assert decode(encode(message), kind) == message


def test_every_message_is_in_the_examples_and_has_a_topic() -> None:
    assert {type(message).__name__ for _, message in EXAMPLES} == set(TAGS)
    assert {tag for tags in ALLOWED.values() for tag in tags} == set(TAGS)
    assert set(ALLOWED) == set(Kind)


def test_the_frame_is_what_the_docstring_says() -> None:
    assert msgpack.unpackb(encode(msg.Chunk(3, b"ab"))) == {"v": 1, "t": "Chunk", "index": 3, "data": b"ab"}


def test_a_message_is_refused_on_every_other_topic() -> None:
    for home, message in EXAMPLES:
        for kind in Kind:
            if type(message).__name__ not in ALLOWED[kind]:
                assert kind is not home
                with pytest.raises(DecodeError, match="wrong_topic"):
                    decode(encode(message), kind)


def _frame(**fields: Any) -> bytes:
    return bytes(msgpack.packb({"v": SCHEMA_VERSION, "t": "Chunk", "index": 0, "data": b""} | fields))


DEEP = b"\x91" * 1000 + b"\x90"

HOSTILE = [
    ("empty", b"", "not_msgpack"),
    ("half a frame", encode(EXAMPLES[2][1])[:-5], "not_msgpack"),
    ("a frame and more", _frame() + b"\0", "not_msgpack"),
    ("text", b"hello, world", "not_msgpack"),
    ("a list", b"\x90", "not_msgpack"),
    ("a number", b"\x07", "not_msgpack"),
    ("never used byte", b"\xc1", "not_msgpack"),
    ("numbers as keys", b"\x81\x01\x02", "not_msgpack"),
    ("bad utf-8", b"\x81\xa1v\xa1\xff", "not_msgpack"),
    ("an extension", b"\x81\xa1v\xd4\x05\0", "not_msgpack"),
    ("a timestamp", b"\x81\xa1v\xd6\xff\0\0\0\1", "not_msgpack"),
    ("bytes of 300 MB", b"\x81\xa1v\xc6\x12\0\0\0", "not_msgpack"),
    ("text of 300 MB", b"\x81\xa1v\xdb\x12\0\0\0", "not_msgpack"),
    ("a list of 300 M", b"\x81\xa1v\xdd\x12\0\0\0", "not_msgpack"),
    ("a map of 300 M", b"\x81\xa1v\xdf\x12\0\0\0", "not_msgpack"),
    ("an extension of 300 MB", b"\x81\xa1v\xc9\x12\0\0\0\1", "not_msgpack"),
    ("lists that each promise much", b"\x81\xa1v" + b"\xdd\0\0\x03\xe8" * 200, "not_msgpack"),
    ("too deep", b"\x91" * 100_000, "not_msgpack"),
    ("too large", bytes(MAX_FRAME_BYTES + 1), "too_large"),
    ("no version", b"\x80", "unknown_version"),
    ("another version", _frame(v=2), "unknown_version"),
    ("a boolean version", _frame(v=True), "unknown_version"),
    ("a deep version", b"\x81\xa1v" + DEEP, "unknown_version"),
    ("no tag", b"\x81\xa1v\x01", "unknown_message"),
    ("another tag", _frame(t="Pickle"), "unknown_message"),
    ("a tag that is none", _frame(t=b"Chunk"), "unknown_message"),
    ("a deep tag", b"\x82\xa1v\x01\xa1t" + DEEP, "unknown_message"),
    ("another message", encode(msg.Hello("ab")), "wrong_topic"),
    ("no field", bytes(msgpack.packb({"v": 1, "t": "Chunk", "index": 0})), "missing_field"),
    ("a bad field", _frame(index="0"), "bad_field"),
    ("a huge number", _frame(index=2**63), "bad_field"),
]


@pytest.mark.parametrize(
    ("frame", "reason"), [each[1:] for each in HOSTILE], ids=[each[0] for each in HOSTILE]
)
def test_hostile_frames_are_refused_by_name_at_small_cost(frame: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as caught:
            decode(frame, Kind.CHUNK)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300
    assert peak < 2_000_000


def test_no_declared_length_may_exceed_the_frame() -> None:
    """Each level of these lists claims ten thousand items: decoding must not set that much aside a thousand times."""
    frame = b"\x81\xa1v" + b"\xdd\0\0\x27\x10" * 1000
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(frame, Kind.CHUNK)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(frame)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [Kind.MODEL, Kind.OFFER])
def test_a_manifest_that_lies_is_refused_wherever_it_stands(kind: Kind) -> None:
    lie = Manifest(MANIFEST.groups, MANIFEST.size + 4, MANIFEST.chunk_bytes, MANIFEST.leaves)
    message: msg.Message = lie if kind is Kind.MODEL else msg.Offer(1, D, 20, lie)
    with pytest.raises(DecodeError, match="size_mismatch"):
        decode(encode(message), kind)


def test_metadata_in_any_script_survives() -> None:
    manifest = Manifest(
        MANIFEST.groups, MANIFEST.size, MANIFEST.chunk_bytes, MANIFEST.leaves, metadata={"classes": "\u80ba" * 4000}
    )  # fmt: skip
    assert decode(encode(manifest), Kind.MODEL) == manifest


def test_what_a_later_version_adds_is_ignored() -> None:
    assert decode(_frame(later={"k": [1, None]}), Kind.CHUNK) == msg.Chunk(0, b"")


def test_a_full_chunk_fits_its_frame_and_the_margin() -> None:
    frame = encode(msg.Chunk(10**6, bytes(MAX_CHUNK_BYTES)))
    assert len(frame) < min(MAX_CHUNK_BYTES + FRAME_MARGIN, MAX_FRAME_BYTES)
