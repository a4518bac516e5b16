"""Resized images on disk: one uncompressed ``.npz`` for each (list of files, image size), shared by processes.

The key holds every file's path, size and modification time, so that a changed folder is another key. Files
are written beside and renamed, so that any number of processes may share the folder; the least recently used go
when it outgrows MAX_BYTES.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fl_protocol.errors import DataError
from fl_tasks.folder import ImageFile
from fl_tasks.image_remarks import digests_of
from fl_tasks.images import read_image

MAX_BYTES = 4 * 1024**3
STALE_DRAFT_S = 3600.0
VERSION = 3
"""Goes up whenever images.py or dicom.py makes other pixels of the same file."""


@dataclass(frozen=True)
class Loaded:
    """uint8 (n, s, s) images, where each stands in the list asked for, and why the others are missing."""

    images: np.ndarray
    kept: np.ndarray
    problems: tuple[tuple[str, str], ...]  # (name, reason)


def load_images(files: Sequence[ImageFile], size: int, folder: Path, check: Callable[[], None]) -> Loaded:
    """All of ``files`` that can be read, from the cache or from disk. ``check`` may raise to give up."""
    path = folder / f"{_key(files, size)}.npz"
    found = _read(path)
    if found is None:
        found = _decode(files, size, check)
        with contextlib.suppress(OSError):  # a full or read-only disk costs time, not the round
            _write(path, found)
            _bound(folder, keep=path)
    return found


def count_duplicates(images: Iterable[np.ndarray]) -> int:
    """How many images repeat the pixels of another."""
    digests = digests_of(images)
    return len(digests) - len(set(digests))


def _key(files: Sequence[ImageFile], size: int) -> str:
    digest = hashlib.sha256(f"{VERSION} {size}\n".encode())
    for file in files:
        digest.update(
            f"{file.path.absolute()}\0{file.size}\0{file.mtime_ns}\n".encode(errors="surrogateescape")
        )
    return digest.hexdigest()[:40]


def _decode(files: Sequence[ImageFile], size: int, check: Callable[[], None]) -> Loaded:
    images = np.empty((len(files), size, size), dtype=np.uint8)
    kept: list[int] = []
    problems: list[tuple[str, str]] = []
    for index, file in enumerate(files):
        check()
        try:
            images[len(kept)] = read_image(file.path, size)
        except DataError as error:
            problems.append((file.name, str(error)))
        else:
            kept.append(index)
    return Loaded(images[: len(kept)], np.array(kept, dtype=np.int64), tuple(problems))


def _read(path: Path) -> Loaded | None:
    """What is cached at ``path``; None if there is nothing, or nothing usable."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            images, kept, problems = held["images"], held["kept"], held["problems"]
        os.utime(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Loaded(images, kept, tuple((str(name), str(reason)) for name, reason in problems))


def _write(path: Path, loaded: Loaded) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    problems = np.array(loaded.problems, dtype=np.str_).reshape(-1, 2)
    try:
        with draft.open("wb") as file:
            np.savez(file, images=loaded.images, kept=loaded.kept, problems=problems)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _bound(folder: Path, keep: Path) -> None:
    """Remove abandoned drafts, then the least recently used files beyond MAX_BYTES."""
    now = time.time()
    for draft in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if now - draft.stat().st_mtime > STALE_DRAFT_S:
                draft.unlink()
    held = []
    for path in folder.glob("*.npz"):
        with contextlib.suppress(FileNotFoundError):
            held.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in held)
    for _, size, path in sorted(held):
        if total <= MAX_BYTES:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            total -= size
