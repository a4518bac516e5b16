"""A federation and its virtual clients in virtual time. Pure: what happened goes in, effects come out.

The clock jumps from one event to the next, so a straggler costs nobody a second. A client reads announcements as an
edge does, with the edge's own rule (edge_client/rounds.py): invited to the open round it trains from its base, gives up
what cannot count any more, and after an absence takes the round up again. Training itself is done elsewhere: :class:`Begin` orders it, and the world stops before the instant
of an update's arrival until it is told what came of it. So the order of events, and with it every byte, is that of
virtual time, whoever trains and however fast.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from aggregator import events as ev
from aggregator.federation import Federation
from aggregator.round import Update
from edge_client.rounds import Assignment, Key, asks_to_score, assignment_of, counts
from fl_protocol.messages import Plan, RoundState
from fl_sim.profiles import Profile


@dataclass(frozen=True)
class Work:
    """One client's part of one round. ``arrives_at`` is when its update, or its scores, are with the aggregator."""

    number: int
    client_id: str
    shard: int
    assignment: Assignment
    arrives_at: float

    @property
    def transfer(self) -> str:
        """The transfer id of its update. Nobody could mistake it for another: no digest is needed."""
        return f"{self.assignment.round_number}-{self.assignment.attempt}-{self.number}"


@dataclass(frozen=True)
class Begin:
    """The client fetches the model and trains; ``in_vain``: it vanishes before it is done, so nobody need train."""

    work: Work
    in_vain: bool = False


@dataclass(frozen=True)
class Drop:
    """What becomes of ``work`` is of no interest any more."""

    work: Work


@dataclass(frozen=True)
class Outcome:
    """What came of a training: an update, or (``reason``) why there is none. Of a scoring: its ``metrics``.

    ``refused``: why the update cannot be taken, by name.
    """

    num_examples: int = 0
    metrics: dict[str, float] | None = None
    reason: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class _Vanishes:
    work: Work


@dataclass(frozen=True)
class _Returns:
    client_id: str


Effect = ev.Effect | Begin | Drop
_Event = Work | _Vanishes | _Returns


@dataclass
class _Client:
    client_id: str
    shard: int
    num_examples: int
    work: Work | None = None
    given: Key = (0, "")
    """The newest round, and its base, for which it gave an update or declined."""
    scored: Key = (0, "")
    """The newest round, and its base, that it scored without training."""
    tries: int = 0
    """How often it has begun to work in the attempt of a round that ``tried`` names."""
    tried: tuple[int, int] = (0, 0)


class World:
    """All that happens, one instant after the other. ``examples`` are those of shard 1, 2, ...; 0 is nobody."""

    def __init__(
        self, federation: Federation, clients: Sequence[str], examples: Sequence[int], profile: Profile,
        payload_bytes: int, now: float = 0.0,
    ) -> None:  # fmt: skip
        self.federation, self.profile, self.now = federation, profile, now
        self._payload_bytes = payload_bytes
        self._clients = {
            client_id: _Client(client_id, shard, num)
            for shard, (client_id, num) in enumerate(zip(clients, examples, strict=True), 1)
            if num > 0
        }
        self._queue: list[tuple[float, int, _Event]] = []
        self._order = count()

    def begin(self, away: Mapping[str, float] | None = None) -> list[Effect]:
        """Everybody is here from the start, so that the first cohort is drawn from all; but for those who were
        ``away`` when an earlier process ended, and return at that instant.
        """
        absent = away or {}
        for client_id, instant in absent.items():
            self._at(instant, _Returns(client_id))
        self.federation.present.update(
            (client.client_id, client.num_examples)
            for client in self._clients.values()
            if client.client_id not in absent
        )
        return [*self._seen(self.federation.start(self.now)), *self.tell(ev.Ticked())]

    def tell(self, event: ev.Event) -> list[Effect]:
        """What comes of ``event`` at this instant."""
        return self._seen(self.federation.handle(event, self.now))

    @property
    def idle(self) -> bool:
        """Whether nothing will happen any more by itself."""
        return not self._queue and self.federation.next_instant() is None

    @property
    def away(self) -> dict[str, float]:
        """Who has vanished, and when each returns, in the order of their return."""
        returns = (entry for entry in sorted(self._queue, key=lambda entry: entry[:2]))
        return {event.client_id: instant for instant, _, event in returns if isinstance(event, _Returns)}

    @property
    def at_work(self) -> list[Work]:
        """What clients work at now."""
        return [client.work for client in self._clients.values() if client.work is not None]

    def awaited(self) -> Work | None:
        """The training whose outcome :meth:`step` needs, or None if it needs none."""
        if not self._queue or self._ticks_first():
            return None
        event = self._queue[0][2]
        return event if isinstance(event, Work) and self._at_work(event) else None

    def step(self, outcome: Outcome | None = None) -> list[Effect]:
        """Go to the next instant and let happen what happens there."""
        if self._ticks_first():
            self.now = max(self.now, self.federation.next_instant() or self.now)
            return self.tell(ev.Ticked())
        self.now, _, event = heapq.heappop(self._queue)
        if isinstance(event, _Returns):
            return self._returns(self._clients[event.client_id])
        if isinstance(event, _Vanishes):
            return self._vanishes(event.work) if self._at_work(event.work) else []
        if not self._at_work(event):
            return []
        assert outcome is not None
        return self._arrives(event, outcome)

    def _ticks_first(self) -> bool:
        instant = self.federation.next_instant()
        return instant is not None and (not self._queue or instant <= self._queue[0][0])

    def _at_work(self, work: Work) -> bool:
        return self._clients[work.client_id].work is work

    # --- what happens to clients ----------------------------------------------------------------------------

    def _arrives(self, work: Work, outcome: Outcome) -> list[Effect]:
        client, number = self._clients[work.client_id], work.assignment.round_number
        client.work = None
        if not work.assignment.trains:
            return self._scored(client, work, outcome)
        client.given = work.assignment.key
        if outcome.reason is not None:
            told = self.tell(ev.ClientDeclined(client.client_id, number, outcome.reason))
        elif outcome.refused is not None:
            told = self.tell(
                ev.UpdateRefused(client.client_id, work.transfer, outcome.refused, round_number=number)
            )
        else:
            update = Update(
                client.client_id, work.transfer, "", outcome.num_examples, dict(outcome.metrics or {})
            )
            told = self.tell(ev.UpdateArrived(number, work.assignment.base, update))
        return told + self._consider([client], self.federation.state())

    def _scored(self, client: _Client, work: Work, outcome: Outcome) -> list[Effect]:
        client.scored = work.assignment.key
        scored = ev.ModelScored(client.client_id, *work.assignment.key, dict(outcome.metrics or {}))
        told = self.tell(scored) if outcome.metrics else []
        return told + self._consider([client], self.federation.state())

    def _vanishes(self, work: Work) -> list[Effect]:
        client = self._clients[work.client_id]
        client.work = None
        away_s = self.profile.dropout.away_s
        self._at(
            self.now + (self._duration(client, work.assignment.plan) if away_s is None else away_s),
            _Returns(client.client_id),
        )
        return self.tell(ev.ClientGone(client.client_id))

    def _returns(self, client: _Client) -> list[Effect]:
        told = self.tell(ev.ClientReady(client.client_id, client.num_examples))
        return told + self._consider([client], self.federation.state())

    # --- what clients do ------------------------------------------------------------------------------------

    def _seen(self, effects: Iterable[ev.Effect]) -> list[Effect]:
        """The federation's effects, each announcement followed by what clients make of it."""
        found: list[Effect] = []
        for effect in effects:
            found.append(effect)
            if isinstance(effect, ev.Announce):
                found += self._drop_useless(effect.state)
                asked = dict.fromkeys((*(effect.state.evaluators or ()), *effect.state.cohort))
                invited = (self._clients.get(client_id) for client_id in asked)
                found += self._consider([client for client in invited if client is not None], effect.state)
        return found

    def _drop_useless(self, state: RoundState) -> list[Effect]:
        """Who works at what cannot count any more stops."""
        found: list[Effect] = []
        for client in self._clients.values():
            work = client.work
            may = counts if work is not None and work.assignment.trains else asks_to_score
            if work is not None and not may(state, client.client_id, work.assignment.key):
                client.work = None
                found.append(Drop(work))
        return found

    def _consider(self, clients: Iterable[_Client], state: RoundState) -> list[Effect]:
        """Let each of them begin to work for the open round, if it is invited, here, idle, and has not answered."""
        found: list[Effect] = []
        for client in clients:
            if client.work is None and client.client_id in self.federation.present:
                assignment = assignment_of(state, client.client_id)
                if assignment is None:
                    continue
                if assignment.trains and assignment.key != client.given:
                    found.append(self._begin(client, assignment))
                elif not assignment.trains and assignment.key not in (client.given, client.scored):
                    found.append(self._begin_scoring(client, assignment))
        return found

    def _begin(self, client: _Client, assignment: Assignment) -> Begin:
        asked = assignment.round_number, assignment.attempt
        client.tries, client.tried = (client.tries + 1 if client.tried == asked else 1), asked
        takes = self._duration(client, assignment.plan)
        work = Work(client.tries, client.client_id, client.shard, assignment, self.now + takes)
        client.work = work
        gone_after = self.profile.vanishes_at(client.shard, *asked, client.tries)
        if gone_after is not None:
            self._at(self.now + gone_after * takes, _Vanishes(work))
            return Begin(work, in_vain=True)
        self._at(work.arrives_at, work)
        return Begin(work)

    def _begin_scoring(self, client: _Client, assignment: Assignment) -> Begin:
        """A forward pass costs little beside training, and nobody waits for it: it takes as long as the model travels."""
        takes = self.profile.duration(client.shard, 0, self._payload_bytes)
        client.work = work = Work(0, client.client_id, client.shard, assignment, self.now + takes)
        self._at(work.arrives_at, work)
        return Begin(work)

    def _duration(self, client: _Client, plan: Plan) -> float:
        images = client.num_examples * plan.local_epochs
        if plan.local_steps is not None:
            images = plan.local_steps * plan.batch_size
        return self.profile.duration(client.shard, images, self._payload_bytes)

    def _at(self, instant: float, event: _Event) -> None:
        heapq.heappush(self._queue, (instant, next(self._order), event))
