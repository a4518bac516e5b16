"""A strategy on arrays in memory, asked as the fold asks it; the fold itself has its own tests, on files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.strategy import Clients, Facts, Gathered, Piece, Strategy, Survey
from fl_protocol.tensors import MODEL
from tests.payloads import Floats


class Arrays:
    """Deltas of one piece. As on disk, only one of them is valid at a time."""

    def __init__(self, values: Sequence[Floats]) -> None:
        self._values = values
        self._buffer = np.zeros_like(values[0])

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Floats:
        self._buffer.flags.writeable = True
        self._buffer[:] = self._values[index]
        self._buffer.flags.writeable = False
        return self._buffer

    def stacked(self) -> Floats:
        return np.stack(self._values)


@dataclass(frozen=True)
class Folded:
    """The next model and state, rounded as they are on disk."""

    model: Floats
    state: dict[str, Floats]


def examples(*counts: int) -> list[Facts]:
    """Facts of clients c00, c01, ... with these numbers of examples."""
    return [Facts(f"c{index:02d}", count) for index, count in enumerate(counts)]


def folded(
    strategy: Strategy, base: Floats, deltas: Sequence[Floats], facts: Sequence[Facts] | None = None, *,
    state: Mapping[str, Floats] | None = None, group: str = MODEL, clients: Clients | None = None,
) -> Folded:  # fmt: skip
    """One round of ``strategy`` on a model of one piece; clients weigh alike unless ``facts`` say otherwise."""
    facts = facts if facts is not None else examples(*[1] * len(deltas))
    if state is None:
        state = {
            name: np.full(base.shape, value, np.float32) for name, value in strategy.server_state.items()
        }
    base.flags.writeable = False
    wide = np.stack(deltas).astype(np.float64)
    gathered = Gathered(
        facts, clients or Clients(len(facts), len(facts)),
        squares=(wide * wide).sum(axis=1) if strategy.survey is Survey.NORMS else None,
        products=wide @ wide.T if strategy.survey is Survey.PRODUCTS else None,
    )  # fmt: skip
    weights = strategy.weigh(gathered)
    piece = Piece(base, Arrays(deltas), gathered, state, group)
    model, kept = strategy.step(piece, strategy.combine(piece, weights))
    assert model.dtype == np.float64 and set(kept) == set(strategy.server_state if group == MODEL else ())
    return Folded(
        model.astype(np.float32), {name: vector.astype(np.float32) for name, vector in kept.items()}
    )
