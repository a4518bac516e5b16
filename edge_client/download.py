"""Pulling one model from what the broker retains: manifest, then blocks, each leaf verified. Pure.

WAITING   for the manifest, which is asked for again if it does not come
OPENING   its unfinished file is looked at: what an earlier try left is not pulled again
PULLING   blocks are subscribed to, two at a time
DONE      every leaf is true
BROKEN    the broker retains something else under this digest
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from edge_client.events import Effect, OpenPart, SealModel, Subscribe, Unsubscribe, WriteLeaf
from fl_protocol.errors import PeerError
from fl_protocol.tensors import CHUNKS_PER_BLOCK, Manifest
from fl_protocol.topics import Kind, Topic, block_filter
from fl_protocol.transfer import Assembly, Pulling

STALL_S, LONGEST_STALL_S = 5.0, 60.0
GAPS = 4
MAX_BAD_LEAVES = 8


class Stage(Enum):
    WAITING = "waiting"
    OPENING = "opening"
    PULLING = "pulling"
    DONE = "done"
    BROKEN = "broken"


class Download:
    """One model on its way to us."""

    def __init__(self, job: str, digest: str) -> None:
        self.job, self.digest = job, digest
        self.stage = Stage.WAITING
        self.bad_leaves = 0
        self._manifest: Manifest | None = None
        self._assembly: Assembly | None = None
        self._pulling: Pulling | None = None
        self._connected = False
        self._asked = False
        self._last_arrival = 0.0
        self._longest_gap = 0.0
        self._stall_s = STALL_S

    # --- events -------------------------------------------------------------------------------------------

    def manifest(self, manifest: Manifest) -> list[Effect]:
        """The manifest is known (its digest was checked)."""
        if self.stage is not Stage.WAITING:
            return []
        self._manifest, self.stage = manifest, Stage.OPENING
        return [*self._ask_no_more(), OpenPart(self.digest, manifest)]

    def opened(self, held_leaves: Iterable[int], now: float) -> list[Effect]:
        """The unfinished file is open and holds these leaves."""
        if self.stage is not Stage.OPENING or self._manifest is None:
            return []
        self._assembly = Assembly(self._manifest, held_leaves)
        self._pulling = Pulling(self._manifest, self._assembly.held)
        self.stage, self._last_arrival = Stage.PULLING, now
        return self._finish() if self._assembly.complete else self._more()

    def chunk(self, index: int, data: bytes, now: float) -> list[Effect]:
        """A chunk came, of whatever subscription."""
        if self.stage is not Stage.PULLING or self._assembly is None or self._pulling is None:
            return []
        effects: list[Effect] = []
        try:
            leaf = self._assembly.add(index, data)
        except PeerError:
            self.bad_leaves += 1
            if self.bad_leaves >= MAX_BAD_LEAVES:
                self.stage = Stage.BROKEN
                return self._leave_all()
        else:
            self._note_arrival(now)
            effects += [WriteLeaf(self.digest, *leaf)] if leaf else []
        blocks, single = self._pulling.arrived(index)
        effects += self._unsubscribe(blocks, single)
        if self._assembly.complete:
            return [*effects, *self._finish()]
        if self._pulling.outstanding:
            return [*effects, *self._more()]
        more = self._more()
        return [*effects, *(more or self._again())]

    def connected(self, now: float) -> list[Effect]:
        """The broker is there: go on where we were."""
        self._connected, self._last_arrival = True, now
        return self._more()

    def disconnected(self) -> list[Effect]:
        """The broker is away: what is open now must not be subscribed to again by itself."""
        self._connected = False
        effects = self._leave_all()
        if self._pulling is not None:
            self._pulling.reconnected()
        return effects

    def tick(self, now: float) -> list[Effect]:
        """Go on in smaller steps if nothing came for long."""
        if now < self.deadline:
            return []
        self._stall_s = min(LONGEST_STALL_S, self._stall_s * 2)
        self._last_arrival = now
        if self.stage is Stage.WAITING:
            self._asked = True
            return [Subscribe((self._manifest_topic,))]  # a broker sends again what it retains
        return self._again()

    def abandon(self) -> list[Effect]:
        """Nobody wants this model any more. What came stays on disk."""
        return self._leave_all()

    @property
    def deadline(self) -> float:
        """When :meth:`tick` has something to do."""
        if self.stage not in (Stage.WAITING, Stage.PULLING) or not self._connected:
            return float("inf")
        return self._last_arrival + max(self._stall_s, min(LONGEST_STALL_S, GAPS * self._longest_gap))

    @property
    def progress(self) -> tuple[int, int]:
        """Chunks held and in all."""
        held = self._assembly.held if self._assembly is not None else None
        return (len(held), held.total) if held is not None else (0, 0)

    # --- steps --------------------------------------------------------------------------------------------

    def _note_arrival(self, now: float) -> None:
        self._longest_gap = max(self._longest_gap, now - self._last_arrival)
        self._last_arrival = now
        self._stall_s = STALL_S

    def _again(self) -> list[Effect]:
        """Leave what is open and pull what is missing one chunk at a time."""
        if self._pulling is None:
            return []
        blocks, single = self._pulling.stalled()
        return [*self._unsubscribe(blocks, single), *self._more()]

    def _more(self) -> list[Effect]:
        if self._pulling is None or self.stage is not Stage.PULLING or not self._connected:
            return []
        blocks, single = self._pulling.more()
        topics = self._topics(blocks, single)
        return [Subscribe(topics)] if topics else []

    @property
    def _manifest_topic(self) -> str:
        return str(Topic(self.job, Kind.MODEL, digest=self.digest))

    def _ask_no_more(self) -> list[Effect]:
        asked, self._asked = self._asked, False
        return [Unsubscribe((self._manifest_topic,))] if asked else []

    def _leave_all(self) -> list[Effect]:
        if self._pulling is None:
            return self._ask_no_more()
        return self._unsubscribe(list(self._pulling.open_blocks), sorted(self._pulling.single))

    def _finish(self) -> list[Effect]:
        self.stage = Stage.DONE
        return [*self._leave_all(), SealModel(self.digest)]

    def _unsubscribe(self, blocks: list[int], single: list[int]) -> list[Effect]:
        topics = self._topics(blocks, single)
        return [Unsubscribe(topics)] if topics else []

    def _topics(self, blocks: list[int], single: list[int]) -> tuple[str, ...]:
        whole = [block_filter(self.job, self.digest, block) for block in blocks]
        return (*whole, *(self._chunk_topic(index) for index in single))

    def _chunk_topic(self, index: int) -> str:
        block = index // CHUNKS_PER_BLOCK
        return str(Topic(self.job, Kind.BLOCK, digest=self.digest, block=block, index=index))
