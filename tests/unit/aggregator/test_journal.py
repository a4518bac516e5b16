"""What a restart finds: every promise, in the order in which it was made."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from aggregator.events import KeepRound, KeepUpdate
from aggregator.journal import Journal
from aggregator.round import OpenRound
from fl_protocol.errors import DataError
from tests.federations import BASE, update_of

OPENED = KeepRound(1, 1, ("a", "b"), BASE, 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def reopened(journal: Journal, path: Path) -> Journal:
    journal.close()
    return Journal(path)


def test_settings_of_the_run(path: Path) -> None:
    journal = Journal(path)
    assert journal.get("base") is None
    journal.put("base", "x")
    journal.put("base", BASE)
    journal.put("identity", {"job": "j", "image_size": 64})
    journal = reopened(journal, path)
    assert journal.get("base") == BASE
    assert journal.get("identity") == {"job": "j", "image_size": 64}
    journal.close()


def test_late_updates_are_kept_with_the_round_that_folds_them(path: Path) -> None:
    journal = Journal(path)
    journal.keep_round(KeepRound(3, 1, ("a", "b"), BASE, 1), "")
    kept = (
        update_of("a", 1, staleness=2),
        update_of("a", 2, staleness=1),
        update_of("a", 3),
        update_of("b", 3),
    )
    journal.keep_updates([KeepUpdate(3, update) for update in reversed(kept)])
    journal = reopened(journal, path)
    found = journal.unfinished()
    assert found is not None
    assert found.accepted == kept
    journal.close()


def test_a_run_of_another_version_is_left_alone(path: Path) -> None:
    old = sqlite3.connect(path)
    old.execute("CREATE TABLE updates (round INTEGER NOT NULL, client_id TEXT NOT NULL)")
    old.close()
    with pytest.raises(DataError, match=r"another version of Hilum: .* --fresh"):
        Journal(path)
    db = sqlite3.connect(path)
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("updates",)]
    db.close()


def test_a_round_from_its_opening_to_its_record(path: Path) -> None:
    journal = Journal(path)
    assert journal.unfinished() is None
    journal.keep_round(OPENED, "2026-01-01T00:00:00")
    journal = reopened(journal, path)
    assert journal.unfinished() == OpenRound(1, 1, ("a", "b"), BASE, 1, (), closed=False)
    journal.keep_updates([KeepUpdate(1, update_of("b", loss=0.5))])
    journal.keep_updates([KeepUpdate(1, update_of("a"))])
    journal = reopened(journal, path)
    both = (update_of("a"), update_of("b", loss=0.5))
    assert journal.unfinished() == OpenRound(1, 1, ("a", "b"), BASE, 1, both, closed=False)
    journal.close_round(1)
    journal = reopened(journal, path)
    assert journal.unfinished() == OpenRound(1, 1, ("a", "b"), BASE, 1, both, closed=True)
    journal.adopt(1, "d" * 64)
    journal = reopened(journal, path)
    assert journal.unfinished() == OpenRound(1, 1, ("a", "b"), BASE, 1, both, closed=True, digest="d" * 64)
    assert journal.get("base") == "d" * 64
    journal.keep_record(1, {"round": 1, "outcome": "closed"})
    journal = reopened(journal, path)
    assert journal.unfinished() is None
    assert journal.records() == [{"round": 1, "outcome": "closed"}]
    journal.close()


def test_another_attempt_keeps_updates_and_the_first_start(path: Path) -> None:
    journal = Journal(path)
    journal.keep_round(OPENED, "first")
    journal.keep_updates([KeepUpdate(1, update_of("a"))])
    journal.keep_round(KeepRound(1, 2, ("a", "c"), BASE, 2), "second")
    assert journal.unfinished() == OpenRound(1, 2, ("a", "c"), BASE, 2, (update_of("a"),), closed=False)
    assert journal.started_at(1) == "first"
    assert journal.started_at(2) == ""
    journal.close()


def test_the_same_update_twice_is_one(path: Path) -> None:
    journal = Journal(path)
    journal.keep_round(OPENED, "")
    journal.keep_updates([KeepUpdate(1, update_of("a"))])
    journal.keep_updates([KeepUpdate(1, update_of("a"))])
    unfinished = journal.unfinished()
    assert unfinished is not None
    assert unfinished.accepted == (update_of("a"),)
    journal.close()


def test_updates_belong_to_their_round(path: Path) -> None:
    journal = Journal(path)
    journal.keep_round(OPENED, "")
    journal.keep_updates([KeepUpdate(1, update_of("a"))])
    journal.keep_record(1, {"round": 1})
    journal.keep_round(KeepRound(2, 1, ("a",), BASE, 1), "")
    unfinished = journal.unfinished()
    assert unfinished is not None
    assert (unfinished.number, unfinished.accepted) == (2, ())
    assert [record["round"] for record in journal.records()] == [1]
    journal.close()


def test_a_transaction_is_all_or_nothing(path: Path) -> None:
    journal = Journal(path)

    def halfway() -> None:
        with journal.transaction():
            journal.put("base", BASE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        halfway()
    assert journal.get("base") is None
    with journal.transaction():
        journal.put("base", BASE)
    journal = reopened(journal, path)
    assert journal.get("base") == BASE
    journal.close()


def test_what_is_committed_is_seen_by_another_process_at_once(path: Path) -> None:
    """As good as a kill: no close, no checkpoint."""
    journal = Journal(path)
    journal.keep_round(OPENED, "")
    journal.keep_updates([KeepUpdate(1, update_of("a"))])
    other = sqlite3.connect(path)
    assert other.execute("SELECT client_id FROM updates").fetchall() == [("a",)]
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    journal.close()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_broken_journal_is_one_line_with_the_remedy(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match="--fresh"):
        Journal(path)
    with pytest.raises(DataError, match="--fresh"):
        Journal(path.parent)
