"""What operators ask: answered each time, done once, refused with a reason where it makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator import events as ev
from aggregator.commands import REMEMBERED, RETAINED, Desk, acceptable, rounds_of
from aggregator.federation import Federation
from fl_protocol import messages as msg
from fl_protocol.codec import decode
from fl_protocol.errors import ConfigError
from fl_protocol.topics import Kind
from tests.federations import BASE, arrived, rule
from tests.payloads import digest_of
from tests.unit.aggregator.shown import Shown


class Office:
    """A desk, and what it did and answered."""

    def __init__(self) -> None:
        self.view, self.done, self.objection = Shown(), [], ""  # type: tuple[Shown, list[msg.Command], str]
        self.answers: list[msg.Answer] = []
        self.desk = Desk("job", self._publish, self.view)

    def _publish(self, topic: str, payload: bytes) -> None:
        assert topic == "fl/1/job/op/answer"
        answer = decode(payload, Kind.ANSWER)
        assert isinstance(answer, msg.Answer)
        self.answers.append(answer)

    def _perform(self, command: msg.Command) -> None:
        if self.objection:
            raise ConfigError(self.objection)
        self.done.append(command)

    def take(self, command: msg.Command, *, retained: bool = False) -> msg.Answer:
        self.desk.take(command, self._perform, retained=retained)
        return self.answers[-1]


def test_a_command_is_done_once_and_answered_as_often_as_it_comes() -> None:
    office, command = Office(), msg.Command("a1", msg.PAUSE)
    assert [office.take(command) for _ in range(3)] == [msg.Answer("a1", True)] * 3
    assert office.done == [command]
    assert office.take(msg.Command("a2", msg.PAUSE)).ok and len(office.done) == 2


def test_what_cannot_be_is_answered_with_the_reason_also_the_second_time() -> None:
    office, command = Office(), msg.Command("a1", msg.RESUME)
    office.objection = "the run is not paused"
    assert office.take(command) == msg.Answer("a1", False, "the run is not paused")
    office.objection = ""
    assert office.take(command) == msg.Answer("a1", False, "the run is not paused"), "it was answered"
    assert office.done == []


def test_a_retained_command_is_not_done() -> None:
    office = Office()
    assert office.take(msg.Command("a1", msg.STOP), retained=True) == msg.Answer("a1", False, RETAINED)
    assert office.done == []


def test_only_so_many_answers_are_remembered() -> None:
    office = Office()
    for number in range(REMEMBERED + 1):
        office.take(msg.Command(f"{number:x}", msg.PAUSE))
    office.take(msg.Command("1", msg.PAUSE))
    assert len(office.done) == REMEMBERED + 1
    office.take(msg.Command("0", msg.PAUSE))
    assert len(office.done) == REMEMBERED + 2, "the oldest is forgotten"


def opened(**changes: Any) -> Federation:
    federation = Federation(rule(min_clients=2, **changes), BASE)
    federation.start(0.0)
    return federation


def test_what_is_acceptable_is_what_makes_sense_now() -> None:
    federation = opened(rounds=1)
    usual = (msg.MORE, msg.PAUSE, msg.FINISH_ROUND, msg.STOP, msg.EVICT)
    assert acceptable(federation) == usual
    federation.handle(ev.Paused(), 0.0)
    assert acceptable(federation) == (msg.MORE, msg.RESUME, msg.FINISH_ROUND, msg.STOP, msg.EVICT)
    federation.handle(ev.Resumed(), 0.0)
    for client in "ab":
        federation.handle(ev.ClientReady(client, 10), 0.0)
    assert acceptable(federation) == usual
    federation.handle(ev.LastRoundSet(), 0.0)
    assert acceptable(federation) == (msg.RESUME, msg.STOP, msg.EVICT)
    federation.handle(ev.Resumed(), 0.0)
    for client in "ab":
        federation.handle(arrived(client), 1.0)
    federation.handle(ev.Aggregated(1, digest_of("model 1")), 2.0)
    federation.handle(ev.Evaluated(1, None), 3.0)
    assert acceptable(federation) == ()


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1.5", "٣", "9" * 30])
def test_more_rounds_are_a_number_of_them(text: str) -> None:
    with pytest.raises(ConfigError, match=r"more rounds: .* is no number of them: give 1 or more"):
        rounds_of({"rounds": text})
    with pytest.raises(ConfigError):
        rounds_of(None)
    assert rounds_of({"rounds": " 12 "}) == 12
