"""Models and updates on disk: safetensors files of float32 tensors, sorted by name, laid end to end.

Control variates (``control/NAME``) come last (tensors.payload_order), so that a file's groups lie one after another.

In that order the data part of the file *is* the wire payload, so files are streamed to and from the wire in
pieces and never held whole. Reading and writing are ours: the library can only write what is in memory as a whole,
and loads numpy to read a header, which costs an idle edge 13 MB. Tests hold both against the library.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fl_protocol.errors import DataError
from fl_protocol.tensors import (
    CONTROL_PREFIX,
    LEAF_BYTES,
    Manifest,
    TensorSpec,
    groups_of,
    leaf_digests,
    payload_order,
)

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk says that takes no more: somebody may make room."""
MAX_HEADER_BYTES = 100_000_000  # as in the safetensors library
DIGEST_KEY = "sha256"
"""Metadata key of a global model: the digest of its tensors (tensors.py says of what)."""


@dataclass(frozen=True)
class ModelFile:
    """The header of a safetensors file: where its payload begins, its layout and its metadata."""

    path: Path
    tensors: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    offset: int
    size: int

    def pieces(self, piece_bytes: int = LEAF_BYTES) -> Iterator[bytes]:
        """The payload in pieces of ``piece_bytes`` (the last may be shorter)."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            left = self.size
            while left:
                piece = file.read(min(piece_bytes, left))
                if not piece:
                    raise DataError(f"{self.path} ends early: it was cut while it was read")
                left -= len(piece)
                yield piece

    def manifest(
        self, group: str, chunk_bytes: int, *, round_number: int = 0, predecessor: str | None = None,
        with_metadata: bool = False,
    ) -> Manifest:  # fmt: skip
        """The manifest of this file's payload; reads and hashes all of it. ``group`` names what is no control variate."""
        return Manifest(
            groups=groups_of(self.tensors, group), size=self.size, chunk_bytes=chunk_bytes,
            leaves=leaf_digests(self.pieces()), round_number=round_number, predecessor=predecessor,
            metadata=dict(self.metadata) if with_metadata else None,
        )  # fmt: skip


def header_bytes(tensors: Sequence[TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """The start of a safetensors file whose payload is ``tensors`` end to end, padded to 64 bytes."""
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for spec in tensors:
        end = at + 4 * spec.num_values
        entries[spec.name] = {"dtype": "F32", "shape": list(spec.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return len(text).to_bytes(8, "little") + text


def read_header(path: Path) -> ModelFile:
    """The checked header of ``path``.

    Raises DataError if the file is missing, cut, no safetensors file, or holds anything but float32 tensors
    in payload order and laid end to end.
    """
    try:
        with path.open("rb") as file:
            entries, offset = _entries(file)
            size = os.fstat(file.fileno()).st_size - offset
        metadata = {str(key): str(value) for key, value in entries.pop("__metadata__", {}).items()}
        tensors = tuple(
            TensorSpec(name, _shape(entries[name])) for name in sorted(entries, key=payload_order)
        )
        foreign = any(entry["dtype"] != "F32" for entry in entries.values())
        spans = {name: tuple(entry["data_offsets"]) for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(path, error) from None
    if foreign:
        raise DataError(f"{path} holds tensors that are not float32: convert them first")
    if sum(4 * spec.num_values for spec in tensors) != size:
        raise _unusable(path, ValueError("its size is not that of its tensors"))
    if not _end_to_end(tensors, spans):
        raise DataError(f"{path} does not keep its tensors sorted by name: load and save it with Hilum once")
    return ModelFile(path, tensors, metadata, offset, size)


def _entries(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header's JSON, and where the payload begins. Raises ValueError for what cannot be a header."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ValueError("it has no header")
    text = file.read(length)
    if len(text) != length:
        raise ValueError("its header is cut")
    entries = json.loads(text)
    if not isinstance(entries, dict):
        raise ValueError("its header is no map")  # noqa: TRY004 - the file's fault, as above
    return entries, 8 + length


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    shape = entry["shape"]
    if not all(type(each) is int and each >= 0 for each in shape):
        raise ValueError("a shape is not made of whole numbers")
    return tuple(shape)


def _end_to_end(tensors: Sequence[TensorSpec], spans: Mapping[str, tuple[int, ...]]) -> bool:
    at = 0
    for spec in tensors:
        end = at + 4 * spec.num_values
        if spans[spec.name] != (at, end):
            return False
        at = end
    return True


def _unusable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is not a usable model file ({_reason(error)}): give a whole .safetensors file")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    return str(error).splitlines()[0][:120] if type(error) is ValueError else "its header is damaged"


def write(
    path: Path,
    tensors: Sequence[TensorSpec],
    metadata: Mapping[str, str],
    pieces: Iterable[bytes | memoryview],
    *,
    durable: bool = True,
) -> None:
    """Write a whole file: beside ``path`` first, then renamed over it.

    ``durable``: forced to disk before. A file that is checked by its digest and can be made again need not be.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            file.write(header_bytes(tensors, metadata))
            for piece in pieces:
                file.write(piece)
            if durable:
                force_to_disk(file)
        draft.replace(path)
        if durable:
            force_folder_to_disk(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def with_control(model: ModelFile) -> tuple[tuple[TensorSpec, ...], Iterator[bytes]]:
    """Layout and payload of ``model`` with a control variate behind it, as SCAFFOLD begins: its own, or zeros."""
    if any(spec.name.startswith(CONTROL_PREFIX) for spec in model.tensors):
        return model.tensors, model.pieces()
    control = tuple(TensorSpec(CONTROL_PREFIX + spec.name, spec.shape) for spec in model.tensors)
    zeros = (bytes(min(LEAF_BYTES, model.size - at)) for at in range(0, model.size, LEAF_BYTES))
    return (*model.tensors, *control), itertools.chain(model.pieces(), zeros)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """All of ``data`` at ``offset``: a disk that fills up writes less than it was given, and only then raises."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest, offset = rest[written:], offset + written


def force_to_disk(file: BinaryIO) -> None:
    """Return when the file's bytes survive a power cut."""
    file.flush()
    os.fdatasync(file.fileno())


def force_folder_to_disk(folder: Path) -> None:
    """Return when renames in ``folder`` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
