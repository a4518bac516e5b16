"""Central evaluation: each round's model is scored by the task process, on data that are here."""

from __future__ import annotations

from pathlib import Path

from fl_tasks.jobs import DataOptions, Evaluate
from fl_tasks.process import TaskProcess


class Scoring:
    """A process that scores models, the data it scores them on, and the round whose model it is at."""

    def __init__(self, tasks: TaskProcess, data: DataOptions) -> None:
        self._tasks, self._data = tasks, data
        self.round_number = 0

    def begin(self, round_number: int, model: Path) -> None:
        """Have the model of a round scored; the reply comes into the aggregator's queue."""
        self.round_number = round_number
        self._tasks.submit(Evaluate(self._data, str(model), detail=True))
