"""The model that a run begins with: made from the seed or taken from a file, and named by its digest."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from aggregator.events import FederationConfig
from aggregator.rundir import RunDirectory
from fl_protocol.errors import ConfigError, HilumError
from fl_protocol.modelfile import DIGEST_KEY, read_header, with_control, write
from fl_protocol.tensors import MAX_CHUNK_BYTES, MODEL
from fl_tasks.jobs import DATA, DISK, Failed, Initialise, Reply


def first_model(
    folder: RunDirectory, config: FederationConfig, init: str | None, ask: Callable[[Initialise], Reply]
) -> str:
    """Have the first model made (``ask`` a task process, wherever it is), and begin the run with it; its digest.

    Raises ConfigError if ``init`` or the disk is to blame.
    """
    draft = folder.models / f".initial.{os.getpid()}.tmp"
    try:
        reply = ask(Initialise(config.task, config.model, config.image_size, config.seed, init, str(draft)))
        if isinstance(reply, Failed):
            raise ConfigError(reply.message) if reply.kind in (DATA, DISK) else HilumError(reply.message)
        digest = name_model(folder, draft, control_variates=config.plan.control_variates)
    finally:
        draft.unlink(missing_ok=True)
    folder.publish_global(digest)
    folder.begin(folder.journal.get("identity"), digest)
    return digest


def name_model(folder: RunDirectory, draft: Path, *, control_variates: bool) -> str:
    """Copy the task's file to its digest's name, with the digest and the round in its metadata.

    With control variates (SCAFFOLD) the server's, all zeros, stands behind it: every model of a run has one layout.
    """
    model = read_header(draft)
    if not model.size:
        raise ConfigError("the first model has no tensors")
    if control_variates:
        tensors, pieces = with_control(model)
        write(draft, tensors, model.metadata, pieces, durable=False)
        model = read_header(draft)
    digest = model.manifest(MODEL, MAX_CHUNK_BYTES).digest
    metadata = model.metadata | {DIGEST_KEY: digest, "round": "0"}
    write(folder.model_path(digest), model.tensors, metadata, model.pieces())
    return digest
