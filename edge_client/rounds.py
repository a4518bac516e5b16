"""What a round wants of one client: read from ``pub/round`` alone. Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from fl_protocol import messages
from fl_protocol.messages import Plan, RoundState

Key = tuple[int, str]
"""A round and the digest of its base model: what is trained once, whatever the attempt."""

MAX_REMEMBERED = 256
_ROUNDS_TO_COME = (messages.WAITING, messages.OPEN, messages.AGGREGATING)


@dataclass(frozen=True)
class Assignment:
    """What a round asks of this client; ``plan.seed`` is the client's own.

    ``scores``: to score the base model on patients it holds out; ``trains``: to train it and send an update.
    """

    round_number: int
    attempt: int
    base: str
    task: str
    model: str
    image_size: int
    plan: Plan = field(hash=False)
    scores: bool = True
    trains: bool = True
    run_id: str | None = None

    @property
    def key(self) -> Key:
        return self.round_number, self.base


def assignment_of(state: RoundState | None, client: str) -> Assignment | None:
    """The work of ``client`` in the open round, if it is invited to train or to score."""
    if state is None or state.phase != messages.OPEN or state.base is None or state.plan is None:
        return None
    trains = _invites(state, client)
    scores = trains if state.evaluators is None else client in state.evaluators
    if not (trains or scores):
        return None
    plan = replace(state.plan, seed=training_seed(state.plan.seed, state.round_number, client))
    return Assignment(
        state.round_number, state.attempt, state.base, state.task, state.model, state.image_size, plan,
        scores=scores, trains=trains, run_id=state.run_id,
    )  # fmt: skip


def asks_to_score(state: RoundState | None, client: str, key: Key) -> bool:
    """Whether the open round wants this base model scored by ``client``, and no update of it."""
    wanted = assignment_of(state, client)
    return wanted is not None and wanted.key == key and not wanted.trains


def counts(state: RoundState | None, client: str, key: Key) -> bool:
    """Whether an update of this round and base may still be folded in: as one of the open round, or behind it by
    no more rounds than the strategy takes.
    """
    if state is None:
        return False
    if is_current(state, client, key) or state.phase not in _ROUNDS_TO_COME:
        return is_current(state, client, key)
    ahead = state.round_number + (state.phase != messages.OPEN)
    return ahead <= state.rounds and 0 < ahead - key[0] <= state.max_staleness


def is_current(state: RoundState | None, client: str, key: Key) -> bool:
    """Whether an update of this round and base may still be accepted as one of the open round.

    Between two attempts of a round the aggregator takes what arrives for the next one; one that was stopped in the
    round goes on with it when it is back.
    """
    number, base = key
    if state is None or state.base != base:
        return False
    if state.phase == messages.STOPPED:
        return client in state.cohort and state.round_number == number
    between_attempts = state.phase == messages.WAITING and state.round_number == number - 1
    return between_attempts or (_invites(state, client) and state.round_number == number)


def is_worth_beginning(state: RoundState | None, client: str, key: Key) -> bool:
    """Whether to go on fetching the model: it may count when trained, and is one of the two that the broker has."""
    return counts(state, client, key) and state is not None and key[0] >= state.round_number - 1


def _invites(state: RoundState, client: str) -> bool:
    return state.phase == messages.OPEN and client in state.cohort


def training_seed(seed: int, round_number: int, client: str) -> int:
    """Every client and round its own numbers, the same on every machine and every try."""
    words = f"{seed}/{round_number}/{client}".encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:8], "big") >> 1


class Answered:
    """Which attempts (None: the round, for good) have our answer, the oldest forgotten."""

    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[Key, int | None], None] = OrderedDict()

    def add(self, key: Key, attempt: int | None) -> None:
        self._keys[key, attempt] = None
        if len(self._keys) > MAX_REMEMBERED:
            self._keys.popitem(last=False)

    def has(self, key: Key, attempt: int) -> bool:
        return (key, None) in self._keys or (key, attempt) in self._keys

    def clear(self) -> None:
        self._keys.clear()
