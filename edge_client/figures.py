"""What a site measures of a model: what the aggregator hears of it, and what only the person here does. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edge_client.events import Update
from fl_protocol.messages import FETCH_TIME, TRAIN_TIME, figures_of

LOCAL_STEPS = "local_steps"
"""No measure of a model: it follows from num_examples and the plan, which the aggregator has, and FedNova needs it."""

NO_MEASURE = (LOCAL_STEPS, FETCH_TIME, TRAIN_TIME)


@dataclass
class Figures:
    """``private``: nothing that tells how good a model is leaves this site. ``told`` is of the newest model scored."""

    private: bool
    told: dict[str, float] | None = None
    round_number: int = 0
    scored: tuple[int, str] | None = field(default=None)
    """Round and base of the model that was last scored without being trained."""

    def shared(self, update: Update) -> Update:
        """The update as it leaves."""
        if not self.private:
            return update
        kept = {name: value for name, value in update.metrics.items() if name in NO_MEASURE}
        return replace(update, metrics=kept)

    def note(self, round_number: int, metrics: Mapping[str, float]) -> dict[str, float]:
        """A global model was scored: the figures among ``metrics``, for the person here."""
        found = figures_of(metrics)
        if found and not self.private:
            self.told, self.round_number = found, round_number
        return found
