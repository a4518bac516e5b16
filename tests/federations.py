"""Federations for tests: a rule with few clients, updates by name, and what the effects leave on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from aggregator import events as ev
from aggregator.cohort import Share
from aggregator.federation import Federation
from aggregator.phase import Phase
from aggregator.round import OpenRound, Update
from fl_protocol.messages import Plan, transfer_id
from tests.payloads import digest_of

BASE = digest_of("model 0")


def rule(**changes: Any) -> ev.FederationConfig:
    """Two rounds, everybody invited, half of them a quorum, ten seconds of grace, a minute in all."""
    plain = ev.FederationConfig(
        rounds=2, min_clients=2, cohort=Share(fraction=1.0), quorum=Share(fraction=0.5), grace_s=10.0,
        deadline_s=60.0, retries=1, seed=7, task="chest-xray", model="hilum-cnn", image_size=64,
        plan=Plan(1, 16, 0.05, 0), evaluate=False,
    )  # fmt: skip
    return replace(plain, **changes)


def update_of(
    client_id: str, round_number: int = 1, num_examples: int = 10, try_number: int = 0, staleness: int = 0,
    **metrics: float,
) -> Update:  # fmt: skip
    """The update a client sends for a round; another ``try_number`` is another training."""
    digest = digest_of(f"{client_id} {round_number} {try_number}")
    return Update(client_id, transfer_id(round_number, digest), digest, num_examples, metrics, staleness)


def arrived(
    client_id: str, round_number: int = 1, base: str = BASE, num_examples: int = 10, try_number: int = 0
) -> ev.UpdateArrived:  # fmt: skip
    return ev.UpdateArrived(round_number, base, update_of(client_id, round_number, num_examples, try_number))


def model_after(round_number: int, updates: Iterable[Update]) -> str:
    """The digest a fold would have: a function of the round and the updates in it, in any order."""
    return digest_of(f"model {round_number} of {sorted(update.digest for update in updates)}")


def record(round_number: int, **changes: Any) -> dict[str, Any]:
    """The record of a round of a and b, in which both were in time."""
    plain: dict[str, Any] = {
        "round": round_number, "outcome": "closed", "cohort": ["a", "b"], "accepted": ["a", "b"], "rejected": [],
        "stragglers": [], "stale": [], "num_examples": 20, "client_examples": {"a": 10, "b": 10}, "duration_s": 1.0,
        "metrics": None, "client_metrics": {}, "base_sha256": digest_of(f"model {round_number - 1}"),
        "model_sha256": digest_of(f"model {round_number}"), "attempts": 1,
    }  # fmt: skip
    return plain | changes


def kinds(effects: Iterable[ev.Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def of_kind(effects: Iterable[ev.Effect], kind: type[Any]) -> list[Any]:
    return [effect for effect in effects if isinstance(effect, kind)]


def opened(*clients: str, **changes: Any) -> Federation:
    """A federation whose first round is open, with these clients in it."""
    federation = Federation(rule(**{"min_clients": len(clients)} | changes), BASE)
    federation.start(0.0)
    for client in clients:
        federation.handle(ev.ClientReady(client, 100), 0.0)
    assert federation.phase is Phase.OPEN
    return federation


def answers(effects: list[ev.Effect]) -> list[tuple[str, str, str]]:
    return [(each.client_id, each.verdict, each.reason) for each in of_kind(effects, ev.Answer)]


def finish_round(
    federation: Federation, now: float, metrics: dict[str, float] | None = None
) -> list[ev.Effect]:
    """Fold and score what the federation has closed."""
    assert federation.round is not None
    number = federation.round.number
    digest = model_after(number, federation.round.accepted.values())
    effects = federation.handle(ev.Aggregated(number, digest), now)
    return effects + federation.handle(ev.Evaluated(number, metrics), now)


@dataclass
class Disk:
    """What performed effects leave behind, as aggregator.journal keeps it."""

    base: str = BASE
    records: list[dict[str, Any]] = field(default_factory=list)
    open: OpenRound | None = None

    def perform(self, effect: ev.Effect) -> None:
        if isinstance(effect, ev.KeepRound):
            accepted = self.open.accepted if self.open else ()
            self.open = OpenRound(
                effect.number,
                effect.attempt,
                effect.cohort,
                effect.base,
                effect.quorum,
                accepted,
                closed=False,
            )
        elif isinstance(effect, ev.KeepUpdate):
            assert self.open is not None and effect.round_number == self.open.number
            self.open = replace(self.open, accepted=(*self.open.accepted, effect.update))
        elif isinstance(effect, ev.Aggregate):
            assert self.open is not None
            self.open = replace(self.open, closed=True)
        elif isinstance(effect, ev.AdoptModel):
            assert self.open is not None
            self.open, self.base = replace(self.open, digest=effect.digest), effect.digest
        elif isinstance(effect, ev.KeepRecord):
            self.records.append(effect.record)
            self.open = None

    def federation(self, config: ev.FederationConfig) -> Federation:
        """A federation as start.run builds it from the journal; the caller starts it with ``self.open``."""
        return Federation(config, self.base, self.records)
