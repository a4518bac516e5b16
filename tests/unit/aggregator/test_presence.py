"""What the aggregator says of itself, in which order it counts."""

from __future__ import annotations

from aggregator.presence import Presence
from fl_protocol.codec import decode
from fl_protocol.messages import OPEN, AggregatorState, Plan, RoundState
from fl_protocol.topics import Kind
from tests.payloads import digest_of

ME = "ab" * 8
ROUND = RoundState(OPEN, 2, 9, 1, (), digest_of("m"), "chest-xray", "hilum-cnn", Plan(1, 8, 0.1, 0))


class Said:
    """Who listens."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, bytes]] = []
        self.presence = Presence("lung", ME, self)

    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> None:
        assert retain
        self.frames.append((topic, payload))

    def states(self) -> list[AggregatorState]:
        heard = [decode(payload, Kind.AGG) for topic, payload in self.frames if topic.endswith("/agg")]
        return [state for state in heard if isinstance(state, AggregatorState)]

    def rounds(self) -> list[RoundState]:
        heard = [decode(payload, Kind.ROUND) for topic, payload in self.frames if topic.endswith("/round")]
        return [state for state in heard if isinstance(state, RoundState)]


def will(presence: Presence, connection: int) -> AggregatorState:
    found = decode(presence.last_words(connection), Kind.AGG)
    assert isinstance(found, AggregatorState)
    return found


def test_a_last_will_is_newer_than_its_connection_and_older_than_the_next() -> None:
    said = Said()
    said.presence.connected(1)
    said.presence.say_online()
    said.presence.say_online("ef" * 8)
    said.presence.connected(2)
    said.presence.say_online()
    first, answer, second = said.states()
    lost = will(said.presence, 1)
    assert first.seq < answer.seq < lost.seq < second.seq
    assert (first.online, answer.echo, lost.online, lost.instance) == (True, "ef" * 8, False, ME)


def test_a_round_is_said_again_only_if_it_has_to_be() -> None:
    said = Said()
    said.presence.announce(ROUND)
    said.presence.announce(ROUND, again=False)
    said.presence.announce(ROUND)
    assert [(state.instance, state.seq) for state in said.rounds()] == [(ME, 1), (ME, 2)]


def test_the_farewell_counts_on() -> None:
    said = Said()
    said.presence.connected(1)
    said.presence.announce(ROUND)
    said.presence.say_online()
    said.frames += [(topic, payload) for topic, payload, retain in said.presence.farewell(ROUND) if retain]
    here, left = said.states()
    assert here.seq < left.seq < will(said.presence, 1).seq
    assert not left.online
    assert [state.seq for state in said.rounds()] == [1, 2]
