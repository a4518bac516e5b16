"""Manifests: sizes, spans, digests, and the lies that are refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgpack
import pytest

from fl_protocol.errors import ConfigError, DecodeError
from fl_protocol.tensors import (
    FRAME_MARGIN,
    LEAF_BYTES,
    MAX_CHUNK_BYTES,
    Group,
    Manifest,
    TensorSpec,
    chunk_bytes_for,
    groups_of,
    leaf_digests,
    payload_order,
)
from tests.payloads import leaves_of, manifest_of, random_payload

KIB = 1024
PAYLOAD = random_payload(LEAF_BYTES + 12)


def test_num_values() -> None:
    assert TensorSpec("w", (2, 3, 4)).num_values == 24
    assert TensorSpec("scalar", ()).num_values == 1


def test_digest_is_the_formula_of_the_docstring() -> None:
    manifest = Manifest(
        (Group("model", "f32", (TensorSpec("a", (2, 2)), TensorSpec("b", ()))),), 20, 4096, b""
    )
    payload = bytes(range(20))
    manifest = replace(manifest, leaves=hashlib.sha256(payload).digest())
    layout = msgpack.packb([1, [["model", "f32", [["a", [2, 2]], ["b", []]]]], 20])
    assert manifest.digest == hashlib.sha256(layout + hashlib.sha256(payload).digest()).hexdigest()


def test_digest_does_not_depend_on_the_link_the_round_or_the_metadata() -> None:
    manifest = manifest_of(PAYLOAD)
    other = replace(manifest, chunk_bytes=4096, round_number=9, predecessor="0" * 64, metadata={"k": "v"})
    assert other.digest == manifest.digest


@pytest.mark.parametrize(
    "other",
    [
        manifest_of(PAYLOAD[:-4] + b"\1\2\3\4"),
        manifest_of(PAYLOAD, group="model"),
        manifest_of(PAYLOAD, tensors=(TensorSpec("v", (len(PAYLOAD) // 4,)),)),
        manifest_of(PAYLOAD, tensors=(TensorSpec("w", (1, len(PAYLOAD) // 4)),)),
    ],
)
def test_digest_depends_on_bytes_and_layout(other: Manifest) -> None:
    assert other.digest != manifest_of(PAYLOAD).digest


@pytest.mark.parametrize(
    ("size", "chunk_bytes", "chunks", "blocks", "leaves"),
    [
        (4, 4 * KIB, 1, 1, 1),
        (4 * KIB, 4 * KIB, 1, 1, 1),
        (4 * KIB + 4, 4 * KIB, 2, 1, 1),
        (256 * KIB, 4 * KIB, 64, 1, 1),
        (256 * KIB + 4, 4 * KIB, 65, 2, 2),
        (1024 * KIB, 256 * KIB, 4, 1, 4),
    ],
)
def test_counts_and_spans_cover_the_payload_once(
    size: int, chunk_bytes: int, chunks: int, blocks: int, leaves: int
) -> None:
    manifest = manifest_of(bytes(size), chunk_bytes)
    assert (manifest.num_chunks, manifest.num_blocks, manifest.num_leaves) == (chunks, blocks, leaves)
    for count, span in ((chunks, manifest.chunk_span), (leaves, manifest.leaf_span)):
        at = 0
        for index in range(count):
            offset, length = span(index)
            assert offset == at
            assert length > 0
            at += length
        assert at == size


def test_a_leaf_is_only_itself() -> None:
    manifest, (first, second) = manifest_of(PAYLOAD), leaves_of(PAYLOAD)
    assert manifest.leaf_is(0, first)
    assert manifest.leaf_is(1, memoryview(second))
    assert not manifest.leaf_is(1, first)
    assert not manifest.leaf_is(0, first[:-1])
    assert manifest.leaves == leaf_digests([first, second])


def test_check_passes_the_truth() -> None:
    manifest_of(PAYLOAD).check()
    manifest_of(PAYLOAD, 4 * KIB).check()


_W = TensorSpec("w", (len(PAYLOAD) // 4,))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"size": len(PAYLOAD) + 4}, "size_mismatch"),
        ({"leaves": manifest_of(PAYLOAD).leaves[:-1]}, "size_mismatch"),
        ({"leaves": manifest_of(PAYLOAD).leaves + bytes(32)}, "size_mismatch"),
        ({"size": 0, "leaves": b"", "groups": ()}, "size_mismatch"),
        ({"size": 0, "leaves": b"", "groups": (Group("delta", "f32", ()),)}, "size_mismatch"),
        ({"chunk_bytes": 5000}, "bad_chunk_size"),
        ({"groups": (Group("delta", "int8", (_W,)),)}, "unknown_codec"),
        ({"groups": (Group("delta", "f32", (TensorSpec("w", (LEAF_BYTES // 8,)),) * 2
                     + (TensorSpec("x", (3,)),)),)}, "bad_layout"),
        ({"groups": (Group("delta", "f32", (TensorSpec("w", (2**40,) * 8),)),)}, "size_mismatch"),
    ],
)  # fmt: skip
def test_check_refuses_lies(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        replace(manifest_of(PAYLOAD), **changes).check()  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_control_variates_are_a_group_behind_the_rest() -> None:
    names = ["z", "control/a", "a", "control/z"]
    ordered = sorted(names, key=payload_order)
    assert ordered == ["a", "z", "control/a", "control/z"]
    tensors = [TensorSpec(name, (2,)) for name in ordered]
    assert [(group.name, [spec.name for spec in group.tensors]) for group in groups_of(tensors, "delta")] == [
        ("delta", ["a", "z"]), ("control", ["control/a", "control/z"])
    ]  # fmt: skip
    assert groups_of(tensors[:2], "model") == (Group("model", "f32", tuple(tensors[:2])),)


@pytest.mark.parametrize(
    ("announced", "chunk_bytes"),
    [
        (None, MAX_CHUNK_BYTES),
        (2**28, MAX_CHUNK_BYTES),
        (256 * KIB + FRAME_MARGIN, 256 * KIB),
        (256 * KIB + FRAME_MARGIN - 1, 128 * KIB),
        (128 * KIB, 64 * KIB),
        (5 * KIB, 4 * KIB),
    ],
)
def test_chunks_fit_the_brokers_packets_and_nest_in_leaves(announced: int | None, chunk_bytes: int) -> None:
    assert chunk_bytes_for(announced) == chunk_bytes
    assert LEAF_BYTES % chunk_bytes == 0


def test_a_broker_of_tiny_packets_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="raise its max_packet_size"):
        chunk_bytes_for(5 * KIB - 1)
