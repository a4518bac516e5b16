"""A run directory whose parts are not of one instant, as when it was copied while it ran: taken back to what it holds.

Models and updates are named by their digests, so each file tells by itself whether it is whole. What the journal
promises and the folder lacks is taken back: an update is asked for again, a round is done again from the newest model
that is there. A directory that nobody copied has everything, and nothing happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aggregator.round import OpenRound, Update
from aggregator.rundir import RunDirectory
from fl_protocol.errors import DataError
from fl_protocol.modelfile import ModelFile, read_header
from fl_protocol.tensors import DELTA, LEAF_BYTES, MAX_CHUNK_BYTES, MODEL, Manifest, groups_of, leaf_digests


def make_whole(run: RunDirectory) -> list[str]:
    """Take back what the folder does not hold; a line for a person about each thing. Without any model: nothing."""
    base = run.journal.get("base")
    if base is None:
        return []
    told = [] if _is_whole(run, base) else _step_back(run)
    unfinished = run.journal.unfinished()
    if unfinished is not None and unfinished.digest is None and _is_whole(run, unfinished.base):
        told += _drop_torn(run, unfinished)
    return told


def _is_whole(run: RunDirectory, digest: str) -> bool:
    try:
        return read_header(run.model_path(digest)).manifest(MODEL, MAX_CHUNK_BYTES).digest == digest
    except DataError:
        return False


def _step_back(run: RunDirectory) -> list[str]:
    """Go back to the newest round whose model is here."""
    for done, digest in run.journal.models():
        if _is_whole(run, digest):
            run.journal.step_back(done, digest)
            return [f"the newest model is not in {run.models}: going on from the one after round {done}"]
    return []


def _drop_torn(run: RunDirectory, unfinished: OpenRound) -> list[str]:
    """Forget accepted updates whose bytes are not all here: their senders have them still, or train again."""
    model = run.model(unfinished.base)
    torn = [update for update in unfinished.accepted if not _holds(run, unfinished.number, update, model)]
    if torn:
        run.journal.drop_updates(unfinished.number, torn)
    return [
        f"the update of {update.client_id} is not in {run.spool.folder}: asking for it again"
        for update in torn
    ]


def _holds(run: RunDirectory, number: int, update: Update, model: ModelFile) -> bool:
    path = run.spool.path(number - update.staleness, update.client_id, update.transfer)
    try:
        leaves = leaf_digests(_pieces(path))
    except OSError:
        return False
    return (
        Manifest(groups_of(model.tensors, DELTA), model.size, MAX_CHUNK_BYTES, leaves).digest == update.digest
    )


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(LEAF_BYTES):
            yield piece
