"""What is written of a run: here, the best model that is there and the one that is not."""

from __future__ import annotations

from pathlib import Path

from aggregator import notices as seen
from aggregator.best import Best
from aggregator.events import Aggregate, KeepRound
from aggregator.recording import Recording
from aggregator.rundir import RunDirectory
from tests.federations import BASE, record, update_of
from tests.payloads import digest_of, floats, model_file
from tests.unit.aggregator.shown import Shown


def test_a_best_model_that_was_not_kept_is_told_and_what_lies_there_stays(tmp_path: Path) -> None:
    """As when --best-by is another one than when the models were made."""
    run, view, kept = RunDirectory(tmp_path), Shown(), digest_of("model 4")
    model_file(run.model_path(kept), {"w": floats(5, 4)}, {"sha256": kept})
    recording = Recording(run, view)
    recording.keep_best(Best("auroc", 0.9, 4, kept))
    assert view.events == []
    before = (tmp_path / "best.safetensors").read_bytes()
    recording.keep_best(Best("loss", 0.1, 2, digest_of("model 2")))
    (told,) = view.events
    assert isinstance(told, seen.Warned)
    assert told.text.startswith("the best model so far (loss 0.1 after round 2) was not kept")
    assert (tmp_path / "best.safetensors").read_bytes() == before
    run.close()


def test_a_measure_that_no_round_has_is_told_once_with_those_there_are(tmp_path: Path) -> None:
    run, view = RunDirectory(tmp_path), Shown()
    recording = Recording(run, view, "aurok")
    for number in (1, 2):
        run.journal.keep_round(KeepRound(number, 1, ("a",), BASE, 1), "")
        recording.keep(
            record(number, metrics={"auroc": 0.9}, client_metrics={"eval_loss": 0.1, "loss": 0.2}), 0, 0
        )
    (told,) = [event for event in view.events if isinstance(event, seen.Warned)]
    assert told.text == "--best-by aurok was not measured in round 1: there is auroc, client_eval_loss"
    run.close()


def test_updates_of_a_fold_under_way_stay_until_its_round_has_ended(tmp_path: Path) -> None:
    """A stop while a round is folded: the next start folds the same files."""
    run, folded = RunDirectory(tmp_path), update_of("a")
    recording = Recording(run, Shown())
    path = run.spool.path(1, "a", folded.transfer)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"delta")
    run.journal.keep_round(KeepRound(1, 1, ("a",), BASE, 1), "")
    recording.folding(Aggregate(1, BASE, (folded,)))
    recording.tidy(0)
    assert path.exists()
    recording.keep(record(1), 0, 0)
    recording.tidy(1)
    assert not path.exists()
    run.close()


def test_what_the_process_sent_before_the_run_is_not_of_its_first_round(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    recording = Recording(run, Shown(), counted=(1000, 500))
    run.journal.keep_round(KeepRound(1, 1, ("a",), BASE, 1), "")
    recording.keep(record(1), 1010, 520)
    (kept,) = run.journal.records()
    assert (kept["bytes_down"], kept["bytes_up"]) == (10, 20)
    run.close()
