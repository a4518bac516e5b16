"""A run directory that lacks what its journal promises goes on from what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aggregator.events import KeepRound, KeepUpdate
from aggregator.restoring import make_whole
from aggregator.round import Update
from aggregator.rundir import RunDirectory
from fl_protocol.errors import DataError
from fl_protocol.messages import transfer_id
from fl_protocol.tensors import LEAF_BYTES, MODEL, groups_of
from tests.payloads import Floats, floats, manifest_of, model_file

SIZE = LEAF_BYTES // 4 + 10


def name_model(run: RunDirectory, values: Floats) -> str:
    draft = run.models / "draft"
    digest = model_file(draft, {"w": values}).manifest(MODEL, LEAF_BYTES).digest
    draft.replace(run.model_path(digest))
    return digest


class Run:
    """Two rounds have ended; the third has the updates of a and b."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDirectory(folder)
        self.models = [name_model(self.run, floats(SIZE, seed)) for seed in range(3)]
        journal = self.run.journal
        for number in (1, 2):
            journal.keep_round(KeepRound(number, 1, ("a", "b"), self.models[number - 1], 2), "then")
            journal.adopt(number, self.models[number])
            journal.keep_record(number, {"round": number, "model_sha256": self.models[number]})
        journal.keep_round(KeepRound(3, 1, ("a", "b"), self.models[2], 2), "then")
        self.updates = [self.spooled(client) for client in "ab"]
        journal.keep_updates([KeepUpdate(3, update) for update in self.updates])

    def spooled(self, client: str) -> Update:
        payload = floats(SIZE, ord(client)).tobytes()
        digest = manifest_of(payload, LEAF_BYTES).digest
        update = Update(client, transfer_id(3, digest), digest, 10)
        path = self.path(update)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
        return update

    def path(self, update: Update) -> Path:
        return self.run.spool.path(3, update.client_id, update.transfer)

    @property
    def held(self) -> list[str]:
        unfinished = self.run.journal.unfinished()
        return [update.client_id for update in unfinished.accepted] if unfinished else []

    @property
    def done(self) -> list[int]:
        return [record["round"] for record in self.run.journal.records()]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    found = Run(tmp_path / "run")
    yield found
    found.run.close()


def test_a_whole_directory_is_left_alone(run: Run) -> None:
    run.run.journal.close_round(3)
    assert make_whole(run.run) == []
    unfinished = run.run.journal.unfinished()
    assert unfinished is not None and unfinished.closed
    assert (run.held, run.done, run.run.journal.get("base")) == (["a", "b"], [1, 2], run.models[2])
    assert groups_of(run.run.model(run.models[2]).tensors, MODEL)[0].num_bytes == 4 * SIZE


@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_an_update_that_is_not_there_is_asked_for_again(run: Run, how: str) -> None:
    """Also if the round was closed with it: it must not be folded without."""
    run.run.journal.close_round(3)
    path = run.path(run.updates[1])
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-4] if how == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    (line,) = make_whole(run.run)
    assert "accepted updates of round 3 are damaged or gone, asked for again: b" in line
    unfinished = run.run.journal.unfinished()
    assert unfinished is not None and not unfinished.closed
    assert run.held == ["a"]


def test_an_adopted_model_that_is_not_there_is_folded_again(run: Run) -> None:
    """The models were copied before the fold, the journal after it."""
    run.run.journal.close_round(3)
    run.run.journal.adopt(3, "ab" * 32)
    (line,) = make_whole(run.run)
    assert "going on from the one after round 2" in line
    unfinished = run.run.journal.unfinished()
    assert unfinished is not None and unfinished.closed and unfinished.digest is None
    assert (run.held, run.done, run.run.journal.get("base")) == (["a", "b"], [1, 2], run.models[2])


def test_rounds_whose_models_are_not_there_are_done_again(run: Run) -> None:
    run.run.model_path(run.models[2]).unlink()
    (line,) = make_whole(run.run)
    assert "after round 1" in line
    assert (run.held, run.done, run.run.journal.get("base")) == ([], [1], run.models[1])
    assert run.run.journal.unfinished() is None


def test_a_damaged_model_is_not_passed_over(run: Run) -> None:
    """Somebody should know before a round is done again for it."""
    path = run.run.model_path(run.models[2])
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match="is damaged"):
        make_whole(run.run)


def test_without_any_model_nothing_is_guessed(run: Run) -> None:
    for digest in run.models:
        run.run.model_path(digest).unlink()
    with pytest.raises(DataError, match=r"does not exist.*--fresh"):
        make_whole(run.run)
    assert run.run.journal.get("base") == run.models[2]


def test_before_the_first_model_there_is_nothing_to_lack(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "new")
    assert make_whole(run) == []
    run.close()
