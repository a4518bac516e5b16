"""The same slice of base model, updates and server state, read from disk: what a strategy is given.

Nothing is read ahead and nothing is kept, so memory is one piece a thread.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.server_state import starts_of
from aggregator.strategy import Facts, Sums, Survey, Values
from fl_protocol.modelfile import ModelFile
from fl_protocol.tensors import LEAF_BYTES, MODEL, TensorSpec, groups_of

STACK_BYTES = 4 * 1024 * 1024
"""What all updates of one piece may take side by side, in float32."""
LEAST_PIECE_BYTES = 4 * 1024


@dataclass(frozen=True)
class SpooledUpdate:
    """An accepted update: its bytes, and what is known of it."""

    path: Path
    facts: Facts


@dataclass(frozen=True)
class Slice:
    """``length`` bytes of one group, ``offset`` bytes into the payload."""

    group: str
    offset: int
    length: int


def whole_groups(tensors: Sequence[TensorSpec]) -> tuple[Slice, ...]:
    """A model's groups as they lie in its payload."""
    sizes = [(group.name, group.num_bytes) for group in groups_of(tensors, MODEL)]
    ends = itertools.accumulate(size for _, size in sizes)
    return tuple(Slice(name, end - size, size) for (name, size), end in zip(sizes, ends, strict=True))


def slices(groups: Sequence[Slice], start: int, end: int, piece_bytes: int) -> Iterator[Slice]:
    """The payload from ``start`` to ``end`` in slices of at most ``piece_bytes``, none across a border of groups."""
    for group in groups:
        first, last = max(start, group.offset), min(end, group.offset + group.length)
        for offset in range(first, last, piece_bytes):
            yield Slice(group.group, offset, min(piece_bytes, last - offset))


def piece_bytes_for(num_updates: int) -> int:
    """The largest piece of which ``num_updates`` fit side by side in STACK_BYTES: a leaf at most, 4 KiB at least."""
    fitting = STACK_BYTES // max(1, num_updates) // LEAST_PIECE_BYTES * LEAST_PIECE_BYTES
    return max(LEAST_PIECE_BYTES, min(LEAF_BYTES, fitting))


class SpooledDeltas:
    """One slice of all updates."""

    def __init__(self, fds: Sequence[int], part: Slice) -> None:
        self._fds, self._part = fds, part
        self._buffer = np.empty(part.length // 4, "<f4")

    def __len__(self) -> int:
        return len(self._fds)

    def __getitem__(self, index: int) -> Values:
        self._read(index, self._buffer)
        return self._buffer

    def stacked(self) -> Values:
        stack = np.empty((len(self), self._part.length // 4), "<f4")
        for index in range(len(self)):
            self._read(index, stack[index])
        return stack

    def _read(self, index: int, into: Values) -> None:
        if os.preadv(self._fds[index], [memoryview(into).cast("B")], self._part.offset) != self._part.length:  # type: ignore[arg-type]
            end = self._part.offset + self._part.length
            raise OSError(f"an update in the spool is shorter than {end} bytes")


class Sources:
    """The open files of a fold; they are closed with ``stack``."""

    def __init__(
        self, base: ModelFile, updates: Sequence[SpooledUpdate], state: ModelFile | None,
        initial: Mapping[str, float], stack: ExitStack,
    ) -> None:  # fmt: skip
        self._base, self._state, self._initial = base, state, initial
        self._starts = starts_of(initial, base.tensors)
        self._base_fd = _opened(base.path, stack)
        self._fds = [_opened(update.path, stack) for update in updates]
        self._state_fd = _opened(state.path, stack) if state is not None else None

    def base(self, part: Slice) -> Values:
        return _values(self._base_fd, self._base.offset + part.offset, part)

    def deltas(self, part: Slice) -> SpooledDeltas:
        return SpooledDeltas(self._fds, part)

    def state(self, part: Slice) -> dict[str, Values]:
        """The server's vectors: as the base model's round left them, or as they begin."""
        if part.group != MODEL:
            return {}
        if self._state is None or self._state_fd is None:
            return {name: np.full(part.length // 4, value, "<f4") for name, value in self._initial.items()}
        first = self._state.offset
        return {
            name: _values(self._state_fd, first + start + part.offset, part)
            for name, start in self._starts.items()
        }


def _values(fd: int, at: int, part: Slice) -> Values:
    data = os.pread(fd, part.length, at)
    if len(data) != part.length:
        raise OSError("a model file ends early: it was cut while it was read")
    return np.frombuffer(data, "<f4")


def _opened(path: Path, stack: ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def surveyed(kind: Survey, deltas: SpooledDeltas) -> Sums:
    """One slice's part of what a survey sums up: (K,) squares or (K, K) products, in float64."""
    if kind is Survey.NORMS:
        found = np.empty(len(deltas))
        for index in range(len(deltas)):
            values = deltas[index].astype(np.float64)
            values *= values
            found[index] = values.sum()
        return found
    wide = deltas.stacked().astype(np.float64)
    products: Sums = wide @ wide.T
    return products
