"""One edge as its operator describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_client.store import CACHE
from fl_protocol.broker import BrokerOptions
from fl_tasks import jobs
from fl_tasks.partition_kind import IID


@dataclass(frozen=True)
class Site:
    """Which job, at which broker, under what name, on what data."""

    broker: BrokerOptions
    job: str
    client: str
    workdir: Path
    data: str | None = None
    shard: int = 1
    shards: int = 1
    partition: str = IID
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    plugin: str | None = None
    connect_timeout_s: float = 60.0
    private_metrics: bool = False

    @property
    def login(self) -> str:
        """Who the broker takes us for, for people."""
        return repr(self.broker.username) if self.broker.username else "this connection"

    @property
    def cache(self) -> Path:
        """Where resized images are kept: what a doctor's look leaves there, the join finds done."""
        return self.workdir / CACHE

    def data_options(self, task: str, image_size: int) -> jobs.DataOptions:
        """What the task process reads for a round of this task."""
        return jobs.DataOptions(
            task=task, data=self.data, image_size=image_size, cache=str(self.cache), shard=self.shard,
            shards=self.shards, partition=self.partition, seed=self.seed,
        )  # fmt: skip
