"""What a model is on the wire: named float32 tensors laid end to end, and the digest that names them.

The payload is the tensors' raw little-endian bytes, one after another in the order of the layout. It is cut
in leaves of 256 KiB whatever the chunk size of the broker, so that a model's digest is the same on every link:

    digest = sha256( msgpack([1, [[group, codec, [[name, shape], ...]], ...], size]) || leaf digests )

which is a one-level Merkle tree (Merkle 1987): a peer that holds the digest verifies the manifest, and with the
manifest each leaf by itself, in whatever order the leaves arrive.

A model, or an update, of SCAFFOLD has a second group behind the first: ``control``, a tensor ``control/NAME`` for
every tensor NAME. It travels, is verified and lies in files like everything else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgpack

from fl_protocol.errors import ConfigError, DecodeError
from fl_protocol.schema import blob, bounded, many, maybe, record, table, text, whole
from fl_protocol.topics import DIGEST

LEAF_BYTES = 256 * 1024
HASH_BYTES = 32
MAX_TENSORS = 10_000
MAX_MODEL_BYTES = 8 * 1024**3
MAX_CHUNK_BYTES = 256 * 1024
MIN_CHUNK_BYTES = 4 * 1024
CHUNKS_PER_BLOCK = 64
FRAME_MARGIN = 1024
"""Room for topic and framing beside a chunk: packets stay below what a broker announces by this much."""

digest_text = text(64, DIGEST)
FLOAT32 = "f32"
ITEM_BYTES = {FLOAT32: 4}
MODEL, DELTA, CONTROL = "model", "delta", "control"
CONTROL_PREFIX = f"{CONTROL}/"


def _shape(value: object) -> tuple[int, ...]:
    shape: tuple[int, ...] = many(whole(1, 2**40), 8)(value)
    return shape


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its name and shape (a scalar has the empty shape)."""

    name: str = bounded(text(200))
    shape: tuple[int, ...] = bounded(_shape)

    @property
    def num_values(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Group:
    """Tensors that belong together and share an encoding: ``model``, ``delta``, ``control``."""

    name: str = bounded(text(32))
    codec: str = bounded(text(16))
    tensors: tuple[TensorSpec, ...] = bounded(many(record(TensorSpec), MAX_TENSORS))

    @property
    def num_bytes(self) -> int:
        if self.codec not in ITEM_BYTES:
            raise DecodeError("unknown_codec", self.codec)
        return ITEM_BYTES[self.codec] * sum(spec.num_values for spec in self.tensors)


@dataclass(frozen=True)
class Manifest:
    """All there is to know of a payload before its first byte: tensors, sizes, digests, place in the chain."""

    groups: tuple[Group, ...] = bounded(many(record(Group), 8))
    size: int = bounded(whole(0, MAX_MODEL_BYTES))
    chunk_bytes: int = bounded(whole(MIN_CHUNK_BYTES, MAX_CHUNK_BYTES))
    leaves: bytes = bounded(blob(HASH_BYTES * (MAX_MODEL_BYTES // LEAF_BYTES)))
    round_number: int = bounded(whole(), default=0)
    predecessor: str | None = bounded(maybe(digest_text), default=None)
    metadata: dict[str, str] | None = bounded(maybe(table(text(4000))), default=None)

    @property
    def digest(self) -> str:
        """64 hex digits that name the payload and its layout (not the chunk size, round or metadata)."""
        layout = [[g.name, g.codec, [[t.name, list(t.shape)] for t in g.tensors]] for g in self.groups]
        return hashlib.sha256(bytes(msgpack.packb([1, layout, self.size])) + self.leaves).hexdigest()

    @property
    def num_chunks(self) -> int:
        return -(-self.size // self.chunk_bytes)

    @property
    def num_blocks(self) -> int:
        return -(-self.num_chunks // CHUNKS_PER_BLOCK)

    @property
    def num_leaves(self) -> int:
        return len(self.leaves) // HASH_BYTES

    def chunk_span(self, index: int) -> tuple[int, int]:
        """Offset and length of chunk ``index`` in the payload."""
        offset = index * self.chunk_bytes
        return offset, min(self.chunk_bytes, self.size - offset)

    def leaf_span(self, leaf: int) -> tuple[int, int]:
        """Offset and length of leaf ``leaf`` in the payload."""
        offset = leaf * LEAF_BYTES
        return offset, min(LEAF_BYTES, self.size - offset)

    def leaf_is(self, leaf: int, data: bytes | memoryview) -> bool:
        """Whether ``data`` are the bytes of leaf ``leaf``."""
        wanted = self.leaves[leaf * HASH_BYTES : (leaf + 1) * HASH_BYTES]
        return hashlib.sha256(data).digest() == wanted

    def check(self) -> None:
        """Raises DecodeError unless sizes, layout and digests fit together and chunks nest in leaves."""
        if self.size != sum(group.num_bytes for group in self.groups):
            raise DecodeError("size_mismatch", "declared size is not that of the tensors")
        if len(self.leaves) != HASH_BYTES * -(-self.size // LEAF_BYTES):
            raise DecodeError("size_mismatch", "not one digest a leaf")
        if self.size == 0:
            raise DecodeError("size_mismatch", "no tensors")
        if self.chunk_bytes & (self.chunk_bytes - 1):
            raise DecodeError("bad_chunk_size", "not a power of two")
        names = [spec.name for group in self.groups for spec in group.tensors]
        if len(set(names)) != len(names):
            raise DecodeError("bad_layout", "a tensor is named twice")


def payload_order(name: str) -> tuple[bool, str]:
    """The key by which tensors are sorted in a payload: by name, control variates behind everything else."""
    return name.startswith(CONTROL_PREFIX), name


def groups_of(tensors: Sequence[TensorSpec], first: str) -> tuple[Group, ...]:
    """The groups of a payload in :func:`payload_order`: ``first`` (``model``, ``delta``), and ``control`` if any."""
    control = tuple(spec for spec in tensors if spec.name.startswith(CONTROL_PREFIX))
    others = Group(first, FLOAT32, tuple(tensors[: len(tensors) - len(control)]))
    return (others, Group(CONTROL, FLOAT32, control)) if control else (others,)


def leaf_digests(pieces: Iterable[bytes | memoryview]) -> bytes:
    """The digests of a payload given in pieces of LEAF_BYTES (the last may be shorter)."""
    return b"".join(hashlib.sha256(piece).digest() for piece in pieces)


def chunk_bytes_for(max_packet_bytes: int | None) -> int:
    """The largest power of two that is at most 256 KiB and fits a packet of the broker's announced size.

    Powers of two nest in leaves, so that a leaf is verified from whole chunks. Raises ConfigError below 5 KiB.
    """
    size = MAX_CHUNK_BYTES
    while max_packet_bytes is not None and size + FRAME_MARGIN > max_packet_bytes:
        size //= 2
    if size < MIN_CHUNK_BYTES:
        raise ConfigError(
            f"the broker takes packets of {max_packet_bytes} bytes only: raise its max_packet_size"
        )
    return size
