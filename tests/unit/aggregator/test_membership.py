"""One living instance for every client id, whatever arrives in whatever order."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aggregator import membership
from aggregator.events import ClientEvicted, ClientGone, ClientReady
from aggregator.membership import PING_S, SENT_AWAY, Membership, Send
from fl_protocol.errors import ConfigError
from fl_protocol.messages import (
    CLIENT_STATES,
    LEFT,
    LOST,
    PREPARING,
    READY,
    TRAINING,
    ClientState,
    DataSummary,
    Hello,
    Ping,
    Pong,
    Refusal,
    Welcome,
    state_seq,
)

A, B, C = "a1", "b2", "c3"
HERE = ClientState(A, READY, num_examples=20, device="cpu")


def joined() -> Membership:
    """Instance A is the client "site" and can train."""
    members = Membership()
    assert members.hello("site", Hello(A), 0.0) == ([Send("site", Welcome(A))], [])
    assert members.state("site", HERE) == ([], [ClientReady("site", 20)])
    return members


def test_it_is_ready_once_it_says_with_how_many_examples() -> None:
    members = Membership()
    members.hello("site", Hello(A), 0.0)
    assert members.state("site", ClientState(A, PREPARING)) == ([], [])
    assert members.state("site", ClientState(A, READY)) == ([], [])
    assert members.state("site", HERE) == ([], [ClientReady("site", 20)])
    assert members.state("site", HERE) == ([], []), "told again, it changes nothing"
    assert members.state("site", replace(HERE, state=TRAINING)) == ([], [])
    assert members.state("site", replace(HERE, num_examples=25)) == ([], [ClientReady("site", 25)])


@pytest.mark.parametrize("how", [LOST, LEFT])
def test_it_goes_and_comes_back(how: str) -> None:
    members = joined()
    assert members.state("site", ClientState(A, how)) == ([], [ClientGone("site")])
    assert members.state("site", ClientState(A, how)) == ([], [])
    assert members.hello("site", Hello(A), 5.0)[0] == [Send("site", Welcome(A))]
    assert members.state("site", HERE) == ([], [ClientReady("site", 20)])


def test_a_death_while_it_prepares_is_told() -> None:
    members = Membership()
    members.hello("site", Hello(A), 0.0)
    members.state("site", ClientState(A, PREPARING))
    assert members.state("site", ClientState(A, LOST)) == ([], [ClientGone("site")])


def test_one_that_can_no_longer_train_is_gone_until_it_can() -> None:
    members = joined()
    assert members.state("site", ClientState(A, PREPARING)) == ([], [ClientGone("site")])
    assert members.state("site", HERE) == ([], [ClientReady("site", 20)])
    assert members.state("site", ClientState(A, READY)) == ([], [ClientGone("site")])


def test_what_it_said_once_is_kept() -> None:
    members = Membership()
    members.hello("site", Hello(A), 0.0)
    summary = DataSummary(30, 9, 20, 10)
    members.state("site", replace(HERE, summary=summary))
    members.state("site", ClientState(A, TRAINING, num_examples=20))
    assert (members.members["site"].summary, members.members["site"].device) == (summary, "cpu")


def test_the_unknown_are_not_here_yet_their_will_counts() -> None:
    members = Membership()
    assert members.state("site", HERE) == ([], [])
    assert members.state("site", ClientState(A, LOST)) == ([], [ClientGone("site")])
    assert members.members == {}


@pytest.mark.parametrize("state", CLIENT_STATES)
def test_a_twin_that_was_not_welcomed_changes_nothing(state: str) -> None:
    members = joined()
    before = dict(members.members)
    assert members.state("site", ClientState(B, state, num_examples=99)) == ([], [])
    assert members.members == before


def test_the_holder_answers_and_the_twin_is_sent_away() -> None:
    members = joined()
    assert members.hello("site", Hello(B), 10.0) == ([Send("site", Ping(A))], [])
    assert members.next_instant() == 10.0 + PING_S
    assert members.pong("site", Pong(B)) == ([], []), "it cannot answer for the holder"
    sends, events = members.pong("site", Pong(A))
    assert events == []
    assert isinstance(sends[0].message, Refusal)
    assert sends[0].message.instance == B
    assert "--client-id" in sends[0].message.reason
    assert members.pong("site", Pong(A)) == ([], [])
    assert members.tick(99.0) == ([], [])
    assert members.next_instant() is None


def test_a_silent_holder_loses_its_name() -> None:
    members = joined()
    members.hello("site", Hello(B), 10.0)
    assert members.hello("site", Hello(B), 12.0)[0] == [Send("site", Ping(A))], "asking again wins no time"
    assert members.tick(10.0 + PING_S - 0.01) == ([], [])
    assert members.tick(10.0 + PING_S) == ([Send("site", Welcome(B))], [ClientGone("site")])
    assert members.state("site", replace(HERE, state=LOST)) == ([], []), "its late will is of the past"
    assert members.state("site", replace(HERE, instance=B)) == ([], [ClientReady("site", 20)])


def test_a_twin_is_welcome_as_soon_as_the_holder_has_left() -> None:
    members = joined()
    members.hello("site", Hello(B), 10.0)
    members.state("site", ClientState(A, LOST))
    assert members.hello("site", Hello(B), 10.5) == ([Send("site", Welcome(B))], [])
    assert members.tick(99.0) == ([], [])


def test_of_two_twins_the_first_is_answered_first() -> None:
    members = joined()
    members.hello("site", Hello(B), 10.0)
    members.hello("site", Hello(C), 10.5)
    assert members.tick(10.0 + PING_S)[0] == [Send("site", Welcome(B))]
    assert members.hello("site", Hello(C), 14.0)[0] == [Send("site", Ping(B))]


def test_two_clients_do_not_meet() -> None:
    members = joined()
    members.hello("other", Hello(B), 0.0)
    assert members.state("other", replace(HERE, instance=B)) == ([], [ClientReady("other", 20)])
    members.hello("site", Hello(C), 1.0)
    assert members.pong("other", Pong(B)) == ([], [])
    assert members.tick(9.0)[1] == [ClientGone("site")]
    assert members.members["other"].can_train


def test_the_house_is_full_until_somebody_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "MAX_MEMBERS", 2)
    members = joined()
    members.hello("second", Hello(B), 0.0)
    refused = members.hello("third", Hello(C), 0.0)[0]
    assert isinstance(refused[0].message, Refusal)
    assert members.hello("site", Hello(A), 0.0)[0] == [Send("site", Welcome(A))], "who is in stays in"
    members.state("second", ClientState(B, LEFT))
    assert members.hello("third", Hello(C), 1.0)[0] == [Send("third", Welcome(C))]
    assert set(members.members) == {"site", "third"}


def test_what_comes_late_of_the_same_instance_is_of_the_past() -> None:
    """The will of a connection that is over, and a state of before: a bridge may deliver both behind the new birth."""
    members = joined()
    members.state("site", replace(HERE, seq=state_seq(2, 0)))
    assert members.state("site", ClientState(A, LOST, seq=state_seq(1))) == ([], [])
    assert members.state("site", ClientState(A, PREPARING, seq=state_seq(1, 0))) == ([], [])
    assert members.members["site"].can_train
    assert members.state("site", ClientState(A, LOST, seq=state_seq(2))) == ([], [ClientGone("site")])
    assert members.state("site", replace(HERE, seq=state_seq(3, 0))) == ([], [ClientReady("site", 20)])


def test_whom_an_operator_sends_away_is_told_and_does_not_come_back() -> None:
    members = joined()
    assert members.evict("site") == ([Send("site", Refusal(A, SENT_AWAY))], [ClientEvicted("site")])
    assert "site" not in members.members and members.standing() == [ClientEvicted("site")]
    for instance in (A, B):
        assert members.hello("site", Hello(instance), 1.0) == (
            [Send("site", Refusal(instance, SENT_AWAY))],
            [],
        )
        assert members.state("site", replace(HERE, instance=instance)) == ([], [])
    assert members.hello("other", Hello(C), 1.0) == ([Send("other", Welcome(C))], [])


def test_who_is_not_here_cannot_be_sent_away() -> None:
    members = joined()
    with pytest.raises(ConfigError, match="no client 'nobody' is here"):
        members.evict("nobody")
    members.evict("site")
    with pytest.raises(ConfigError, match="no client 'site' is here"):
        members.evict("site")
    members.hello("gone", Hello(C), 0.0)
    members.state("gone", ClientState(C, LEFT))
    with pytest.raises(ConfigError, match="no client 'gone' is here"):
        members.evict("gone")


def test_a_run_that_begins_later_hears_who_is_here_and_who_is_gone() -> None:
    members = joined()
    members.hello("idle", Hello(B), 0.0)
    members.hello("gone", Hello(C), 0.0)
    members.state("gone", ClientState(C, LOST))
    assert members.standing() == [ClientReady("site", 20), ClientGone("gone")]
