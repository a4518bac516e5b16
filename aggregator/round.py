"""One round: who is waited for, what was accepted, when it ends. Pure; time is an argument.

The round rule, first line that applies:

    nobody is waited for, quorum met                             -> closed or closed_short
    quorum met for ``grace_s``                                   -> closed_short
    ``deadline_s`` over, quorum met                              -> closed_short
    ``deadline_s`` over                                          -> abandoned
    nobody is waited for, nobody may come back                   -> abandoned
    nobody is waited for, nobody came back for ``grace_s``       -> abandoned

``closed`` means that the whole cohort was accepted, ``closed_short`` that fewer were. An update of an earlier round
that the strategy still takes (``stale``) counts towards the quorum, but is no answer to this round.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from aggregator.site_figures import Report


class Outcome(Enum):
    CLOSED = "closed"
    CLOSED_SHORT = "closed_short"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class Update:
    """An accepted update, as the journal keeps it."""

    client_id: str
    transfer: str
    digest: str
    num_examples: int
    metrics: dict[str, float] = field(default_factory=dict)
    staleness: int = 0
    """Rounds between the model it was trained from and the round that folds it."""


@dataclass(frozen=True)
class Refused:
    """A refusal as it is recorded; equal ones are counted."""

    client_id: str
    reason: str


MAX_REFUSALS = 1000
"""Different refusals kept a round; more are only counted in the last one, so a flood cannot fill memory."""


def note_refusal(refusals: dict[Refused, int], client_id: str, reason: str) -> None:
    """Count a refusal, whoever caused it: the name may be anything that stood in a topic."""
    key = Refused(client_id[:64], reason[:300])
    if key not in refusals and len(refusals) >= MAX_REFUSALS:
        key = Refused("", "too_many_refusals")
    refusals[key] = refusals.get(key, 0) + 1


@dataclass(frozen=True)
class OpenRound:
    """A round as the journal held it when the process died."""

    number: int
    attempt: int
    cohort: tuple[str, ...]
    base: str
    quorum: int
    accepted: tuple[Update, ...]
    closed: bool
    """Its set of updates was final: it is folded again, with just these."""
    digest: str | None = None
    """Its model was adopted: it is scored again."""


@dataclass
class Round:
    """The open round. ``cohort`` are those invited; ``base`` is the digest of the model they train from."""

    number: int
    attempt: int
    cohort: frozenset[str]
    base: str
    quorum: int
    grace_s: float
    deadline_s: float
    opened_at: float
    accepted: dict[str, Update] = field(default_factory=dict)
    stale: dict[tuple[str, int], Update] = field(default_factory=dict)
    """Updates of earlier rounds, by client and by the round they were trained for."""
    declined: dict[str, str] = field(default_factory=dict)
    refusals: dict[Refused, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    evaluators: frozenset[str] | None = None
    """Who scores ``base``; None: the cohort. A restart forgets them: nobody waits for scores."""
    scores: dict[str, Report] = field(default_factory=dict)
    quorum_since: float | None = None
    alone_since: float | None = None

    @property
    def answered(self) -> set[str]:
        return set(self.accepted) | set(self.declined)

    @property
    def waited_for(self) -> set[str]:
        """Cohort members that are alive and have not answered."""
        return set(self.cohort) - self.answered - self.gone

    @property
    def folded(self) -> tuple[Update, ...]:
        """Every update that counts in this round, in the order of the fold: by client, a client's oldest first."""
        updates = (*self.accepted.values(), *self.stale.values())
        return tuple(sorted(updates, key=lambda update: (update.client_id, -update.staleness)))

    def holds(self, client_id: str, transfer: str) -> bool:
        """Whether the update of this transfer counts in the round."""
        return any((update.client_id, update.transfer) == (client_id, transfer) for update in self.folded)

    @property
    def has_quorum(self) -> bool:
        return len(self.accepted) + len(self.stale) >= self.quorum

    def admission(self, client_id: str, round_number: int, base: str) -> str | None:
        """Why an update of this client cannot be admitted, by name, or None if it can."""
        if round_number != self.number:
            return "wrong_round"
        if client_id not in self.cohort:
            return "not_invited"
        if client_id in self.accepted:
            return "duplicate_update"
        if base != self.base:
            return "wrong_base"
        return None

    def accept(self, update: Update, now: float) -> None:
        if update.staleness:
            self.stale[update.client_id, self.number - update.staleness] = update
        else:
            self.accepted[update.client_id] = update
            self.declined.pop(update.client_id, None)
        self._note_time(now)

    def decline(self, client_id: str, reason: str, now: float) -> None:
        """The client answered without an update that counts; it is not waited for any more."""
        if client_id in self.cohort and client_id not in self.accepted:
            self.declined[client_id] = reason
        self._note_time(now)

    def refuse(self, client_id: str, reason: str) -> None:
        note_refusal(self.refusals, client_id, reason)

    def leave(self, client_id: str, now: float) -> None:
        """Its last will came: it is no longer waited for."""
        if client_id in self.cohort:
            self.gone.add(client_id)
        self._note_time(now)

    def come_back(self, client_id: str, now: float) -> None:
        """It is here again: if it has not answered it is waited for."""
        self.gone.discard(client_id)
        self._note_time(now)

    def score(self, client_id: str, base: str, num_examples: int, metrics: dict[str, float]) -> None:
        """An evaluator told what the base model scores; the first time counts."""
        if self.evaluators is not None and client_id in self.evaluators and base == self.base:
            self.scores.setdefault(client_id, Report(client_id, num_examples, metrics))

    def reports(self) -> list[Report]:
        """What the clients told, with their updates and without, in the order of client ids."""
        told = {u.client_id: Report(u.client_id, u.num_examples, u.metrics) for u in self.accepted.values()}
        late = [Report(u.client_id, u.num_examples, u.metrics, fresh=False) for u in self.stale.values()]
        return sorted([*(self.scores | told).values(), *late], key=lambda each: each.client_id)

    def _note_time(self, now: float) -> None:
        if self.has_quorum and self.quorum_since is None:
            self.quorum_since = now
        if self.waited_for:
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = now

    def outcome(self, now: float) -> Outcome | None:
        """How the round ends at ``now``, or None while it is open."""
        closed = Outcome.CLOSED if set(self.accepted) == set(self.cohort) else Outcome.CLOSED_SHORT
        if self.has_quorum:
            in_grace = self.quorum_since is None or now < self.quorum_since + self.grace_s
            over = not self.waited_for or not in_grace or now >= self.opened_at + self.deadline_s
            return closed if over else None
        if now >= self.opened_at + self.deadline_s:
            return Outcome.ABANDONED
        if self.waited_for:
            return None
        may_come_back = self.gone - self.answered
        too_long = self.alone_since is not None and now >= self.alone_since + self.grace_s
        return Outcome.ABANDONED if not may_come_back or too_long else None

    def next_instant(self) -> float:
        """The next time at which :meth:`outcome` may change by itself."""
        instants = [self.opened_at + self.deadline_s]
        if self.quorum_since is not None:
            instants.append(self.quorum_since + self.grace_s)
        elif self.alone_since is not None:
            instants.append(self.alone_since + self.grace_s)
        return min(instants)

    def stragglers(self) -> list[str]:
        """Invited, and neither accepted nor declined."""
        return sorted(set(self.cohort) - self.answered)
