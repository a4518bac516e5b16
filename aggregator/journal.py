"""What a restart needs, in SQLite: every promise made to a client is in here before the client hears of it.

    run       settings that must not change within a run, and the models that are published
    rounds    each round: as opened, as closed with a set of updates, as recorded
    updates   accepted updates, by the round that folds them; their bytes are in the spool

WAL with synchronous=FULL: a commit survives a power cut. The first page of truth is the database; rounds.jsonl is
written from it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aggregator.events import KeepRound, KeepUpdate
from aggregator.round import OpenRound, Update
from aggregator.strategy import Clients
from fl_protocol.errors import DataError

SCHEMA = """
CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rounds (
    number INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, cohort TEXT NOT NULL, base TEXT NOT NULL,
    quorum INTEGER NOT NULL, started_at TEXT NOT NULL, closed INTEGER NOT NULL DEFAULT 0, digest TEXT,
    record TEXT);
CREATE TABLE IF NOT EXISTS updates (
    round INTEGER NOT NULL, client_id TEXT NOT NULL, transfer TEXT NOT NULL, digest TEXT NOT NULL,
    num_examples INTEGER NOT NULL, metrics TEXT NOT NULL, staleness INTEGER NOT NULL,
    PRIMARY KEY (round, client_id, staleness));
"""
CHECKPOINT_EVERY = 256
"""Rounds until the WAL, a few pages a commit, is folded into the database."""
SCHEMA_VERSION = 1
"""Counted up when a table changes: a run of another version is not gone on with."""


class Journal:
    """The journal of one run directory."""

    def __init__(self, path: Path) -> None:
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA wal_autocheckpoint=0")  # a copy of main file and WAL must be of one age
            self._check_version(path)
            self._db.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{path} cannot be used ({error}): restore it, or start over with --fresh"
            ) from None

    def _check_version(self, path: Path) -> None:
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        is_new = not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if is_new:
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif found != SCHEMA_VERSION:
            raise DataError(
                f"{path} was written by another version of Hilum: go on with that one, give another --out, "
                "or start over with --fresh"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several writes, one commit."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

    # --- the run --------------------------------------------------------------------------------------------

    def get(self, key: str) -> Any:
        row = self._db.execute("SELECT value FROM run WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, key: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, json.dumps(value)))

    # --- rounds ---------------------------------------------------------------------------------------------

    def keep_round(self, opened: KeepRound, started_at: str) -> None:
        """A round, or another attempt of it, was opened; the first attempt's start stands."""
        self._db.execute(
            "INSERT INTO rounds (number, attempt, cohort, base, quorum, started_at) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (number) DO UPDATE SET attempt = excluded.attempt, cohort = excluded.cohort, "
            "base = excluded.base, quorum = excluded.quorum",
            (
                opened.number,
                opened.attempt,
                json.dumps(opened.cohort),
                opened.base,
                opened.quorum,
                started_at,
            ),
        )

    def keep_updates(self, updates: Sequence[KeepUpdate]) -> None:
        """Accepted updates, in one commit."""
        with self.transaction():
            for kept in updates:
                update = kept.update
                self._db.execute(
                    "INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (kept.round_number, update.client_id, update.transfer, update.digest, update.num_examples,
                     json.dumps(update.metrics), update.staleness),
                )  # fmt: skip

    def forget_updates(self, number: int, lost: Sequence[Update]) -> None:
        """Accepted updates that are on disk no more: the round is open again, in another attempt, so that those who
        had been answered train again.
        """
        with self.transaction():
            for update in lost:
                self._db.execute(
                    "DELETE FROM updates WHERE round = ? AND client_id = ? AND transfer = ?",
                    (number, update.client_id, update.transfer),
                )
            self._db.execute(
                "UPDATE rounds SET closed = 0, attempt = attempt + 1 WHERE number = ?", (number,)
            )

    def close_round(self, number: int) -> None:
        """The set of updates is final."""
        self._db.execute("UPDATE rounds SET closed = 1 WHERE number = ?", (number,))

    def adopt(self, number: int, digest: str) -> None:
        """The round's model is the global one."""
        with self.transaction():
            self._db.execute("UPDATE rounds SET digest = ? WHERE number = ?", (digest, number))
            self.put("base", digest)

    def keep_record(self, number: int, record: dict[str, Any]) -> None:
        """The round has ended; its updates are of the past."""
        with self.transaction():
            self._db.execute("UPDATE rounds SET record = ? WHERE number = ?", (json.dumps(record), number))
            self._db.execute("DELETE FROM updates WHERE round <= ?", (number,))
        if number % CHECKPOINT_EVERY == 0:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # --- taking back (restoring.py says when) -----------------------------------------------------------------

    def models(self) -> list[tuple[int, str]]:
        """Rounds done and the model that was global then, newest first: all that a run can go on from."""
        rows = self._db.execute(
            "SELECT number, json_extract(record, '$.model_sha256') FROM rounds WHERE record IS NOT NULL "
            "UNION SELECT number - 1, base FROM rounds ORDER BY 1 DESC"
        )
        return [(int(done), str(digest)) for done, digest in rows]

    def step_back(self, done: int, digest: str) -> None:
        """As after round ``done``: what came later is forgotten, but for the updates of the round after it."""
        with self.transaction():
            ended = "number > ? AND (record IS NOT NULL OR number > ?)"
            self._db.execute(f"DELETE FROM rounds WHERE {ended}", (done, done + 1))  # noqa: S608 - no value in it
            self._db.execute("UPDATE rounds SET digest = NULL WHERE number > ?", (done,))
            self._db.execute("DELETE FROM updates WHERE round > ?", (done + 1,))
            self.put("base", digest)

    def started_at(self, number: int) -> str:
        row = self._db.execute("SELECT started_at FROM rounds WHERE number = ?", (number,)).fetchone()
        return row[0] if row else ""

    def clients(self, number: int) -> Clients:
        """How many clients were ever invited: up to this round, and before it."""
        known, before = (
            self._db.execute(
                "SELECT COUNT(DISTINCT each.value) FROM rounds, json_each(rounds.cohort) AS each "
                "WHERE rounds.number <= ?", (last,),
            ).fetchone()[0]
            for last in (number, number - 1)
        )  # fmt: skip
        return Clients(known, before)

    # --- reading it back ------------------------------------------------------------------------------------

    def records(self) -> list[dict[str, Any]]:
        """The records of all ended rounds, in order."""
        return list(self.each_record())

    def each_record(self) -> Iterator[dict[str, Any]]:
        """The same, one at a time: a run may have had thousands."""
        rows = self._db.execute("SELECT record FROM rounds WHERE record IS NOT NULL ORDER BY number")
        return (json.loads(row[0]) for row in rows)

    def record(self, number: int) -> dict[str, Any] | None:
        """The record of one round, if it has ended."""
        row = self._db.execute("SELECT record FROM rounds WHERE number = ?", (number,)).fetchone()
        return json.loads(row[0]) if row and row[0] is not None else None

    def newest(self, most: int) -> list[dict[str, Any]]:
        """The records of the last ``most`` ended rounds, in order."""
        rows = self._db.execute(
            "SELECT record FROM rounds WHERE record IS NOT NULL ORDER BY number DESC LIMIT ?", (most,)
        )
        return [json.loads(row[0]) for row in rows][::-1]

    def unfinished(self) -> OpenRound | None:
        """The round that was under way when the process ended."""
        row = self._db.execute(
            "SELECT number, attempt, cohort, base, quorum, closed, digest FROM rounds WHERE record IS NULL"
        ).fetchone()
        if row is None:
            return None
        number, attempt, cohort, base, quorum, closed, digest = row
        return OpenRound(
            number,
            attempt,
            tuple(json.loads(cohort)),
            base,
            quorum,
            tuple(self._updates(number)),
            bool(closed),
            digest,
        )

    def _updates(self, number: int) -> Iterator[Update]:
        rows = self._db.execute(
            "SELECT client_id, transfer, digest, num_examples, metrics, staleness FROM updates WHERE round = ? "
            "ORDER BY client_id, staleness DESC", (number,),
        )  # fmt: skip
        for client_id, transfer, digest, num_examples, metrics, staleness in rows:
            yield Update(client_id, transfer, digest, num_examples, json.loads(metrics), staleness)
