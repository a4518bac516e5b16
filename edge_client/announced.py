"""What ``pub/round`` has said so far, and what is news in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from edge_client.newest import Newest
from fl_protocol import messages
from fl_protocol.messages import LastRound, RoundState


@dataclass(frozen=True)
class News:
    """What an announcement says that was not so before."""

    another_run: bool = False
    """Its rounds may have the numbers, and the base, of those we answered."""
    goes_on: bool = False
    """The run had stopped between two rounds: nobody heard what was offered meanwhile."""
    ended: LastRound | None = None
    """A round that has ended since we listen."""


class Announced:
    """The newest announcement of a job's rounds."""

    def __init__(self) -> None:
        self.round: RoundState | None = None
        self._newest = Newest()
        self._run_id: str | None = None

    def hear(self, state: RoundState) -> News | None:
        """Take an announcement, or find it old (None)."""
        if not self._newest.takes(state):
            return None
        before, self.round = self.round, state
        known_run, self._run_id = self._run_id, state.run_id or self._run_id
        if known_run not in (None, self._run_id):
            return News(another_run=True)
        return News(goes_on=_was_between_runs(before, state), ended=_ended(before, state))

    @property
    def finished(self) -> bool:
        """Whether no round will come."""
        return self.round is not None and self.round.phase == messages.FINISHED

    @property
    def between_runs(self) -> bool:
        """Whether the aggregator waits for an operator to launch a run, or to go on with the last one."""
        return self.round is not None and _is_between_runs(self.round)


def _is_between_runs(state: RoundState) -> bool:
    return state.phase == messages.WAITING and state.rounds <= state.round_number


def _was_between_runs(before: RoundState | None, state: RoundState) -> bool:
    return before is not None and _is_between_runs(before) and state.phase == messages.OPEN


def _ended(before: RoundState | None, state: RoundState) -> LastRound | None:
    known = before.last.round_number if before and before.last else None
    last = state.last
    return last if before is not None and last is not None and last.round_number != known else None
