"""Moving a payload in chunks over a link that may drop, repeat, reorder and cut. Pure: no clock, no socket, no file.

Three small machines, each told what happened and asked what to do next:

    Assembly   chunks in, verified leaves out        (both receivers: a download and an upload)
    Sending    credit and acknowledgements in, chunk numbers out      (the uploading edge)
    Pulling    chunks seen in, topics to subscribe and leave out      (the downloading edge)

PUBACK is not delivery: a broker acknowledges what it later drops. So an upload is acknowledged end to end by the
set of chunks held, and a download by the digests of its leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fl_protocol.errors import PeerError
from fl_protocol.tensors import CHUNKS_PER_BLOCK, LEAF_BYTES, Manifest

WINDOW = 32
"""Chunks an upload may have under way: 8 MiB, measured as fast as no bound, and far below any broker's queue."""

FEW = 16
"""Chunks asked for by name at a time."""

MAX_PENDING_LEAVES = 64
REORDER_THRESHOLD = 3
"""As in QUIC (RFC 9002, 6.1.1): a chunk is lost once one sent this much later has arrived."""


class ChunkSet:
    """A set of chunk numbers below ``total``; on the wire one bit each, lowest bit first."""

    def __init__(self, total: int, bits: bytes = b"") -> None:
        self.total = total
        self._bits = int.from_bytes(bits, "little") & ((1 << total) - 1)
        self._count = self._bits.bit_count()

    def __contains__(self, index: int) -> bool:
        return bool(self._bits >> index & 1)

    def __len__(self) -> int:
        return self._count

    def add(self, index: int) -> None:
        if index not in self:
            self._bits |= 1 << index
            self._count += 1

    def discard(self, index: int) -> None:
        if index in self:
            self._bits &= ~(1 << index)
            self._count -= 1

    def without(self, other: ChunkSet) -> list[int]:
        """The chunks in this set and not in ``other``, in order."""
        left = self._bits & ~other._bits
        return [index for index in range(self.total) if left >> index & 1] if left else []

    def missing(self) -> list[int]:
        """The chunks not in the set, in order."""
        return [index for index in range(self.total) if index not in self]

    @property
    def complete(self) -> bool:
        return self._count == self.total

    def to_bytes(self) -> bytes:
        return self._bits.to_bytes(-(-self.total // 8), "little")


class Assembly:
    """Verifies chunks leaf by leaf: nothing leaves it that does not hash to what the manifest says.

    A chunk is ``held`` from the moment it arrived until its leaf proves wrong. Memory is bounded by
    MAX_PENDING_LEAVES leaves: a peer that scatters chunks makes the oldest unfinished leaf be forgotten.
    """

    def __init__(self, manifest: Manifest, held_leaves: Iterable[int] = ()) -> None:
        self.manifest = manifest
        self.held = ChunkSet(manifest.num_chunks)
        self._per_leaf = LEAF_BYTES // manifest.chunk_bytes
        self._pending: dict[int, dict[int, bytes]] = {}
        for leaf in held_leaves:
            for index in self._chunks_of(leaf):
                self.held.add(index)

    def _chunks_of(self, leaf: int) -> range:
        first = leaf * self._per_leaf
        return range(first, min(first + self._per_leaf, self.manifest.num_chunks))

    @property
    def complete(self) -> bool:
        return self.held.complete and not self._pending

    def add(self, index: int, data: bytes) -> tuple[int, bytes] | None:
        """Take chunk ``index``. Returns ``(offset, bytes)`` of a leaf that is now whole and true, if any.

        A chunk already held changes nothing. Raises PeerError ``bad_chunk`` (a number or length that is none of
        this payload's) or ``bad_digest`` (the leaf is not what was promised; its chunks are missing again).
        """
        if index >= self.manifest.num_chunks or len(data) != self.manifest.chunk_span(index)[1]:
            raise PeerError("bad_chunk", f"chunk {index} of {len(data)} bytes")
        if index in self.held:
            return None
        leaf = index // self._per_leaf
        parts = self._pending.setdefault(leaf, {})
        parts[index] = data
        self.held.add(index)
        if len(parts) < len(self._chunks_of(leaf)):
            self._forget_oldest()
            return None
        return self._finish(leaf)

    def _finish(self, leaf: int) -> tuple[int, bytes]:
        parts = self._pending.pop(leaf)
        data = next(iter(parts.values())) if len(parts) == 1 else b"".join(parts[i] for i in sorted(parts))
        if not self.manifest.leaf_is(leaf, data):
            for index in parts:
                self.held.discard(index)
            raise PeerError("bad_digest", f"leaf {leaf}")
        return self.manifest.leaf_span(leaf)[0], data

    def _forget_oldest(self) -> None:
        if len(self._pending) > MAX_PENDING_LEAVES:
            for index in self._pending.pop(next(iter(self._pending))):
                self.held.discard(index)


class Sending:
    """Which chunks of an upload to send next.

    The receiver grants a window; within it we keep our own, halved when a chunk proves lost (a broker's queue
    was full) and grown by one for every acknowledgement that brings news, as TCP does (Jacobson 1988).

    A receiver keeps whole leaves only, so after a restart it may hold less than it once said: the first
    acknowledgement after :meth:`forget_under_way` is believed whatever it says.
    """

    def __init__(self, total: int) -> None:
        self.held = ChunkSet(total)
        self.resent = 0
        self._granted = 0
        self._own = WINDOW
        self._under_way: dict[int, int] = {}
        self._ever_sent: set[int] = set()
        self._serial = 0
        self._in_doubt = False
        self._todo = list(range(total - 1, -1, -1))

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    @property
    def complete(self) -> bool:
        return self.held.complete

    def grant(self, window: int) -> None:
        """Credit without news of what is held: an update of one chunk grants itself that chunk."""
        self._granted = window

    def acknowledge(self, held: bytes, window: int) -> bool:
        """Take an acknowledgement; True if it brought progress. Old ones, out of order, change nothing."""
        self._granted = window
        now_held = ChunkSet(self.held.total, held)
        news = [index for index in self._under_way if index in now_held]
        progress = len(now_held) > len(self.held)
        newest = max((self._under_way[index] for index in news), default=-1)
        if progress or self._in_doubt:
            self._todo.extend(reversed(self.held.without(now_held)))
            self.held, self._in_doubt = now_held, False
        for index in news:
            del self._under_way[index]
        lost = [i for i, serial in self._under_way.items() if serial + REORDER_THRESHOLD <= newest]
        if lost:
            self._own = max(4, self._own // 2)
            self._requeue(lost)
        elif progress:
            self._own = min(WINDOW, self._own + 1)
        return progress

    def forget_under_way(self) -> None:
        """After a cut or a stall nothing is believed to have arrived but what the next acknowledgement says."""
        self._in_doubt = True
        self._requeue(list(self._under_way))

    def _requeue(self, lost: list[int]) -> None:
        for index in lost:
            del self._under_way[index]
        self._todo.extend(sorted(lost, reverse=True))

    def take(self) -> list[int]:
        """The chunks to send now, which then count as under way."""
        chosen: list[int] = []
        while self._todo and len(self._under_way) < min(self._granted, self._own):
            index = self._todo.pop()
            if index in self.held or index in self._under_way:
                continue
            self._under_way[index] = self._serial
            self._serial += 1
            self.resent += index in self._ever_sent
            self._ever_sent.add(index)
            chosen.append(index)
        return chosen


@dataclass
class Pulling:
    """Which retained chunks of a model to subscribe to next: block by block, then one by one if some got lost.

    Up to two blocks are open at once, and a new one is opened when few chunks are outstanding, so that a broker
    never has to queue more than about 100 chunks for us. Of a block that is held in part (we were cut off) the
    missing chunks are asked for by name, so that nothing comes twice. If a broker drops even those,
    :meth:`stalled` narrows the pull to single chunks, ``narrow`` at a time.
    """

    manifest: Manifest
    held: ChunkSet
    narrow: int = 0
    open_blocks: dict[int, set[int]] = field(default_factory=dict)
    single: set[int] = field(default_factory=set)
    _next_block: int = 0

    @property
    def outstanding(self) -> int:
        return sum(len(left) for left in self.open_blocks.values()) + len(self.single)

    def more(self) -> tuple[list[int], list[int]]:
        """Blocks and single chunks to subscribe to now."""
        if self.narrow:
            return [], self._more_single()
        blocks: list[int] = []
        single: list[int] = []
        while self._next_block < self.manifest.num_blocks and self.outstanding <= CHUNKS_PER_BLOCK // 2:
            block = self._next_block
            whole = self._chunks_of(block)
            left = {index for index in whole if index not in self.held}
            if len(left) == len(whole):
                self.open_blocks[block] = left
                blocks.append(block)
                self._next_block += 1
                continue
            unasked = sorted(left - self.single)
            single += unasked[:FEW]
            self.single.update(unasked[:FEW])
            self._next_block += len(unasked) <= FEW
        return blocks, single

    def _chunks_of(self, block: int) -> range:
        first = block * CHUNKS_PER_BLOCK
        return range(first, min(first + CHUNKS_PER_BLOCK, self.manifest.num_chunks))

    def _more_single(self) -> list[int]:
        if self.single:
            return []
        chosen = self.held.missing()[: self.narrow]
        self.single.update(chosen)
        return chosen

    def arrived(self, index: int) -> tuple[list[int], list[int]]:
        """Chunk ``index`` is held. Returns the blocks and single chunks whose subscriptions have done their duty."""
        block = index // CHUNKS_PER_BLOCK
        left = self.open_blocks.get(block)
        done_blocks: list[int] = []
        if left is not None:
            left.discard(index)
            if not left:
                del self.open_blocks[block]
                done_blocks.append(block)
        done_single = [index] if index in self.single else []
        self.single.discard(index)
        return done_blocks, done_single

    def stalled(self) -> tuple[list[int], list[int]]:
        """Nothing came for long: leave everything (returned) and go on in smaller steps."""
        leave = list(self.open_blocks), sorted(self.single)
        self.narrow = max(1, self.narrow // 2) if self.narrow else FEW
        self._start_over()
        return leave

    def reconnected(self) -> None:
        """The broker has forgotten our subscriptions."""
        self._start_over()

    def _start_over(self) -> None:
        self.open_blocks.clear()
        self.single.clear()
        self._next_block = 0
