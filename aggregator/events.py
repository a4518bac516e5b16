"""What happens to a federation, and what it wants done: plain values, so that a run can be read and replayed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aggregator.best import Best, EarlyStop
from aggregator.cohort import UNIFORMLY, Sampling, Share
from aggregator.round import Update
from aggregator.schedule import Schedules
from fl_protocol.messages import Plan, RoundState


@dataclass(frozen=True)
class FederationConfig:
    """The rule of a run. ``plan`` is what clients train by, as ``schedules`` change it from round to round;
    ``evaluate`` says that rounds are scored centrally.
    """

    rounds: int
    min_clients: int
    cohort: Share
    quorum: Share
    grace_s: float
    deadline_s: float
    retries: int
    seed: int
    task: str
    model: str
    image_size: int
    plan: Plan
    evaluate: bool
    eval_cohort: Share | None = None
    """How many of those present score a round's base model; None: its cohort does."""
    max_staleness: int = 0
    """So many rounds behind an update may be and still be folded in; 0 for a synchronous strategy."""
    schedules: Schedules = field(default_factory=Schedules)
    sampling: Sampling = UNIFORMLY
    best_by: str | None = None
    """The metric by which the best model is chosen; None: the first there is of aggregator.best.USUAL."""
    early_stop: EarlyStop | None = None

    def plan_of(self, round_number: int) -> Plan:
        """How clients train in that round, the same whenever it is asked."""
        return self.schedules.plan(self.plan, min(max(1, round_number), self.rounds), self.rounds)


# --- events, past tense -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClientReady:
    """A client is here and can train; told again when it comes back."""

    client_id: str
    num_examples: int


@dataclass(frozen=True)
class ClientGone:
    """Its last will, its farewell, or its silence."""

    client_id: str


@dataclass(frozen=True)
class UpdateArrived:
    """A whole update: every leaf verified, every value finite, on disk."""

    round_number: int
    base: str
    update: Update


@dataclass(frozen=True)
class ClientDeclined:
    """The client says it will send no update for the round."""

    client_id: str
    round_number: int
    reason: str


@dataclass(frozen=True)
class ModelScored:
    """A client that does not train scored the round's base model on patients it holds out."""

    client_id: str
    round_number: int
    base: str
    metrics: dict[str, float] = field(hash=False)


@dataclass(frozen=True)
class UpdateRefused:
    """An offered update turned out to be unacceptable; ``answered`` if the client has thereby had its turn in
    the round of that number.
    """

    client_id: str
    transfer: str
    reason: str
    answered: bool = True
    round_number: int = 0


@dataclass(frozen=True)
class FrameRefused:
    """Something arrived on a client's topics that is no acceptable message."""

    client_id: str
    reason: str


@dataclass(frozen=True)
class Aggregated:
    """The next global model is on disk under its digest."""

    round_number: int
    digest: str


@dataclass(frozen=True)
class Evaluated:
    """The central evaluation of a round's model ended; ``metrics`` is None if there is none."""

    round_number: int
    metrics: dict[str, float] | None


@dataclass(frozen=True)
class Ticked:
    """Time passed."""


@dataclass(frozen=True)
class ClientEvicted:
    """An operator sent a client away: it is not waited for, and does not come back."""

    client_id: str


@dataclass(frozen=True)
class Paused:
    """An operator wants no further round to open."""


@dataclass(frozen=True)
class Resumed:
    """An operator wants the run to go on."""


@dataclass(frozen=True)
class LastRoundSet:
    """An operator wants the run to stop when the open round has ended."""


@dataclass(frozen=True)
class RoundsAdded:
    """An operator wants so many rounds more."""

    rounds: int


Asked = Paused | Resumed | LastRoundSet | RoundsAdded
"""What operators want of a run."""
Event = (
    ClientReady | ClientGone | UpdateArrived | ClientDeclined | ModelScored | UpdateRefused | FrameRefused | Aggregated
    | Evaluated | Ticked | ClientEvicted | Asked
)  # fmt: skip


# --- effects, imperative, to be performed in order ----------------------------------------------------------


@dataclass(frozen=True)
class KeepRound:
    """Write the opened round to the journal."""

    number: int
    attempt: int
    cohort: tuple[str, ...]
    base: str
    quorum: int


@dataclass(frozen=True)
class KeepUpdate:
    """Write the accepted update to the journal; its bytes are on disk already. ``round_number`` is the round that
    folds it.
    """

    round_number: int
    update: Update


@dataclass(frozen=True)
class Answer:
    """Tell a client what became of its transfer."""

    client_id: str
    transfer: str
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Announce:
    """Publish the state of the round, retained."""

    state: RoundState


@dataclass(frozen=True)
class Aggregate:
    """Fold these updates into the base model; the journal notes that the round is closed with them."""

    round_number: int
    base: str
    updates: tuple[Update, ...]


@dataclass(frozen=True)
class AdoptModel:
    """The new model is the global one from now on: journal, global.safetensors, then publish."""

    round_number: int
    digest: str
    predecessor: str


@dataclass(frozen=True)
class Evaluate:
    """Score a model centrally."""

    round_number: int
    digest: str


@dataclass(frozen=True)
class KeepRecord:
    """A round ended: journal and rounds.jsonl (the shell adds bytes and the wall-clock start)."""

    record: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class KeepBest:
    """best.safetensors is this model: the best of those that were scored. Said again when a run goes on."""

    best: Best


@dataclass(frozen=True)
class Abandon:
    """An attempt failed; ``again`` tells whether another follows."""

    round_number: int
    attempt: int
    accepted: int
    quorum: int
    again: bool


@dataclass(frozen=True)
class Finish:
    """All rounds have ended, or (``reason``) no more of them are worth while."""

    reason: str = ""


@dataclass(frozen=True)
class Stop:
    """The run stops, as an operator asked, and can be gone on with."""


@dataclass(frozen=True)
class KeepRounds:
    """The run is to have so many rounds from now on."""

    rounds: int


@dataclass(frozen=True)
class Fail:
    """The run cannot go on; ``reason`` says why, for a person."""

    reason: str


Effect = (
    KeepRound | KeepUpdate | Answer | Announce | Aggregate | AdoptModel | Evaluate | KeepRecord | KeepBest | Abandon
    | KeepRounds | Finish | Stop | Fail
)  # fmt: skip
