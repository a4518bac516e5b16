"""The global model on disk and on the broker, and the fold that makes the next one."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

from aggregator.events import AdoptModel, Aggregate
from aggregator.folding import fold
from aggregator.pieces import SpooledUpdate
from aggregator.publisher import Publisher
from aggregator.round import Update
from aggregator.rundir import RunDirectory
from aggregator.strategy import Clients, Facts, Strategy
from aggregator.temperature import temperature_metadata
from fl_protocol.errors import ConfigError
from fl_protocol.tensors import Manifest, chunk_bytes_for

LONGEST_FOLD_S = 30.0
PASSES = 4
FOLD_PATIENCE_S, SLOWEST_DISK = 300.0, 1_000_000.0
"""A fold that lasts longer than this and a disk of so many bytes a second would need will not end."""


@dataclass(frozen=True)
class Folded:
    """A fold ended: with a manifest, or with the error that stopped it."""

    round_number: int
    manifest: Manifest | None
    error: BaseException | None = None


class GlobalModels:
    """At most two versions, the newest and the one before it, kept on disk and retained on the broker."""

    def __init__(
        self, run: RunDirectory, publisher: Publisher, strategy: Strategy, inbox: queue.Queue[Any]
    ) -> None:  # fmt: skip
        self.chunk_bytes = chunk_bytes_for(None)
        self._run, self._publisher, self._strategy, self._inbox = run, publisher, strategy, inbox
        self._manifests: dict[str, Manifest] = {}
        self._folding: threading.Thread | None = None
        self._fold_by = float("inf")

    def publish(self, digest: str) -> None:
        """Lay the model out on the broker, or lay it out again."""
        model = self._run.model(digest)
        known = self._manifests.pop(digest, None) or model.manifest("model", self.chunk_bytes)
        manifest = dataclasses.replace(
            known, chunk_bytes=self.chunk_bytes, round_number=int(model.metadata.get("round", "0")),
            predecessor=model.metadata.get("predecessor"), metadata=model.metadata,
        )  # fmt: skip
        self._publisher.publish(model, manifest)

    def found(self, digest: str, manifest: Manifest, base: str) -> None:
        """A manifest lies on the broker; if it is of neither version kept, it and its blocks are cleared."""
        self._publisher.found(digest, manifest)
        kept = {base, self._run.model(base).metadata.get("predecessor", "")}
        self._publisher.keep_only([known for known in self._publisher.published if known in kept])

    def begin_fold(self, effect: Aggregate) -> None:
        """Fold in a thread of its own, so that frames are still answered; ends in a Folded in the inbox."""
        clients = self._run.journal.clients(effect.round_number) if self._strategy.census else None
        num_bytes = self._run.model(effect.base).size * (2 + PASSES * len(effect.updates))
        self._fold_by = time.monotonic() + FOLD_PATIENCE_S + num_bytes / SLOWEST_DISK
        self._folding = threading.Thread(
            target=self._fold, args=(effect, clients), name="fold-owner", daemon=True
        )
        self._folding.start()

    def check_fold(self, now: float) -> None:
        """Raises ConfigError if a fold has taken longer than the slowest disk would: nobody waits for it for ever."""
        if now >= self._fold_by:
            raise ConfigError(
                f"the fold does not end: look whether the disk of {self._run.path} answers; the same command goes on "
                "from here"
            )

    @property
    def is_folding(self) -> bool:
        return self._folding is not None and self._folding.is_alive()

    def await_fold(self) -> None:
        """Let a fold under way end: cut off, it would leave half a file behind. Nobody reads the inbox any more."""
        until = time.monotonic() + LONGEST_FOLD_S
        while self._folding is not None and self.is_folding and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                self._inbox.get_nowait()
            self._folding.join(0.01)

    def _fold(self, effect: Aggregate, clients: Clients | None) -> None:
        try:
            self._inbox.put(Folded(effect.round_number, self._folded(effect, clients)))
        except BaseException as error:  # noqa: BLE001 - the border of a thread: the loop raises it
            self._inbox.put(Folded(effect.round_number, None, error))

    def _folded(self, effect: Aggregate, clients: Clients | None) -> Manifest:
        base, spool = self._run.model(effect.base), self._run.spool
        updates = [
            SpooledUpdate(
                spool.path(effect.round_number - each.staleness, each.client_id, each.transfer),
                facts_of(each),
            )
            for each in effect.updates
        ]
        metadata = base.metadata | {"round": str(effect.round_number), "predecessor": effect.base}
        metadata |= temperature_metadata(effect.updates)
        return fold(self._strategy, base, updates, self._run.models, metadata, clients)

    def folded(self, manifest: Manifest) -> str:
        """Remember a fold's manifest, which saves hashing the model again. Returns the digest."""
        digest, self._fold_by = manifest.digest, float("inf")
        self._manifests[digest] = manifest
        return digest

    def adopt(self, effect: AdoptModel) -> None:
        """The model is the global one: on disk under its public name first, then on the broker."""
        self._run.publish_global(effect.digest)
        self.publish(effect.digest)
        kept = [effect.predecessor, effect.digest]
        self._publisher.keep_only(kept)
        self._run.keep_models(kept)


def facts_of(update: Update) -> Facts:
    """What a strategy may know of an update."""
    return Facts(update.client_id, update.num_examples, update.staleness, update.metrics)
