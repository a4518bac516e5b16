"""From a base model and accepted updates on disk to the next global model on disk, leaf by leaf.

Memory is a few leaves a thread whatever the model's size and the number of clients. Leaves are independent, so two
threads share them (numpy and hashing release the interpreter lock); each leaf's own sum runs in client order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aggregator.strategy import Strategy
from fl_protocol.modelfile import DIGEST_KEY, ModelFile, force_folder_to_disk, header_bytes, write_at
from fl_protocol.tensors import LEAF_BYTES, MAX_CHUNK_BYTES, MODEL, Manifest, groups_of

THREADS = 2


@dataclass(frozen=True)
class SpooledUpdate:
    """An accepted update's bytes and its weight."""

    path: Path
    num_examples: int


class _Fold:
    def __init__(
        self, strategy: Strategy, base: ModelFile, updates: Sequence[SpooledUpdate], open_files: ExitStack
    ) -> None:
        self.strategy, self.base = strategy, base
        self.weights = [update.num_examples for update in updates]
        self.base_fd = self._opened(base.path, open_files)
        self.fds = [self._opened(update.path, open_files) for update in updates]

    @staticmethod
    def _opened(path: Path, open_files: ExitStack) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        open_files.callback(os.close, fd)
        return fd

    def leaf(self, index: int) -> bytes:
        """The bytes of one leaf of the next model."""
        at = index * LEAF_BYTES
        length = min(LEAF_BYTES, self.base.size - at)
        base = np.frombuffer(os.pread(self.base_fd, length, self.base.offset + at), "<f4")
        return self.strategy.combine(base, self._deltas(at, length)).astype("<f4", copy=False).tobytes()

    def _deltas(self, at: int, length: int) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        buffer = bytearray(length)
        delta = np.frombuffer(buffer, "<f4")
        for weight, fd in zip(self.weights, self.fds, strict=True):
            if os.preadv(fd, [buffer], at) != length:
                raise OSError(f"an update in the spool is shorter than {at + length} bytes")
            yield weight, delta


def fold(
    strategy: Strategy, base: ModelFile, updates: Sequence[SpooledUpdate], folder: Path, metadata: Mapping[str, str]
) -> Manifest:  # fmt: skip
    """Write the next global model to ``folder/<digest>.safetensors`` and return its manifest (without metadata).

    ``updates`` must be in the order of client ids. The file is forced to disk before it has its name.
    """
    draft = folder / f".fold.{os.getpid()}.tmp"
    num_leaves = -(-base.size // LEAF_BYTES)
    header = header_bytes(base.tensors, {**metadata, DIGEST_KEY: "0" * 64})
    try:
        with ExitStack() as stack:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            work = _Fold(strategy, base, updates, stack)

            def make(index: int) -> bytes:
                data = work.leaf(index)
                write_at(fd, data, len(header) + index * LEAF_BYTES)
                return hashlib.sha256(data).digest()

            if num_leaves <= 2:
                leaves = b"".join(map(make, range(num_leaves)))
            else:
                with ThreadPoolExecutor(THREADS, "fold") as pool:
                    leaves = b"".join(pool.map(make, range(num_leaves)))
            manifest = Manifest(groups_of(base.tensors, MODEL), base.size, MAX_CHUNK_BYTES, leaves)
            digest = manifest.digest
            write_at(fd, header_bytes(base.tensors, {**metadata, DIGEST_KEY: digest}), 0)
            os.fdatasync(fd)
        draft.replace(folder / f"{digest}.safetensors")
        force_folder_to_disk(folder)
    finally:
        draft.unlink(missing_ok=True)
    return manifest


def unfit(data: bytes) -> str | None:
    """Why these float32 values must not be averaged, by name, or None. One pass: the squares' sum shows it."""
    values = np.frombuffer(data, "<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.dot(values, values)):
            return None
    return "absurd_values" if np.isfinite(values).all() else "not_finite"
