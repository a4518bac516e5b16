"""From a base model and accepted updates on disk to the next global model on disk, leaf by leaf.

Memory is a few leaves a thread whatever the model's size and the number of clients. Leaves are independent, so two
threads share them (numpy and hashing release the interpreter lock); each leaf's own sum runs in client order.

What a strategy remembers on the server (momentum, say) lies beside the model, under the same digest: it is forced to
disk before the model has its name, so whoever finds a model finds the state that belongs to it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from aggregator.pieces import Slice, Sources, SpooledUpdate, piece_bytes_for, slices, surveyed, whole_groups
from aggregator.server_state import find_state, layout, starts_of, state_path
from aggregator.strategy import Clients, Gathered, Piece, Strategy, Sums, Survey
from fl_protocol.errors import ConfigError
from fl_protocol.modelfile import (
    DIGEST_KEY,
    ModelFile,
    force_folder_to_disk,
    header_bytes,
    write_at,
)
from fl_protocol.tensors import LEAF_BYTES, MAX_CHUNK_BYTES, MODEL, Manifest, TensorSpec, groups_of

THREADS = 2
Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass
class _Draft:
    """A file being written, nameless until it is whole."""

    path: Path
    tensors: Sequence[TensorSpec]
    metadata: Mapping[str, str]
    stack: ExitStack
    header: bytes = field(init=False)
    fd: int = field(init=False)

    def __post_init__(self) -> None:
        self.header = header_bytes(self.tensors, {**self.metadata, DIGEST_KEY: "0" * 64})
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.stack.callback(os.close, self.fd)

    def put(self, data: memoryview, offset: int) -> None:
        write_at(self.fd, data, len(self.header) + offset)

    def finish(self, digest: str) -> None:
        """Write the header, now that the digest is known, and force all of it to disk."""
        write_at(self.fd, header_bytes(self.tensors, {**self.metadata, DIGEST_KEY: digest}), 0)
        os.fdatasync(self.fd)


class _Fold:
    def __init__(
        self, strategy: Strategy, base: ModelFile, sources: Sources, gathered: Gathered, model: _Draft,
        state: _Draft | None = None,
    ) -> None:  # fmt: skip
        self.strategy, self.base, self.sources, self.gathered = strategy, base, sources, gathered
        self.model, self.state = model, state
        self.weights = strategy.weigh(gathered)
        self.groups = whole_groups(base.tensors)
        self.starts = starts_of(strategy.server_state, base.tensors)
        few = piece_bytes_for(len(gathered.updates))
        self.piece_bytes = few if strategy.side_by_side else LEAF_BYTES

    def leaf(self, index: int) -> bytes:
        """Write one leaf of the next model and of the state; return its digest."""
        start = index * LEAF_BYTES
        end = min(start + LEAF_BYTES, self.base.size)
        leaf = np.empty((end - start) // 4, "<f4")
        for part in slices(self.groups, start, end, self.piece_bytes):
            state = self.sources.state(part)
            piece = Piece(
                self.sources.base(part), self.sources.deltas(part), self.gathered, state, part.group
            )
            with np.errstate(over="ignore", invalid="ignore"):
                values, kept = self.strategy.step(piece, self.strategy.combine(piece, self.weights))
                leaf[(part.offset - start) // 4 : (part.offset - start + part.length) // 4] = values
            for name, vector in kept.items():
                self._keep(name, np.asarray(vector, "<f4"), part.offset)
        if not np.isfinite(leaf).all():
            raise ConfigError(_overflowed(self.strategy.name))
        data = memoryview(leaf).cast("B")  # type: ignore[arg-type]
        self.model.put(data, start)
        return hashlib.sha256(data).digest()

    def _keep(self, name: str, vector: np.ndarray, offset: int) -> None:
        if not np.isfinite(vector).all():
            raise ConfigError(_overflowed(self.strategy.name))
        assert self.state is not None
        self.state.put(memoryview(np.ascontiguousarray(vector)).cast("B"), self.starts[name] + offset)  # type: ignore[arg-type]


def _overflowed(name: str) -> str:
    return (
        f"strategy {name} led to a model with values that are not finite: use a smaller step "
        "(--strategy-option, --learning-rate), then the same command goes on from here"
    )


def fold(
    strategy: Strategy, base: ModelFile, updates: Sequence[SpooledUpdate], folder: Path, metadata: Mapping[str, str],
    clients: Clients | None = None,
) -> Manifest:  # fmt: skip
    """Write the next global model to ``folder/<digest>.safetensors`` and return its manifest (without metadata).

    ``updates`` must be in the order of client ids; ``clients`` counts those known, by default just these. The model
    and the strategy's state beside it are forced to disk before they have their names; with a state, ``metadata``
    must tell the round. Raises ConfigError if the result is not finite, DataError if the state of ``base`` is gone.
    """
    model, state = folder / f".fold.{os.getpid()}.tmp", folder / f".fold-state.{os.getpid()}.tmp"
    number = int(metadata.get("round", "0"))
    try:
        with ExitStack() as stack:
            before = find_state(base, strategy.server_state, number)
            sources = Sources(base, updates, before, strategy.server_state, stack)
            gathered = _gathered(strategy, base, updates, sources, clients)
            drafts = [_Draft(model, base.tensors, metadata, stack)]
            if strategy.server_state:
                about = {"strategy": strategy.name, "round": str(number)}
                drafts.append(_Draft(state, layout(strategy.server_state, base.tensors), about, stack))
            work = _Fold(strategy, base, sources, gathered, *drafts)
            leaves = b"".join(_mapped(work.leaf, range(-(-base.size // LEAF_BYTES))))
            manifest = Manifest(groups_of(base.tensors, MODEL), base.size, MAX_CHUNK_BYTES, leaves)
            for draft in drafts:
                draft.finish(manifest.digest)
        if strategy.server_state:
            _name(state, state_path(folder, manifest.digest, number))
        _name(model, folder / f"{manifest.digest}.safetensors")
    finally:
        model.unlink(missing_ok=True)
        state.unlink(missing_ok=True)
    return manifest


def _name(draft: Path, path: Path) -> None:
    draft.replace(path)
    force_folder_to_disk(path.parent)


def _gathered(
    strategy: Strategy, base: ModelFile, updates: Sequence[SpooledUpdate], sources: Sources, clients: Clients | None
) -> Gathered:  # fmt: skip
    """What the strategy is told before the first piece; with a survey, after a first pass over all updates."""
    squares = products = None
    if strategy.survey is not Survey.NOTHING:
        size = LEAF_BYTES if strategy.survey is Survey.NORMS else piece_bytes_for(len(updates))
        parts = list(slices(whole_groups(base.tensors)[:1], 0, base.size, size))

        def look(part: Slice) -> Sums:
            return surveyed(strategy.survey, sources.deltas(part))

        total: Sums = sum(_mapped(look, parts), np.float64(0.0))
        squares, products = (total, None) if strategy.survey is Survey.NORMS else (None, total)
    facts = [update.facts for update in updates]
    return Gathered(facts, clients or Clients(len(facts), len(facts)), squares, products)


def _mapped(work: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[Found]:
    """``work`` of each item, in order, shared by threads where there are enough to share."""
    if len(items) <= 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(THREADS, "fold") as pool:
        yield from pool.map(work, items)


def unfit(data: bytes) -> str | None:
    """Why these float32 values must not be averaged, by name, or None. One pass: the squares' sum shows it."""
    values = np.frombuffer(data, "<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.dot(values, values)):
            return None
    return "absurd_values" if np.isfinite(values).all() else "not_finite"
