"""Who is who: one living instance for every client id. Pure; time is an argument.

An edge asks for its name (Hello) and is welcomed or refused. If somebody else has the name, that one is asked
whether it still lives (Ping); only its silence makes room. So two edges with one id never disturb each other, and
an edge that was cut off without a last will gets its name back after PING_S seconds. Whom an operator sends away
does not come back as long as the aggregator lives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aggregator.events import ClientEvicted, ClientGone, ClientReady, Event
from fl_protocol.errors import ConfigError
from fl_protocol.messages import (
    LEFT,
    LOST,
    PREPARING,
    ClientState,
    DataSummary,
    Hello,
    Message,
    Ping,
    Pong,
    Refusal,
    Welcome,
)

PING_S = 3.0
MAX_MEMBERS = 10_000
SENT_AWAY = "sent away by an operator"


@dataclass(frozen=True)
class Member:
    """A welcomed client and the last it said of itself."""

    instance: str
    state: str = PREPARING
    num_examples: int = 0
    summary: DataSummary | None = None
    device: str = ""
    seq: int = 0

    @property
    def can_train(self) -> bool:
        return self.state not in (PREPARING, LOST, LEFT) and self.num_examples > 0


@dataclass(frozen=True)
class Send:
    """Send ``message`` to a client's control topic."""

    client_id: str
    message: Message


@dataclass(frozen=True)
class _Challenge:
    newcomer: str
    until: float


Outcome = tuple[list[Send], list[Event]]


class Membership:
    """All clients the aggregator knows."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self._challenges: dict[str, _Challenge] = {}
        self._evicted: set[str] = set()

    def hello(self, client_id: str, message: Hello, now: float) -> Outcome:
        """Somebody asks to be ``client_id``."""
        member = self.members.get(client_id)
        if client_id in self._evicted:
            return [Send(client_id, Refusal(message.instance, SENT_AWAY))], []
        if member is None or member.state in (LOST, LEFT) or member.instance == message.instance:
            return self._welcome(client_id, message.instance)
        if client_id not in self._challenges:
            self._challenges[client_id] = _Challenge(message.instance, now + PING_S)
        return [Send(client_id, Ping(member.instance))], []

    def _welcome(self, client_id: str, instance: str) -> Outcome:
        if client_id not in self.members and not self._has_room():
            return [Send(client_id, Refusal(instance, f"this job has {MAX_MEMBERS} clients already"))], []
        known = self.members.get(client_id)
        if known is None or known.instance != instance:
            self.members[client_id] = Member(instance)
        self._challenges.pop(client_id, None)
        return [Send(client_id, Welcome(instance))], []

    def _has_room(self) -> bool:
        """Whether one more client may be known; one that has left is forgotten for it."""
        if len(self.members) < MAX_MEMBERS:
            return True
        left = next((name for name, member in self.members.items() if member.state in (LOST, LEFT)), None)
        if left is not None:
            del self.members[left]
        return left is not None

    def pong(self, client_id: str, message: Pong) -> Outcome:
        """The holder of a name lives: its challenger is sent away."""
        member, challenge = self.members.get(client_id), self._challenges.get(client_id)
        if member is None or challenge is None or message.instance != member.instance:
            return [], []
        del self._challenges[client_id]
        reason = f"another edge is using the client id {client_id!r}: stop it, or give this one --client-id"
        return [Send(client_id, Refusal(challenge.newcomer, reason))], []

    def evict(self, client_id: str) -> Outcome:
        """An operator sends a client away. Raises ConfigError if it is not there."""
        member = self.members.get(client_id)
        if member is None or member.state == LEFT:
            raise ConfigError(f"no client {client_id[:64]!r} is here")
        del self.members[client_id]
        self._challenges.pop(client_id, None)
        self._evicted.add(client_id)
        return [Send(client_id, Refusal(member.instance, SENT_AWAY))], [ClientEvicted(client_id)]

    def standing(self) -> list[Event]:
        """Who is here and who is gone, for a run that begins when all that has been told."""
        events: list[Event] = [ClientEvicted(name) for name in sorted(self._evicted)]
        for name, member in self.members.items():
            if member.can_train:
                events.append(ClientReady(name, member.num_examples))
            elif member.state in (LOST, LEFT):
                events.append(ClientGone(name))
        return events

    def holdings(self) -> dict[str, dict[str, int]]:
        """Images of each class by client, of those who told."""
        return {
            name: dict(member.summary.classes)
            for name, member in self.members.items()
            if member.summary is not None and member.summary.classes
        }

    def state(self, client_id: str, message: ClientState) -> Outcome:
        """A birth, a change of state, or a last will. Only the welcomed instance's counts, and no older one."""
        member = self.members.get(client_id)
        gone = message.state in (LOST, LEFT)
        if member is None:
            return [], [ClientGone(client_id)] if gone else []
        if member.instance != message.instance or message.seq < member.seq:
            return [], []
        if gone and not member.can_train and member.state == message.state:
            return [], []
        self.members[client_id] = now_is = replace(
            member, state=message.state, num_examples=message.num_examples,
            summary=message.summary or member.summary, device=message.device or member.device, seq=message.seq,
        )  # fmt: skip
        if gone or (member.can_train and not now_is.can_train):
            return [], [ClientGone(client_id)]
        if now_is.can_train and (not member.can_train or member.num_examples != now_is.num_examples):
            return [], [ClientReady(client_id, now_is.num_examples)]
        return [], []

    def tick(self, now: float) -> Outcome:
        """Holders that did not answer a Ping in time have lost their name."""
        sends: list[Send] = []
        events: list[Event] = []
        for client_id, challenge in list(self._challenges.items()):
            if now >= challenge.until:
                events.append(ClientGone(client_id))
                sends += self._welcome(client_id, challenge.newcomer)[0]
        return sends, events

    def next_instant(self) -> float | None:
        return min((challenge.until for challenge in self._challenges.values()), default=None)
