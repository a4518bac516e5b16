"""The phases of a run, and what a table of moves between them is made of. Pure.

WAITING      too few clients for a round, or an operator wants none
OPEN         a round is announced, updates arrive
AGGREGATING  the round is closed, its updates are folded
EVALUATING   the new model is published and scored
FINISHED     all rounds have ended, or no more of them are worth while
FAILED       a round was abandoned after its last attempt
STOPPED      an operator stopped the run, which can be gone on with
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from aggregator.events import Effect
from fl_protocol import messages

M = TypeVar("M")


class Phase(Enum):
    WAITING = "waiting"
    OPEN = "open"
    AGGREGATING = "aggregating"
    EVALUATING = "evaluating"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


ANNOUNCED_AS = {
    Phase.WAITING: messages.WAITING,
    Phase.OPEN: messages.OPEN,
    Phase.AGGREGATING: messages.AGGREGATING,
    Phase.EVALUATING: messages.AGGREGATING,
    Phase.FINISHED: messages.FINISHED,
    Phase.FAILED: messages.STOPPED,
    Phase.STOPPED: messages.STOPPED,
}
OVER = (Phase.FINISHED, Phase.FAILED, Phase.STOPPED)


@dataclass(frozen=True)
class Move(Generic[M]):
    """What handles an event in a phase, and in which phases that may end."""

    handler: Callable[[M, Any, float], list[Effect]]
    to: frozenset[Phase]


def moves(handler: Callable[[M, Any, float], list[Effect]], **ways: str) -> dict[tuple[Phase, str], Move[M]]:
    """By phase (its name, and where it may end, in words)."""
    return {
        (Phase(start), start): Move(handler, frozenset(Phase(end) for end in ends.split()))
        for start, ends in ways.items()
    }
