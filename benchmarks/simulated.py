"""W3: 100 virtual clients, 10 sampled a round, 20 rounds of the small CNN of W2, by ``fl-sim run``.

The task is a plug-in like those of workloads.py (``--plugin benchmarks.simulated``), on the product's own training
loop: one epoch of batches of 32, SGD 0.01 with momentum 0.9. As in the peer's runner, client k holds part k modulo 8.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import workloads
from fl_protocol.messages import DataSummary
from fl_tasks.base import Dataset, Place, Task, Watch
from fl_tasks.dealing import Shards
from fl_tasks.jobs import DataOptions
from fl_tasks.registry import register

if TYPE_CHECKING:
    from benchmarks.measure import Processes

CNN = "bench-sim"
PARTS = 8
PARTS_VARIABLE = "HILUM_BENCH_PARTS"
POLL_S = 0.01


def command(program: str, options: Any, folder: Path) -> list[str]:
    """``fl-sim run`` of the workload."""
    return [
        program, "run", "--plugin", "benchmarks.simulated", "--task", CNN, "--model", workloads.W2_MODEL,
        "--clients", str(options.clients), "--cohort", str(options.sample), "--quorum", str(options.sample),
        "--rounds", str(options.rounds), "--workers", str(options.workers), "--local-epochs", "1",
        "--batch-size", str(workloads.BATCH), "--learning-rate", "0.01",
        "--learning-rate-schedule", "constant", "--eval-data", "none",
        "--out", str(folder / "run"),
    ]  # fmt: skip


class Rounds:
    """When rounds began and ended by the wall clock, read from the program's lines as they come."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0
        self.began: float | None = None
        self.ended: list[float] = []

    def look(self) -> None:
        """Note what was said since the last look."""
        now = time.time()
        with self._log.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            if self.began is None and line.startswith("round=1 opened"):
                self.began = now
            if line.startswith("round=") and " outcome=" in line:
                self.ended.append(now)

    def as_result(self, watch: Processes) -> dict[str, Any]:
        """The keys of the peer's runner."""
        if self.began is None or not self.ended:
            return {"rounds_done": 0, "round_s": [], "round_median_s": None, "rounds_total_s": None}
        each = [after - before for before, after in pairwise([self.began, *self.ended])]
        cpu_s = sum(watch.cpu_by_role(self.began, self.ended[-1]).values())
        startup = sum(watch.cpu_by_role(0.0, self.began).values())
        return {
            "rounds_done": len(each), "round_s": [round(s, 3) for s in each],
            "round_median_s": round(sorted(each)[len(each) // 2], 3), "rounds_total_s": round(sum(each), 3),
            "startup_s": round(self.began - watch.started_at, 2), "cpu_startup_s": round(startup, 1),
            "cpu_per_round_s": round(cpu_s / len(each), 2),
        }  # fmt: skip


def _task(place: Place) -> Task:
    import torch
    from torch import Tensor, nn

    from fl_protocol.messages import Plan
    from fl_tasks.base import Model, Update
    from fl_tasks.torch_task import Splits, TorchTask
    from fl_tasks.training import Examples

    class Small(TorchTask):
        classes = ("left", "right")
        weighted = False

        def build(self, model: str, image_size: int) -> nn.Module:
            return workloads.build_model()

        def metadata(self, model: str, image_size: int) -> dict[str, str]:
            return {"task": CNN, "model": model, "image_size": str(image_size)}

        def inputs(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
            return images

        def optimizer(self, module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
            return super().optimizer(module, plan.__class__(1, plan.batch_size, plan.learning_rate, 0))

        def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
            return self.deal(options, watch)[options.shard - 1]

        def deal(self, options: DataOptions, watch: Watch) -> Sequence[Dataset]:
            import numpy as np

            pixels, labels = workloads.images()
            whole = Examples(pixels, labels, np.arange(len(labels)))
            parts = int(os.environ.get(PARTS_VARIABLE, PARTS))

            def shard(index: int) -> Dataset:
                mine = workloads.share(index % parts, parts)
                summary = DataSummary(len(mine), len(mine), len(mine), 0)
                return Dataset(summary, len(mine), content=Splits(whole.view(mine)))

            return Shards(options.shards, shard)

        def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
            wall, cpu = time.perf_counter(), time.thread_time()
            update = super().train(model, plan, dataset, watch)
            workloads.note({"wall": time.perf_counter() - wall, "cpu": time.thread_time() - cpu})
            return update

    return Small(place)


register(CNN, _task)
