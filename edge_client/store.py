"""What an edge keeps on disk, in its work folder: models by digest, the finished update, a lock.

models/<digest>.safetensors      whole and true
models/<digest>.part             on its way; what is true in it is found by hashing, not by notes beside it
outbox/<round>-<base>-<attempt>-<run>.safetensors, outbox/update.json
kept/<job>/                      what this site keeps of accepted rounds (kept.py)
cache/                           resized images, the task process's own
lock
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import IO

from edge_client.events import Update
from edge_client.kept import pending_of
from edge_client.rounds import Assignment
from fl_protocol.errors import AccessRefused, ConfigError, DataError
from fl_protocol.modelfile import FULL_DISK, header_bytes, read_header, write_at
from fl_protocol.tensors import DELTA, LEAF_BYTES, MAX_CHUNK_BYTES, MODEL, Manifest

CACHE = "cache"
OLDER_MODELS = 2
SUFFIX, PART = ".safetensors", ".part"


class Store:
    """Owns a work folder. Raises ConfigError if it cannot be used, AccessRefused if another edge owns it.

    ``older`` models are kept beside the newest; those in ``spared`` whatever their age.
    """

    def __init__(self, workdir: Path, older: int = OLDER_MODELS) -> None:
        self.older = older
        self.spared: frozenset[str] = frozenset()
        self.workdir = workdir
        self.models, self.outbox = workdir / "models", workdir / "outbox"
        try:
            for folder in (self.models, self.outbox, workdir / CACHE):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = (workdir / "lock").open("ab")
        except OSError as error:
            raise ConfigError(f"--workdir {workdir} cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise AccessRefused(
                f"another fl-edge works in {workdir}: stop it, or give this one a --client-id or --workdir of its own"
            ) from None
        self._verified: set[str] = set()
        self._outdated: set[str] = set()
        self._order = self.digests()
        self._noted = ""
        self._part: _Part | None = None

    def close(self) -> None:
        """Give the folder back."""
        if self._part is not None:
            self._part.file.close()
        self._lock.close()

    # --- models -------------------------------------------------------------------------------------------

    def model_path(self, digest: str) -> Path:
        return self.models / f"{digest}{SUFFIX}"

    def digests(self) -> list[str]:
        """Models that lie here by name, newest first."""
        files = sorted(self.models.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime, reverse=True)
        return [file.name.removesuffix(SUFFIX) for file in files]

    def has_model(self, digest: str) -> bool:
        """Whether the model is here and true; hashed once in a process's life."""
        path = self.model_path(digest)
        if digest in self._outdated or not path.is_file():
            return False
        if digest not in self._verified:
            try:
                found = read_header(path).manifest(MODEL, MAX_CHUNK_BYTES).digest
            except DataError:
                found = ""
            if found != digest:
                path.unlink()
                return False
            self._verified.add(digest)
        return True

    def open_part(self, digest: str, manifest: Manifest) -> tuple[int, ...]:
        """Open the unfinished file of a model; returns the leaves in it that are true."""
        if self._part is not None:
            self._part.file.close()
        tensors = [spec for group in manifest.groups for spec in group.tensors]
        header = header_bytes(tensors, manifest.metadata or {})
        path = self.models / f"{digest}{PART}"
        # Unbuffered: what the disk does not take is told by the write itself, and not again by the close.
        file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self._part = _Part(digest, path, file, len(header))
        held = _true_leaves(file, header, manifest)
        if not held:
            file.truncate(0)
            write_at(file.fileno(), header, 0)
            file.truncate(len(header) + manifest.size)
        return held

    def write_leaf(self, digest: str, offset: int, data: bytes) -> None:
        """A verified leaf of the open model."""
        if self._part is not None and self._part.digest == digest:
            write_at(self._part.file.fileno(), data, self._part.offset + offset)

    def seal(self, digest: str) -> list[str]:
        """The open model is whole: name it. Returns the digests of older models, which :meth:`sweep` will delete."""
        part, self._part = self._part, None
        if part is None or part.digest != digest:
            return []
        part.file.close()
        part.path.replace(self.model_path(digest))
        self._verified.add(digest)
        self._outdated.discard(digest)
        self._order = [digest, *(old for old in self._order if old != digest)]
        gone = [old for old in self._order[1 + self.older :] if old not in self.spared]
        self._order = [kept for kept in self._order if kept not in gone]
        self._outdated.update(gone)
        self._verified.difference_update(gone)
        return gone

    def sweep(self) -> None:
        """Delete models that are outdated and others' unfinished ones. Deleting is dear on some disks: done at leisure."""
        for old in self._outdated:
            self.model_path(old).unlink(missing_ok=True)
        self._outdated.clear()
        for other in self.models.glob(f"*{PART}"):
            if self._part is None or other != self._part.path:
                other.unlink()

    # --- the update ---------------------------------------------------------------------------------------

    @property
    def _note(self) -> Path:
        return self.outbox / "update.json"

    def update_path(self, work: Assignment) -> Path:
        """Where the update of ``work`` goes."""
        run = f"-{work.run_id[:16]}" if work.run_id else ""
        return self.outbox / f"{work.round_number}-{work.base[:16]}-{work.attempt}{run}{SUFFIX}"

    def keep_update(self, work: Assignment, num_examples: int, metrics: dict[str, float]) -> Update:
        """Note what is needed to offer the finished update of ``work``, also after a restart."""
        path = self.update_path(work)
        manifest = read_header(path).manifest(DELTA, MAX_CHUNK_BYTES)
        update = Update(work.round_number, work.base, num_examples, metrics, manifest, str(path))
        self._write_note(update, accepted=False)
        return update

    def keep_accepted(self, update: Update) -> None:
        """Note that it need not be offered again, unless a newer one is noted by now."""
        if self._noted == Path(update.file).name:
            self._write_note(update, accepted=True)

    def _write_note(self, update: Update, *, accepted: bool) -> None:
        note = {
            "round_number": update.round_number,
            "base": update.base,
            "num_examples": update.num_examples,
            "metrics": update.metrics,
            "digest": update.manifest.digest,
            "file": Path(update.file).name,
            "accepted": accepted,
        }
        draft = self._note.with_suffix(".tmp")
        draft.write_text(json.dumps(note))
        draft.replace(self._note)
        self._noted = str(note["file"])

    def load_update(self) -> tuple[Update, bool] | None:
        """The update that an earlier process left, if it is whole, and whether it was accepted; sweeps the rest."""
        found = self._load_note()
        wanted = (self._note, Path(found[0].file), pending_of(found[0].file)) if found else ()
        for file in self.outbox.iterdir():
            if file not in wanted:
                file.unlink()
        return found

    def _load_note(self) -> tuple[Update, bool] | None:
        # A power cut may have left anything here: what does not fit together is not an update.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, DataError):
            note = json.loads(self._note.read_text())
            path = self.outbox / Path(note["file"]).name
            manifest = read_header(path).manifest(DELTA, MAX_CHUNK_BYTES)
            if manifest.digest == note["digest"]:
                metrics = {str(name): float(value) for name, value in note["metrics"].items()}
                update = Update(
                    int(note["round_number"]),
                    str(note["base"]),
                    int(note["num_examples"]),
                    metrics,
                    manifest,
                    str(path),
                )
                self._noted = path.name
                return update, bool(note["accepted"])
        return None

    def drop_update(self, update: Update) -> None:
        """Delete an update and what would be kept of it; the note only if it speaks of this one."""
        for file in (Path(update.file), pending_of(update.file)):
            file.unlink(missing_ok=True)
        if self._noted == Path(update.file).name:
            self._note.unlink(missing_ok=True)
            self._noted = ""


def folder_in_use(workdir: Path) -> bool:
    """Whether another process owns the work folder; nothing in it is changed."""
    try:
        with (workdir / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class _Part:
    def __init__(self, digest: str, path: Path, file: IO[bytes], offset: int) -> None:
        self.digest, self.path, self.file, self.offset = digest, path, file, offset


def _true_leaves(file: IO[bytes], header: bytes, manifest: Manifest) -> tuple[int, ...]:
    """The leaves in ``file`` that hash to what the manifest says, if it begins with this header."""
    if file.read(len(header)) != header or os.fstat(file.fileno()).st_size != len(header) + manifest.size:
        return ()
    held = []
    for leaf in range(manifest.num_leaves):
        data = file.read(min(LEAF_BYTES, manifest.leaf_span(leaf)[1]))
        if manifest.leaf_is(leaf, data):
            held.append(leaf)
    return tuple(held)


def raise_unless_full(error: OSError) -> None:
    """A disk without space is waited out; whatever else is wrong with it ends the edge in one line."""
    if error.errno not in FULL_DISK:
        raise error
