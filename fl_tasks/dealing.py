"""All shards of one folder at once, as views on one copy of it: how one process trains for many virtual clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fl_protocol.errors import ConfigError
from fl_tasks.base import Dataset, Task, Watch
from fl_tasks.jobs import DataOptions

KEPT = 2


class Rows:
    """Some rows of an array, in an order of their own. Indexing copies what is asked for, and nothing before."""

    def __init__(self, whole: np.ndarray, rows: np.ndarray) -> None:
        self._whole, self._rows = whole, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, which: slice | np.ndarray) -> np.ndarray:
        found: np.ndarray = self._whole[self._rows[which]]
        return found

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._whole[row] for row in self._rows)

    def part(self, which: np.ndarray) -> Rows:
        """These of the rows; no image is touched."""
        return Rows(self._whole, self._rows[which])

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """The rows of all, which must be of one array."""
        return cls(parts[0]._whole, np.concatenate([part._rows for part in parts]))


class Shards(Sequence[Dataset]):
    """The shards of some options, each made by ``make(index)`` when it is first asked for.

    ``kept`` bounds how many stay; views may all stay (None).
    """

    def __init__(self, count: int, make: Callable[[int], Dataset], kept: int | None = None) -> None:
        self._count, self._make, self._kept = count, make, kept
        self._made: dict[int, Dataset] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Dataset:  # type: ignore[override]  # no slices: nobody wants them
        if not 0 <= index < self._count:
            raise IndexError(index)
        if index not in self._made:
            while self._kept is not None and len(self._made) >= self._kept:
                del self._made[next(iter(self._made))]
            self._made[index] = self._make(index)
        return self._made[index]


def together(task: Task, shards: Sequence[Dataset]) -> Dataset:
    """All shards as one, training with training and validation with validation: what one place would have.

    Raises ConfigError for a task that has no method ``together``.
    """
    of_its_own: Callable[[Sequence[Dataset]], Dataset] | None = getattr(task, "together", None)
    if of_its_own is None:
        raise ConfigError("this task cannot put its sites' data together: compare another task")
    return of_its_own([shard for shard in shards if shard.num_examples])


def deal(task: Task, options: DataOptions, watch: Watch) -> Sequence[Dataset]:
    """Every shard of ``options``, whose own ``shard`` says nothing here.

    A task that has a method ``deal`` holds the folder once; of another, each shard is prepared when it is needed,
    which no Cancel stops: ``watch`` is of the request at hand, and shards outlive it.
    """
    of_its_own: Callable[[DataOptions, Watch], Sequence[Dataset]] | None = getattr(task, "deal", None)
    if of_its_own is not None:
        return of_its_own(options, watch)
    return Shards(options.shards, lambda index: task.prepare(options.of_shard(index + 1), Watch()), KEPT)
