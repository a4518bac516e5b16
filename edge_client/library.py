"""The models an edge has or wants: looked for on disk first, pulled from the broker if they are not there. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from edge_client.download import Download, Stage
from edge_client.events import (
    BrokerConnected,
    BrokerLost,
    ChunkArrived,
    Effect,
    FindModel,
    ManifestArrived,
    ModelFound,
    ModelMissing,
    ModelUnwritable,
    PartOpened,
    Tell,
    Ticked,
)
from edge_client.notices import Warned
from fl_protocol.tensors import Manifest

MAX_MANIFESTS = 4
WRITE_AGAIN_S = 10.0


class Library:
    """One model is wanted at a time. ``on_disk`` are digests that files are named after, not yet verified."""

    def __init__(self, job: str, on_disk: Collection[str] = ()) -> None:
        self.job = job
        self.empty = not on_disk
        self.download: Download | None = None
        self._found: set[str] = set()
        self._broken: set[str] = set()
        self._looking_for: str | None = None
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._connected = False
        self._write_again_at = float("-inf")
        self.moved_at = float("-inf")
        """When a chunk came last."""

    def has(self, digest: str) -> bool:
        """Whether the model is on disk, whole and true."""
        return digest in self._found

    def is_broken(self, digest: str) -> bool:
        """Whether the broker retains something else under this name; a new manifest makes it hope again."""
        return digest in self._broken

    @property
    def deadline(self) -> float:
        """When Ticked has something to do."""
        if self.download is None and self._write_again_at > float("-inf"):
            return self._write_again_at
        return self.download.deadline if self.download else float("inf")

    def want(self, digest: str | None, now: float) -> list[Effect]:
        """From now on this model is wanted (None: nothing is)."""
        effects: list[Effect] = []
        if self.download is not None and self.download.digest != digest:
            effects, self.download = self.download.abandon(), None
        if digest is None or self.has(digest) or self.is_broken(digest) or self.download is not None:
            return effects
        if now < self._write_again_at:
            return effects
        if self._looking_for != digest:
            self._looking_for = digest
            effects.append(FindModel(digest))
        return effects

    def handle(self, event: object, now: float) -> list[Effect]:
        """The effects of one event; events that mean nothing here have none."""
        handler = HANDLERS.get(type(event))
        return handler(self, event, now) if handler else []

    def _broker_connected(self, event: BrokerConnected, now: float) -> list[Effect]:
        self._connected = True
        return self.download.connected(now) if self.download else []

    def _broker_lost(self, event: BrokerLost, now: float) -> list[Effect]:
        self._connected = False
        return self.download.disconnected() if self.download else []

    def _manifest(self, event: ManifestArrived, now: float) -> list[Effect]:
        if event.manifest.digest != event.digest:
            return []
        self._broken.discard(event.digest)
        self._manifests[event.digest] = event.manifest
        self._manifests.move_to_end(event.digest)
        while len(self._manifests) > MAX_MANIFESTS:
            self._manifests.popitem(last=False)
        wanted = self.download is not None and self.download.digest == event.digest
        return self.download.manifest(event.manifest) if self.download and wanted else []

    def _found_model(self, event: ModelFound, now: float) -> list[Effect]:
        self._found.add(event.digest)
        self.empty = False
        if self._looking_for == event.digest:
            self._looking_for = None
        if self.download is not None and self.download.digest == event.digest:
            effects, self.download = self.download.abandon(), None
            return effects
        return []

    def _missing(self, event: ModelMissing, now: float) -> list[Effect]:
        self._found.discard(event.digest)
        if self._looking_for != event.digest:
            return []
        self._looking_for = None
        self.download = download = Download(self.job, event.digest)
        effects = download.connected(now) if self._connected else []
        manifest = self._manifests.get(event.digest)
        return effects + (download.manifest(manifest) if manifest else [])

    def _opened(self, event: PartOpened, now: float) -> list[Effect]:
        if self.download is None or self.download.digest != event.digest:
            return []
        return self.download.opened(event.held_leaves, now)

    def _chunk(self, event: ChunkArrived, now: float) -> list[Effect]:
        if self.download is None or self.download.digest != event.digest:
            return []
        self.moved_at = now
        effects = self.download.chunk(event.index, event.data, now)
        if self.download.stage is Stage.BROKEN:
            self._broken.add(event.digest)
            self._manifests.pop(event.digest, None)
            self.download = None
        return effects

    def _unwritable(self, event: ModelUnwritable, now: float) -> list[Effect]:
        """The disk is full, say: what is on it stays, and is gone on with in a while."""
        if self.download is None or self.download.digest != event.digest:
            return []
        effects, self.download = self.download.abandon(), None
        self._write_again_at = now + WRITE_AGAIN_S
        text = (
            f"cannot keep the model ({event.reason}): make room, it is tried again every {WRITE_AGAIN_S:g} s"
        )
        return [*effects, Tell(Warned(text))]

    def _ticked(self, event: Ticked, now: float) -> list[Effect]:
        if now >= self._write_again_at:
            self._write_again_at = float("-inf")
        return self.download.tick(now) if self.download else []


HANDLERS: dict[type[Any], Callable[[Library, Any, float], list[Effect]]] = {
    BrokerConnected: Library._broker_connected,
    BrokerLost: Library._broker_lost,
    ManifestArrived: Library._manifest,
    ModelFound: Library._found_model,
    ModelMissing: Library._missing,
    ModelUnwritable: Library._unwritable,
    PartOpened: Library._opened,
    ChunkArrived: Library._chunk,
    Ticked: Library._ticked,
}
