"""Whether an offered update can be admitted, and if not, why not, by name. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aggregator.past import Past
from aggregator.round import Round
from fl_protocol import messages


@dataclass(frozen=True)
class Offered:
    """What an offer, or an update that arrived, says of itself."""

    client_id: str
    round_number: int
    base: str
    num_examples: int


@dataclass(frozen=True)
class Standing:
    """How the run stands. ``open`` is the round that updates may join, ``current`` the newest that has begun."""

    open: Round | None
    current: int
    over: bool
    """No round is to come."""
    past: Past
    present: Mapping[str, int]

    def refusal(self, offered: Offered) -> str | None:
        """Why the update cannot be admitted now, or None."""
        admitting, number = self.open, offered.round_number
        if admitting is not None and number == admitting.number:
            if self._claims_too_much(offered):
                return "bad_num_examples"
            return admitting.admission(offered.client_id, number, offered.base)
        reason = self._in_time(number) or self.past.admission(offered.client_id, number, offered.base)
        if reason is None and admitting is not None and (offered.client_id, number) in admitting.stale:
            return "duplicate_update"
        if reason is None and self._claims_too_much(offered):
            return "bad_num_examples"
        return reason

    def _claims_too_much(self, offered: Offered) -> bool:
        return not 1 <= offered.num_examples <= self.present.get(offered.client_id, 0)

    def _in_time(self, round_number: int) -> str | None:
        """Why an update of an earlier round cannot count in the open round, or, between rounds, in the next."""
        if self.over:
            return messages.LATE if 0 < round_number <= self.current else "wrong_round"
        return self.past.in_time(round_number, self.open.number if self.open else self.current + 1)
