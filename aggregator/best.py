"""Which model of a run is the best so far, and whether more rounds are worth while: read from its records. Pure.

A record says what the model *after* the round scores on the central data (``metrics``), and what the model *before* it
scores at the sites (``eval_*`` of ``client_metrics``, here ``client_eval_*``): both are of a model that lies on disk when
the record is written. What clients tell of their own training is of no model that anybody keeps, so it is no measure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aggregator.round import Outcome
from fl_protocol.errors import ConfigError
from fl_protocol.messages import FIGURE

AT_SITES = f"client_{FIGURE}"
USUAL = ("auroc", "accuracy", "loss", f"{AT_SITES}auroc", f"{AT_SITES}accuracy", f"{AT_SITES}loss")
"""What decides where nothing is named: the first of these that any record has."""
LOWER_IS_BETTER = ("loss", "ece", "brier", "error")
"""A metric of which the last word is one of these is better when it is lower."""


@dataclass(frozen=True)
class EarlyStop:
    """The run ends when ``patience`` scored rounds in succession were not more than ``min_delta`` better than what came
    before them (early stopping: Prechelt 1998, https://doi.org/10.1007/3-540-49430-8_3).
    """

    patience: int
    min_delta: float = 0.0

    @classmethod
    def parse(cls, text: str, what: str) -> EarlyStop:
        """Raises ConfigError unless ``text`` is ``PATIENCE`` (from 1) or ``PATIENCE:MIN_DELTA`` (from 0)."""
        rounds, colon, delta = text.partition(":")
        try:
            found = cls(int(rounds), float(delta) if colon else 0.0)
            if 1 <= found.patience <= 10**8 and 0.0 <= found.min_delta <= 1e6:
                return found
        except ValueError:
            pass
        raise ConfigError(
            f"{what} {text!r} is not PATIENCE or PATIENCE:MIN_DELTA: write 5 rounds as 5, or 5:0.001"
        )

    def __str__(self) -> str:
        return f"{self.patience}:{self.min_delta!r}" if self.min_delta else str(self.patience)


@dataclass(frozen=True)
class Best:
    """A model, by the round that made it (0: the first one) and its digest, and what it scored."""

    metric: str
    value: float
    round_number: int
    digest: str

    def as_json(self) -> dict[str, Any]:
        """As a record of rounds.jsonl tells it."""
        return {
            "round": self.round_number, "metric": self.metric, "value": self.value, "model_sha256": self.digest
        }  # fmt: skip

    def __str__(self) -> str:
        return f"{self.metric} {self.value:.4g} after round {self.round_number}"


class Course:
    """How the scores of a run have gone: a fold over its records, so a restart finds the same."""

    def __init__(
        self, by: str | None, stop: EarlyStop | None = None, records: Iterable[Mapping[str, Any]] = ()
    ) -> None:  # fmt: skip
        self._wanted = (by,) if by is not None else USUAL
        self._stop = stop
        self.best: Best | None = None
        self._mark = 0.0
        self._made = 0
        self.since = 0
        """Scored rounds since the last one that was better by more than the margin."""
        for record in records:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> Best | None:
        """A round ended. Returns the best model if the record makes it another; one that was abandoned does not."""
        if record["outcome"] == Outcome.ABANDONED.value:
            return None
        scored = self._scored(record)
        self._made = record["round"]
        return self._judge(scored) if scored is not None else None

    def _judge(self, scored: Best) -> Best | None:
        if self.best is None or scored.metric != self.best.metric:
            self.best, self._mark, self.since = scored, scored.value, 0
            return scored
        margin = self._stop.min_delta if self._stop else 0.0
        if _gain(scored.metric, scored.value, self._mark) > margin:
            self._mark, self.since = scored.value, 0
        else:
            self.since += 1
        if _gain(scored.metric, scored.value, self.best.value) <= 0.0:
            return None
        self.best = scored
        return scored

    def _scored(self, record: Mapping[str, Any]) -> Best | None:
        """What the record says by the first of the wanted metrics, none of which comes behind the one in use."""
        at_most = self._wanted.index(self.best.metric) + 1 if self.best else len(self._wanted)
        for metric in self._wanted[:at_most]:
            if metric.startswith(AT_SITES):
                told, name = record.get("client_metrics"), metric.removeprefix("client_")
                number, digest = self._made, record.get("base_sha256", "")
            else:
                told, name, number, digest = (
                    record["metrics"],
                    metric,
                    record["round"],
                    record["model_sha256"],
                )
            value = (told or {}).get(name)
            if value is not None:
                return Best(metric, value, number, digest)
        return None

    @property
    def verdict(self) -> str:
        """Why no more rounds are worth while, for a person; empty while they are."""
        if self._stop is None or self.best is None or self.since < self._stop.patience:
            return ""
        margin = f" by more than {self._stop.min_delta:g}" if self._stop.min_delta else ""
        rounds = "1 round" if self.since == 1 else f"{self.since} rounds"
        return f"no better{margin} for {rounds} (best: {self.best})"


def _gain(metric: str, value: float, before: float) -> float:
    return before - value if metric.rsplit("_", maxsplit=1)[-1] in LOWER_IS_BETTER else value - before
