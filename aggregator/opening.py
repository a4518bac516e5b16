"""The next round: when there can be one, who is invited, and what an abandoned attempt leaves it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aggregator.cohort import draw, draw_evaluators
from aggregator.events import FederationConfig
from aggregator.past import Past
from aggregator.round import Refused, Round
from fl_protocol import messages


def needed(config: FederationConfig) -> int:
    """Clients that must be here before a round can open: so many that its cohort can be a quorum."""
    return max(config.min_clients, config.cohort.whole_for(config.quorum.count or 1))


def at_hand(present: Iterable[str], before: Round | None) -> set[str]:
    """Those who are here, and those whose update the abandoned attempt ``before`` left us."""
    return {*present, *(before.accepted if before else ())}


def open_round(
    config: FederationConfig, past: Past, base: str, present: Mapping[str, int], now: float, *, before: Round | None,
    refusals: dict[Refused, int],
) -> Round:  # fmt: skip
    """The round after those of ``past``; or its next attempt, which carries on what ``before`` accepted.

    ``present`` are examples by client, ``refusals`` what was refused since the last round.
    """
    number, attempt = past.rounds_done + 1, before.attempt + 1 if before else 1
    carried = before.folded if before else ()
    cohort = draw(
        present, config.cohort.of(len(at_hand(present, before))), seed=config.seed, round_number=number,
        attempt=attempt, keep=[update.client_id for update in carried if not update.staleness],
        sampling=config.sampling, losses=past.losses,
    )  # fmt: skip
    opened = Round(
        number, attempt, cohort, base, config.quorum.of(len(cohort)), config.grace_s, config.deadline_s, now,
        refusals=before.refusals if before else refusals, evaluators=_evaluators(config, present, cohort, number),
    )  # fmt: skip
    for update in carried:
        opened.accept(update, now)
    return opened


def _evaluators(
    config: FederationConfig, present: Mapping[str, int], cohort: frozenset[str], number: int
) -> frozenset[str] | None:
    if config.eval_cohort is None:
        return None
    size = min(config.eval_cohort.of(len(present)), messages.MAX_EVALUATORS)
    return draw_evaluators(present, cohort, size, seed=config.seed, round_number=number)
