"""The global model on the broker: a manifest and its blocks, retained; at most two versions, the rest cleared."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fl_protocol.codec import encode
from fl_protocol.messages import Chunk
from fl_protocol.modelfile import ModelFile
from fl_protocol.tensors import CHUNKS_PER_BLOCK, Manifest
from fl_protocol.topics import Kind, Topic


class Outlet(Protocol):
    """As much of a transport as publishing needs."""

    def publish(
        self, topic: str, payload: bytes | Callable[[], bytes], *, retain: bool = False, bulk: bool = False
    ) -> None: ...  # fmt: skip


class Publisher:
    """Which models of a job lie on the broker."""

    def __init__(self, job: str, outlet: Outlet) -> None:
        self._job = job
        self._outlet = outlet
        self._published: dict[str, Manifest] = {}

    @property
    def published(self) -> list[str]:
        """Digests of the models on the broker, oldest first."""
        return list(self._published)

    def publish(self, model: ModelFile, manifest: Manifest) -> None:
        """Publish a model, or publish it again. Chunks are read from the file when it is their turn."""
        digest = manifest.digest
        before = self._published.pop(digest, None)
        self._published[digest] = manifest
        if before is not None:
            self._clear_chunks(digest, range(manifest.num_chunks, before.num_chunks))
        self._outlet.publish(self._topic(Kind.MODEL, digest), encode(manifest), retain=True)
        for index in range(manifest.num_chunks):
            offset, length = manifest.chunk_span(index)
            payload = _lazy_chunk(model.path, index, model.offset + offset, length)
            self._outlet.publish(
                self._block(digest, index), payload, retain=True, bulk=manifest.num_chunks > 1
            )

    def found(self, digest: str, manifest: Manifest) -> None:
        """A retained manifest is on the broker that an earlier life of ours, or another run, left there."""
        current = self._published.setdefault(digest, manifest)
        self._clear_chunks(digest, range(current.num_chunks, manifest.num_chunks))

    def keep_only(self, digests: list[str]) -> None:
        """Clear every other model: an empty retained message removes the one before it."""
        for digest in [known for known in self._published if known not in digests]:
            manifest = self._published.pop(digest)
            self._outlet.publish(self._topic(Kind.MODEL, digest), b"", retain=True)
            self._clear_chunks(digest, range(manifest.num_chunks))

    def _clear_chunks(self, digest: str, indexes: range) -> None:
        for index in indexes:
            self._outlet.publish(self._block(digest, index), b"", retain=True, bulk=True)

    def _topic(self, kind: Kind, digest: str) -> str:
        return str(Topic(self._job, kind, digest=digest))

    def _block(self, digest: str, index: int) -> str:
        return str(Topic(self._job, Kind.BLOCK, digest=digest, block=index // CHUNKS_PER_BLOCK, index=index))


def _lazy_chunk(path: Path, index: int, offset: int, length: int) -> Callable[[], bytes]:
    def read() -> bytes:
        """The frame, or an empty message (which clears the topic) if the model was replaced in the meantime."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return encode(Chunk(index, os.pread(fd, length, offset)))
        finally:
            os.close(fd)

    return read
