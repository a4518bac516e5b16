"""A run directory whose parts are not of one instant, as when it was copied while it ran: taken back to what it holds.

Models and updates are named by their digests, so each file tells by itself whether it is whole. What the journal
promises and the folder lacks is taken back: an update is asked for again, a round is done again from the newest model
that is there. A directory that nobody copied has everything, and nothing happens.
"""

from __future__ import annotations

from aggregator.rundir import RunDirectory
from fl_protocol.console import names
from fl_protocol.errors import DataError
from fl_protocol.tensors import DELTA, MAX_CHUNK_BYTES, MODEL, groups_of


def make_whole(run: RunDirectory) -> list[str]:
    """Take back what the folder does not hold; a line for a person about each thing.

    Raises DataError if a model is damaged, or if there is none to go on from.
    """
    base = run.journal.get("base")
    if base is None:
        return []
    told = [] if run.model_path(base).exists() else _step_back(run)
    if not _is_whole(run, run.journal.get("base")):
        raise DataError(
            f"{run.model_path(base)} is damaged (its digest is another): restore it, or start over with --fresh"
        )
    return told + _forget_damaged(run)


def _is_whole(run: RunDirectory, digest: str) -> bool:
    """Raises DataError if it is gone or cut."""
    return run.model(digest).manifest(MODEL, MAX_CHUNK_BYTES).digest == digest


def _step_back(run: RunDirectory) -> list[str]:
    """Go back to the newest round whose model is here."""
    for done, digest in run.journal.models():
        if run.model_path(digest).exists() and _is_whole(run, digest):
            run.journal.step_back(done, digest)
            return [f"the newest model is not in {run.models}: going on from the one after round {done}"]
    return []


def _forget_damaged(run: RunDirectory) -> list[str]:
    """Accepted updates whose bytes are not all here must not be folded: their senders have them still, or train again."""
    unfinished = run.journal.unfinished()
    if unfinished is None or unfinished.digest is not None:
        return []
    groups, number = groups_of(run.model(unfinished.base).tensors, DELTA), unfinished.number
    lost = [
        each for each in unfinished.accepted
        if not run.spool.is_whole((number - each.staleness, each.client_id, each.transfer), each.digest, groups)
    ]  # fmt: skip
    if not lost:
        return []
    run.journal.forget_updates(number, lost)
    who = names([each.client_id for each in lost])
    return [f"accepted updates of round {number} are damaged or gone, asked for again: {who}"]
