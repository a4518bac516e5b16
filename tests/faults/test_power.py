"""The power fails between a write and its fsync: what was acknowledged is there, and the run ends in the same bytes.

A disk's promise is modelled as POSIX gives it: after a power cut a file holds what its last fsync saw and a folder the
names its last fsync saw; everything else may be gone, so here it is. SQLite keeps that promise itself: its files are
taken as they are, and a test holds its settings.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from aggregator.first_model import name_model
from aggregator.journal import Journal
from tests.payloads import floats, model_file
from tests.scenarios.test_crash import SIZE, Killed, Process, left_behind

SQLITE = ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm")


class Disk:
    """What of a folder would survive a power cut now: spies on fsync and fdatasync."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}

    def synced(self, fd: int) -> None:
        """``fd``, a file or a folder, was forced to disk."""
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if self.root not in (path, *path.parents):
            return
        here = os.fstat(fd)
        if path.is_dir():
            self._names[here.st_ino] = {each.name: each.stat().st_ino for each in path.iterdir()}
        else:
            self._contents[here.st_ino] = path.read_bytes()

    def after_the_cut(self, to: Path) -> None:
        """Lay out at ``to`` what is left."""
        self._folder(self.root, to)
        for name in SQLITE:
            if (self.root / name).exists():
                shutil.copyfile(self.root / name, to / name)

    def _folder(self, folder: Path, to: Path) -> None:
        to.mkdir()
        current = {each.stat().st_ino: each for each in folder.iterdir()}
        for name, inode in self._names.get(folder.stat().st_ino, {}).items():
            kept = current.get(inode)
            if kept is not None and kept.is_dir():
                self._folder(kept, to / name)
            elif name not in SQLITE:
                (to / name).write_bytes(self._contents.get(inode, b""))
        for path in (
            current.values()
        ):  # folders made before the run's first fsync: by us, in a moment without promises
            if path.is_dir() and not (to / path.name).exists():
                (to / path.name).mkdir()


class Life(Process):
    """A life that begins as the command does: with a first model on disk under its digest, then in the journal."""

    def _base(self) -> str:
        base = self.run.journal.get("base")
        if base is None:
            draft = self.run.models / ".first.tmp"
            model_file(draft, {"w": floats(SIZE, 0)})
            base = name_model(self.run, draft, control_variates=False)
            draft.unlink()
            self.run.publish_global(base)
            self.run.begin({}, base)
        return str(base)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[Disk]:
    """The disk under test, put into the list by the test; fsync and fdatasync tell it."""
    disks: list[Disk] = []
    real = os.fsync, os.fdatasync

    def spied(force: Any) -> Any:
        def forced(fd: Any) -> None:
            force(fd)
            for each in disks:
                each.synced(fd if isinstance(fd, int) else fd.fileno())

        return forced

    monkeypatch.setattr(os, "fsync", spied(real[0]))
    monkeypatch.setattr(os, "fdatasync", spied(real[1]))
    return disks


def promised(folder: Path) -> set[tuple[str, str]]:
    """Clients and transfers whose updates the journal holds, or held when their round ended."""
    journal = Journal(folder / "journal.sqlite")
    try:
        unfinished = journal.unfinished()
        return {(each.client_id, each.transfer) for each in (unfinished.accepted if unfinished else ())}
    finally:
        journal.close()


def test_the_power_fails_before_any_step(tmp_path: Path, disk: list[Disk]) -> None:
    calm = tmp_path / "calm"
    process = Life(calm)
    process.live()
    wanted = left_behind(calm)
    for fuse in range(process.steps):
        folder, rest = tmp_path / f"{fuse}", tmp_path / f"{fuse}-after"
        disk[:] = [Disk(folder)]
        life = Life(folder, fuse)
        with pytest.raises(Killed):
            life.live()
        disk[0].after_the_cut(rest)
        disk.clear()
        ended = {line["round"] for line in _records(rest)}
        for client, transfer in life.answers:
            number = int(transfer.split("-")[0])
            assert number in ended or (client, transfer) in promised(rest), (
                f"step {fuse}: {client} was told accepted"
            )
        Life(rest).live()
        left = left_behind(rest)
        # A removal may not have reached the disk: what of the past comes back with it is taken away with the next round.
        del left["spool"]
        left["models"] = {name: model for name, model in left["models"].items() if name in wanted["models"]}
        assert left == {key: wanted[key] for key in left}, f"power cut before step {fuse}"


def _records(folder: Path) -> list[dict[str, Any]]:
    journal = Journal(folder / "journal.sqlite")
    try:
        return journal.records()
    finally:
        journal.close()


def test_sqlite_forces_every_commit_to_disk(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    settings = [
        journal._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
    ]
    journal.close()
    assert settings == ["wal", 2], "https://www.sqlite.org/pragma.html: 2 is FULL"
