"""What ``pub/round`` says of a run. Pure."""

from __future__ import annotations

from aggregator.events import FederationConfig
from aggregator.past import Past
from aggregator.records import last_round
from aggregator.round import Round
from fl_protocol.messages import MAX_COHORT, RoundState


def round_state(
    config: FederationConfig, phase: str, current: Round | None, past: Past, *, base: str, needed: int,
    refused: int, reason: str,
) -> RoundState:  # fmt: skip
    """``current`` is the round under way, ``base`` the global model, ``needed`` the clients a round waits for,
    ``refused`` counts what was refused in it or since the last one.
    """
    return RoundState(
        phase=phase,
        round_number=current.number if current else past.rounds_done,
        rounds=config.rounds,
        attempt=current.attempt if current else 0,
        cohort=tuple(sorted(current.cohort)) if current else (),
        base=base,
        task=config.task,
        model=config.model,
        plan=config.plan_of(current.number if current else past.rounds_done + 1),
        image_size=config.image_size,
        quorum=current.quorum if current else 0,
        min_clients=needed,
        accepted=min(MAX_COHORT, len(current.folded)) if current else 0,
        refused=refused,
        grace_s=config.grace_s,
        deadline_s=config.deadline_s,
        last=last_round(past.last),
        reason=reason,
        max_staleness=config.max_staleness,
        evaluators=tuple(sorted(current.evaluators)) if current and current.evaluators is not None else None,
    )
