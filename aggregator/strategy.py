"""What a strategy is: how updates become the next global model. Pure.

A strategy never sees a whole model. It sees pieces: the same slice of the base model, of every update and of its own
state on the server. So memory does not grow with the model, and a robust rule finds all updates of a coordinate side
by side. Four questions are asked of it, and each has FedAvg's answer unless a subclass gives another:

    plan      once a round     how the clients train
    weigh     once a round     how much each update counts, perhaps after a first pass over all of them
    combine   for each piece   one change out of many: (K, n) -> (n,)
    step      for each piece   base and change -> next model and next server state

Signs: a delta is trained minus global, so the change is added; its negative is what optimisers call the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from fl_protocol.messages import Plan
from fl_protocol.tensors import MODEL

Values = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]
Stepped = tuple[Sums, Mapping[str, Sums]]
"""The next model's piece and the next state's, before they are rounded to float32."""


@dataclass(frozen=True)
class Facts:
    """What is known of an accepted update beside its values."""

    client_id: str
    num_examples: int
    staleness: int = 0
    """Rounds between the model it was trained from and the round that folds it."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """As the client reports them: bounded, finite, and otherwise a claim."""


class Survey(Enum):
    """What a first pass over all updates finds, in float64 and over the group ``model`` alone."""

    NOTHING = "nothing"
    NORMS = "norms"  # (K,): squared L2 norms
    PRODUCTS = "products"  # (K, K): inner products, and with them all distances


@dataclass(frozen=True)
class Clients:
    """How many clients are known by now, taking part in this round or not, and when the base model was made."""

    known: int
    known_before: int


@dataclass(frozen=True)
class Gathered:
    """The updates of one fold, in the order of client ids. K is their number."""

    updates: Sequence[Facts]
    clients: Clients
    squares: Sums | None = None
    """(K,), if the survey was NORMS."""
    products: Sums | None = None
    """(K, K), if the survey was PRODUCTS."""

    @property
    def norms(self) -> Sums:
        """(K,) L2 norms. Needs a survey."""
        squares = self.squares if self.products is None else np.diagonal(self.products)
        assert squares is not None, "the strategy asked for no survey"
        return np.sqrt(squares)

    @property
    def squared_distances(self) -> Sums:
        """(K, K), symmetric, zero on the diagonal. Needs PRODUCTS."""
        assert self.products is not None, "the strategy asked for no survey of products"
        squares = np.diagonal(self.products)
        found: Sums = np.maximum(squares[:, None] + squares[None, :] - 2.0 * self.products, 0.0)
        return found


@dataclass(frozen=True)
class Weights:
    """The change is sum_k values_k delta_k / total; an update that weighs 0 is not even read."""

    values: Sequence[float]
    total: float


class Deltas(Protocol):
    """The same slice of K updates."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Values:
        """(n,) of one update; valid until the next is asked for, and not to be written to."""
        ...

    def stacked(self) -> Values:
        """(K, n), a copy. Only for a strategy that says ``side_by_side``: its pieces are small."""
        ...


@dataclass(frozen=True)
class Piece:
    """One slice of everything: n values of one group."""

    base: Values
    """(n,)"""
    deltas: Deltas
    gathered: Gathered
    state: Mapping[str, Values] = field(default_factory=dict)
    """(n,) of each vector in ``server_state``; nothing in other groups than MODEL."""
    group: str = MODEL
    """Or CONTROL, SCAFFOLD's control variates."""


class Strategy:
    """FedAvg's answers to all questions. Subclasses are frozen dataclasses whose fields are their options."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    """What it does, in a line."""
    source: ClassVar[str] = ""
    """The paper it is from."""
    side_by_side: ClassVar[bool] = False
    """Whether ``combine`` stacks: then pieces are cut so that all updates of one fit in a few megabytes."""
    census: ClassVar[bool] = False
    """Whether it needs to know how many clients there are."""
    asynchronous: ClassVar[bool] = False
    """Whether a round is meant to close with the first update, and to wait for nobody, unless an operator says more."""

    @property
    def max_staleness(self) -> int:
        """How many rounds an update may be behind; 0 for a synchronous strategy."""
        return 0

    @property
    def min_updates(self) -> int:
        """The fewest updates that mean something to it."""
        return 1

    @property
    def server_state(self) -> Mapping[str, float]:
        """Vectors of the model's shape that it keeps beside the model (float32), and the value they begin with."""
        return {}

    @property
    def survey(self) -> Survey:
        """What it must know of all updates before it can weigh them."""
        return Survey.NOTHING

    def plan(self, plan: Plan) -> Plan:
        """How clients train: ``plan`` with what the strategy needs of them."""
        return plan

    def refusal(self, metrics: Mapping[str, float]) -> str | None:
        """Why an update of which the client tells this is of no use, by name, or None."""
        return None

    def weigh(self, gathered: Gathered) -> Weights:
        """How much each update counts."""
        return by_examples(gathered.updates)

    def combine(self, piece: Piece, weights: Weights) -> Sums:
        """One change out of many; a fresh array, (n,)."""
        return weighted_mean(piece.deltas, weights, piece.base.size)

    def step(self, piece: Piece, change: Sums) -> Stepped:
        """The next model and state. ``change`` may be written to."""
        change += piece.base
        return change, {}


def by_examples(updates: Sequence[Facts]) -> Weights:
    """n_k / sum_k n_k."""
    counts = [update.num_examples for update in updates]
    return Weights(counts, float(sum(counts)))


def alike(updates: Sequence[Facts]) -> Weights:
    """1 / K."""
    return Weights([1.0] * len(updates), float(len(updates)))


def weighted_mean(deltas: Deltas, weights: Weights, size: int) -> Sums:
    """sum_k w_k delta_k / total, (size,), summed in float64 in the order of client ids."""
    total = np.zeros(size, np.float64)
    scaled = np.empty(size, np.float64)
    for index, weight in enumerate(weights.values):
        if weight:
            np.multiply(deltas[index], np.float64(weight), out=scaled)
            total += scaled
    total /= weights.total
    return total


MAX_METRICS = 64
"""As many as a message may carry (messages.metrics_table)."""


def weighted_metrics(updates: Iterable[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Each metric's mean over the clients that report it, weighted by num_examples.

    Clients choose the names and the values: of too many names those that most clients report are kept, and a mean
    that is no finite number is left out.
    """
    reported: dict[str, list[tuple[int, float]]] = {}
    for weight, metrics in updates:
        for key, value in metrics.items():
            reported.setdefault(key, []).append((weight, value))
    kept = sorted(reported, key=lambda key: (-len(reported[key]), key))[:MAX_METRICS]
    means = {key: _mean(reported[key]) for key in sorted(kept)}
    return {key: mean for key, mean in means.items() if math.isfinite(mean)}


def _mean(values: list[tuple[int, float]]) -> float:
    weights = sum(weight for weight, _ in values)
    return sum(weight * value for weight, value in values) / weights if weights else math.nan
