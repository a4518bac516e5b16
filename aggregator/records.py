"""The record of an ended round: one line of rounds.jsonl, and what those hear of it who only read. Pure."""

from __future__ import annotations

from typing import Any

from aggregator.round import Outcome, Round
from aggregator.round_times import phases_of
from aggregator.site_figures import client_means, site_rows
from fl_protocol.messages import LastRound, Plan

SCHEDULED = ("learning_rate", "local_epochs", "local_steps", "proximal_mu")
"""What of the plan may change from round to round."""


def record_of(
    ended: Round,
    plan: Plan,
    outcome: Outcome,
    model: str,
    duration_s: float,
    metrics: dict[str, float] | None,
) -> dict[str, Any]:
    """``plan`` is what its clients trained by, ``model`` the digest of the global model after the round; the shell adds
    bytes and the wall-clock start.

    ``accepted`` are those of the cohort whose update of this round was in time; ``stale`` are updates of earlier
    rounds that were folded in with it. ``num_examples`` and ``client_metrics`` are of both.
    ``phases`` is there if edges tell how long they took.
    """
    folded = ended.folded
    phases = phases_of((update.metrics for update in ended.accepted.values()), duration_s)
    return {
        "round": ended.number,
        "outcome": outcome.value,
        "cohort": sorted(ended.cohort),
        "accepted": sorted(ended.accepted),
        "rejected": _rejected(ended),
        "stragglers": ended.stragglers(),
        "stale": _stale(ended),
        "num_examples": sum(update.num_examples for update in folded),
        "client_examples": {
            update.client_id: update.num_examples for update in folded if not update.staleness
        },
        "plan": {name: getattr(plan, name) for name in SCHEDULED if getattr(plan, name) is not None},
        "duration_s": duration_s,
        "metrics": metrics,
        "client_metrics": client_means(ended.reports()),
        "sites": site_rows(ended.reports()),
        "base_sha256": ended.base,
        "model_sha256": model,
        "attempts": ended.attempt,
    } | ({"phases": phases} if phases else {})


def _rejected(ended: Round) -> list[dict[str, Any]]:
    return [
        {"client_id": refused.client_id, "reason": refused.reason, "count": count}
        for refused, count in ended.refusals.items()
    ]


def _stale(ended: Round) -> list[dict[str, Any]]:
    return [
        {
            "client_id": update.client_id, "round": ended.number - update.staleness, "staleness": update.staleness,
            "num_examples": update.num_examples,
        }
        for update in ended.folded
        if update.staleness
    ]  # fmt: skip


def last_round(record: dict[str, Any] | None) -> LastRound | None:
    """A round's record as those hear of it who only read."""
    if record is None:
        return None
    return LastRound(
        round_number=record["round"], outcome=record["outcome"], accepted=len(record["accepted"]),
        rejected=sum(refusal.get("count", 1) for refusal in record["rejected"]),
        stragglers=len(record["stragglers"]), duration_s=record["duration_s"], metrics=record["metrics"],
        client_metrics=record["client_metrics"] or None, stale=len(record.get("stale", ())),
    )  # fmt: skip
