"""A strategy that another package offers: asked like ours, and answerable for what it raises."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

from aggregator.strategy import Gathered, Piece, Stepped, Strategy, Sums, Survey, Weights
from fl_protocol.entrypoints import Offered, blamed
from fl_protocol.errors import ConfigError
from fl_protocol.messages import Plan


class Foreign(Strategy):
    """Passes every question on; an error inside becomes one line that names the package."""

    def __init__(self, inner: Strategy, offer: Offered) -> None:
        self.inner, self.offer = inner, offer
        self.name, self.source = offer.name, inner.source  # type: ignore[misc]
        self.side_by_side, self.census = inner.side_by_side, inner.census  # type: ignore[misc]
        self.asynchronous = inner.asynchronous  # type: ignore[misc]
        with self._blamed():
            self._facts = inner.max_staleness, inner.min_updates, dict(inner.server_state), inner.survey

    def _blamed(self) -> AbstractContextManager[None]:
        return blamed(str(self.offer), "failed")

    @property
    def max_staleness(self) -> int:
        return self._facts[0]

    @property
    def min_updates(self) -> int:
        return self._facts[1]

    @property
    def server_state(self) -> Mapping[str, float]:
        return self._facts[2]

    @property
    def survey(self) -> Survey:
        return self._facts[3]

    def plan(self, plan: Plan) -> Plan:
        with self._blamed():
            return self.inner.plan(plan)

    def refusal(self, metrics: Mapping[str, float]) -> str | None:
        with self._blamed():
            return self.inner.refusal(metrics)

    def weigh(self, gathered: Gathered) -> Weights:
        with self._blamed():
            weights = self.inner.weigh(gathered)
            if len(weights.values) != len(gathered.updates) or not weights.total > 0:
                raise ConfigError(f"{self.offer} failed: it must weigh every update, with a total above 0")
            return weights

    def combine(self, piece: Piece, weights: Weights) -> Sums:
        with self._blamed():
            return self._checked(self.inner.combine(piece, weights), piece, "combine")

    def step(self, piece: Piece, change: Sums) -> Stepped:
        with self._blamed():
            model, state = self.inner.step(piece, change)
            if set(state) != set(self.server_state):
                wanted = ", ".join(self.server_state) or "nothing"
                raise ConfigError(f"{self.offer} failed: step must return the state it declared ({wanted})")
            for vector in state.values():
                self._checked(vector, piece, "step")
            return self._checked(model, piece, "step"), state

    def _checked(self, found: Sums, piece: Piece, method: str) -> Sums:
        if found.shape != piece.base.shape:
            raise ConfigError(
                f"{self.offer} failed: {method} returned shape {found.shape}, not {piece.base.shape}"
            )
        return found
