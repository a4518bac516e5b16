"""Where updates wait on disk: one flat float32 file an upload, written leaf by leaf, complete before it counts.

    <run>/spool/<round>/<client>.<transfer>.f32

A file left by an earlier try (a cut, a restart) is taken up again: its leaves are hashed, and those that are right
need not be sent again. So the bytes themselves are the record of progress.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fl_protocol.modelfile import force_folder_to_disk, write_at
from fl_protocol.tensors import LEAF_BYTES, MAX_CHUNK_BYTES, Group, Manifest, leaf_digests

TOGETHER = 8
Upload = tuple[int, str, str]
"""Round, client and transfer."""


class Spool:
    """The spool folder of a run. Methods raise OSError when the disk does (full, gone, read-only)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[tuple[str, str], int] = {}
        self._pool = ThreadPoolExecutor(TOGETHER, "spool")

    def path(self, round_number: int, client_id: str, transfer: str) -> Path:
        return self.folder / f"{round_number:06d}" / f"{client_id}.{transfer}.f32"

    def held_leaves(self, round_number: int, client_id: str, transfer: str, manifest: Manifest) -> list[int]:
        """The leaves an earlier try left on disk, verified. Opens the file for the writes to come, the only one
        that is open for this client.
        """
        path = self.path(round_number, client_id, transfer)
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            force_folder_to_disk(self.folder)
        is_new = not path.exists()
        self.close_client(client_id)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._open[client_id, transfer] = fd
        if is_new:
            return []
        spans = ((leaf, manifest.leaf_span(leaf)) for leaf in range(manifest.num_leaves))
        return [leaf for leaf, (at, length) in spans if manifest.leaf_is(leaf, os.pread(fd, length, at))]

    def write(self, client_id: str, transfer: str, offset: int, data: bytes) -> None:
        """Put a verified leaf in its place."""
        write_at(self._open[client_id, transfer], data, offset)

    def force_to_disk(self, uploads: Sequence[Upload]) -> dict[Upload, OSError]:
        """Return when these whole uploads survive a power cut: only then may they be acknowledged.

        All at once, since a file system serves what is asked of it together with one write of its journal. Returns
        those that the disk did not take.
        """
        failed: dict[Upload, OSError] = {}

        def force(upload: Upload) -> None:
            try:
                os.fdatasync(self._open[upload[1:]])
            except OSError as error:
                failed[upload] = error

        if len(uploads) == 1:
            force(uploads[0])
        else:
            list(self._pool.map(force, uploads))
        try:
            for folder in {self.path(*upload).parent for upload in uploads}:
                force_folder_to_disk(folder)
        except OSError as error:
            failed = dict.fromkeys(uploads, error)
        for _, client_id, transfer in uploads:
            self.close(client_id, transfer)
        return failed

    def close(self, client_id: str, transfer: str) -> None:
        fd = self._open.pop((client_id, transfer), None)
        if fd is not None:
            os.close(fd)

    def close_client(self, client_id: str) -> None:
        """Close what is open for a client: what it sent so far stays on disk."""
        for key in [key for key in self._open if key[0] == client_id]:
            self.close(*key)

    def leaves(self, round_number: int, client_id: str, transfer: str, manifest: Manifest) -> Iterator[bytes]:
        """The leaves as they are on disk now."""
        fd = self._open[client_id, transfer]
        for leaf in range(manifest.num_leaves):
            at, length = manifest.leaf_span(leaf)
            yield os.pread(fd, length, at)

    def discard(self, uploads: Iterable[Upload]) -> None:
        """Remove updates that are in a model by now."""
        for upload in uploads:
            self.path(*upload).unlink(missing_ok=True)

    def is_whole(self, upload: Upload, digest: str, groups: Sequence[Group]) -> bool:
        """Whether the bytes on disk are those of an update of this layout and digest."""
        size = sum(group.num_bytes for group in groups)
        path = self.path(*upload)
        if not path.is_file() or path.stat().st_size != size:
            return False
        with path.open("rb") as file:
            leaves = leaf_digests(iter(partial(file.read, LEAF_BYTES), b""))
        return Manifest(tuple(groups), size, MAX_CHUNK_BYTES, leaves).digest == digest

    def discard_up_to(self, round_number: int) -> None:
        """Remove what ended rounds left."""
        for folder in self.folder.glob("[0-9]*"):
            if int(folder.name) <= round_number:
                shutil.rmtree(folder, ignore_errors=True)

    def close_all(self) -> None:
        for key in list(self._open):
            self.close(*key)
        self._pool.shutdown()
