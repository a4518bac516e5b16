"""The run directory: what a run leaves for people and programs, and the lock that keeps a second aggregator out.

rounds.jsonl  global.safetensors  best.safetensors  config.json  evaluation.json  report.html      for everybody
journal.sqlite  models/  spool/  lock                                                              for a restart
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aggregator.journal import Journal
from aggregator.server_state import is_state, outdated
from aggregator.spool import Spool
from fl_protocol.errors import AccessRefused, ConfigError, DataError
from fl_protocol.modelfile import DIGEST_KEY, ModelFile, force_folder_to_disk, read_header

KEPT_MODELS = 2
GLOBAL, BEST = "global.safetensors", "best.safetensors"
OURS = ("rounds.jsonl", GLOBAL, BEST, "config.json", "evaluation.json", "parts.json", "report.html", "journal.sqlite",
        "journal.sqlite-wal", "journal.sqlite-shm", "models", "spool")  # fmt: skip


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A folder of ours alone, made if need be. Raises ConfigError if it cannot be used, AccessRefused if another has it."""
    lock = _open_lock(path)
    _take_lock(path, lock)
    try:
        yield
    finally:
        os.close(lock)


def _open_lock(path: Path) -> int:
    try:
        path.mkdir(parents=True, exist_ok=True)
        return os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write to {path} ({error.strerror}): give another --out") from None


def _take_lock(path: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise AccessRefused(
            f"another aggregator is working in {path}: stop it, or give this one another --job or --out"
        ) from None


class RunDirectory:
    """One run's folder, locked for as long as the object is open."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self.path = path
        self._new_folders = [folder for folder in (path, *path.parents) if not folder.exists()]
        self._lock = _open_lock(path)
        _take_lock(path, self._lock)
        self._bring_back()
        if fresh and (path / "journal.sqlite").exists():
            self._set_aside()
        self._asked = 0
        self._found = [name for name in OURS if (path / name).exists()]
        self.models.mkdir(exist_ok=True)
        (path / "spool").mkdir(exist_ok=True)
        for leftover in (*path.glob(".*.tmp"), *self.models.glob(".*.tmp")):
            leftover.unlink(missing_ok=True)
        self.journal = Journal(path / "journal.sqlite")
        self.spool = Spool(path / "spool")

    @property
    def _aside(self) -> Path:
        return self.path / ".before-fresh"

    def _set_aside(self) -> None:
        """A run that --fresh replaces goes for good only when the new one has begun: the command may be a slip."""
        self._aside.mkdir()
        for name in OURS:
            if (self.path / name).exists():
                (self.path / name).rename(self._aside / name)

    def _bring_back(self) -> None:
        """Undo :meth:`_set_aside`, also one that a killed process left; unless the new run has begun."""
        if not self._aside.is_dir():
            return
        if not self._has_begun():
            self._remove(OURS)
            for kept in self._aside.iterdir():
                kept.rename(self.path / kept.name)
        shutil.rmtree(self._aside)

    def _has_begun(self) -> bool:
        if not (self.path / "journal.sqlite").exists():
            return False
        journal = Journal(self.path / "journal.sqlite")
        begun = journal.get("base") is not None
        journal.close()
        return begun

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            target = self.path / name
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it. If no run was begun (a mistake in the settings), leave things as they were found."""
        self.spool.close_all()
        unused = self.journal.get("base") is None
        self.journal.close()
        if unused:
            self._remove([name for name in OURS if name not in self._found])
            self._bring_back()
            (self.path / "lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody put something there
                for folder in self._new_folders:
                    folder.rmdir()
        with contextlib.suppress(OSError):
            os.close(self._lock)

    # --- models -----------------------------------------------------------------------------------------------

    @property
    def models(self) -> Path:
        return self.path / "models"

    def model_path(self, digest: str) -> Path:
        return self.models / f"{digest}.safetensors"

    def model(self, digest: str) -> ModelFile:
        """The header of a kept model. Raises DataError if it is gone or cut."""
        try:
            return read_header(self.model_path(digest))
        except DataError as error:
            raise DataError(f"{error}; or start over with --fresh") from None

    def publish_global(self, digest: str) -> None:
        """Let global.safetensors be this model, in one step."""
        self._publish(digest, GLOBAL)

    def publish_best(self, digest: str) -> bool:
        """Let best.safetensors be this model, in one step. False if it is not, and the model is gone."""
        with contextlib.suppress(DataError):
            if read_header(self.path / BEST).metadata.get(DIGEST_KEY) == digest:
                return True
        if not self.model_path(digest).exists():
            return False
        self._publish(digest, BEST)
        return True

    def _publish(self, digest: str, name: str) -> None:
        draft = self.path / f".{name}.{os.getpid()}.tmp"
        draft.unlink(missing_ok=True)
        try:
            os.link(self.model_path(digest), draft)
        except OSError:  # a file system without hard links, such as a Pi's boot partition
            shutil.copyfile(self.model_path(digest), draft)
        draft.replace(self.path / name)
        draft.unlink(missing_ok=True)  # a rename between two names of one file does nothing
        force_folder_to_disk(self.path)

    def keep_models(self, digests: Sequence[str]) -> None:
        """Remove every model but these, and what the strategy kept beside it."""
        for file in self.models.glob("*.safetensors"):
            if file.stem not in digests and not is_state(file):
                file.unlink(missing_ok=True)
        for file in outdated(self.models, digests):
            file.unlink(missing_ok=True)

    # --- files for people -------------------------------------------------------------------------------------

    def write_json(self, name: str, value: Any) -> None:
        """Replace a JSON file in one step."""
        draft = self.path / f".{name}.{os.getpid()}.tmp"
        draft.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n", "utf-8")
        draft.replace(self.path / name)

    # --- how many rounds --------------------------------------------------------------------------------------

    def rounds_for(self, asked: int) -> int:
        """How many rounds the run is to have, if its command asks for so many: operators may have added some since."""
        known = self.journal.get("rounds") or {}
        self._asked = asked
        return int(known["now"]) if known.get("asked") == asked else asked

    def keep_rounds(self, rounds: int) -> None:
        """The run is to have so many rounds, also when the same command goes on with it."""
        self.journal.put("rounds", {"asked": self._asked, "now": rounds})
        settings = json.loads((self.path / "config.json").read_text("utf-8"))
        self.write_json("config.json", settings | {"rounds": {"value": rounds, "source": "operator"}})

    @property
    def run_id(self) -> str | None:
        """What tells this run from any other; one of an older Hilum has none."""
        found = self.journal.get("run_id")
        return found if isinstance(found, str) else None

    # --- rounds.jsonl -----------------------------------------------------------------------------------------

    def write_rounds(self, records: Iterable[dict[str, Any]]) -> None:
        """rounds.jsonl from the journal: after a restart it may lack a line, or hold half of one."""
        draft = self.path / f".rounds.{os.getpid()}.tmp"
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(_line(record) for record in records)
        draft.replace(self.path / "rounds.jsonl")

    def append_round(self, record: dict[str, Any]) -> None:
        with (self.path / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write(_line(record))

    # --- identity ---------------------------------------------------------------------------------------------

    def check_identity(self, identity: dict[str, Any]) -> None:
        """Raises ConfigError if the directory belongs to a run of another job, task, model, image size or strategy.

        A strategy's options may change, as the clients' learning rate may: what it keeps means the same. Another
        strategy would take this one's state for its own.

        A run that failed before it had a first model has left nothing to belong to.
        """
        known = self.journal.get("identity")
        if known is None or self.journal.get("base") is None:
            self.journal.put("identity", identity)
            return
        for key, value in identity.items():
            if known.get(key, False) != value:  # a flag that an older run does not know was not set
                raise ConfigError(
                    f"{self.path} holds a run with {key} {known.get(key)!r}, not {value!r}: "
                    "give another --out, or --fresh to start over"
                )

    def begin(self, identity: dict[str, Any], base: str) -> None:
        """A run begins here, with its first model: from now on the directory is this run's."""
        with self.journal.transaction():
            self.journal.put("identity", identity)
            self.journal.put("base", base)
            self.journal.put("run_id", secrets.token_hex(8))
        shutil.rmtree(self._aside, ignore_errors=True)

    def check_global(self) -> None:
        """Raises DataError if global.safetensors is there but broken: somebody should know before it is replaced."""
        path = self.path / GLOBAL
        if path.exists():
            try:
                read_header(path)
            except DataError as error:
                raise DataError(f"{error}; or start over with --fresh") from None


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(", ", ": "), allow_nan=False) + "\n"
