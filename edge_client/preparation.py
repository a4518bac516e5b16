"""The site's data as the task process has read them, for the task that the rounds name. Pure."""

from __future__ import annotations

from edge_client.events import DataPrepared

PREPARE_AGAIN_S = 30.0

TaskSize = tuple[str, int]
"""A task and the size of its images: other ones mean reading anew."""


class Preparation:
    """What was read last; a reading that failed is due again after a while."""

    def __init__(self) -> None:
        self.data: DataPrepared | None = None
        self._read_for: TaskSize | None = None
        self._again_at = float("inf")

    def due(self, wanted: TaskSize, now: float) -> bool:
        """Whether to read, for ``wanted``."""
        return self._read_for != wanted or now >= self._again_at

    def begin(self, wanted: TaskSize) -> None:
        self._read_for, self.data, self._again_at = wanted, None, float("inf")

    def failed(self, now: float) -> None:
        self._again_at = now + PREPARE_AGAIN_S

    @property
    def deadline(self) -> float:
        """When a reading is due again; infinite if none has failed."""
        return self._again_at
