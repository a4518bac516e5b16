"""Who asks whether an aggregator is there hears it, and nothing changes."""

from __future__ import annotations

import pytest

from aggregator.membership import Membership
from aggregator.probing import answers
from fl_protocol.codec import decode, encode
from fl_protocol.messages import AggregatorState, ClientState, Echo, Hello, Probe
from fl_protocol.topics import AGGREGATOR, Kind, Topic


def topic(kind: Kind, client: str = "a") -> Topic:
    return Topic("lung", kind, client=client, transfer="doctor")


@pytest.mark.parametrize("kind", [Kind.STATE, Kind.EVENT, Kind.OFFER, Kind.CHUNK])
def test_an_edge_hears_on_both_its_topics_what_arrived(kind: Kind) -> None:
    told = answers(topic(kind), Probe("cd"), "ab", Membership(), 5.0)
    assert [(address.kind, address.client) for address, _ in told] == [(Kind.CONTROL, "a"), (Kind.ACK, "a")]
    for address, message in told:
        assert decode(encode(message), address.kind) == Echo("cd", kind.name.lower(), "", 5.0)


def test_the_holder_of_the_name_is_told_of_and_not_disturbed() -> None:
    membership = Membership()
    membership.hello("a", Hello("11"), 0.0)
    membership.state("a", ClientState("11", "training", 1, 10))
    before = dict(membership.members)
    (_, first), _ = answers(topic(Kind.EVENT), Probe("cd"), "ab", membership, 5.0)
    assert isinstance(first, Echo) and first.holder == "training"
    assert membership.members == before
    membership.state("a", ClientState("11", "left"))
    (_, then), _ = answers(topic(Kind.EVENT), Probe("cd"), "ab", membership, 5.0)
    assert isinstance(then, Echo) and then.holder == ""


def test_another_aggregator_is_answered_where_it_asks_and_a_doctor_that_hears_itself_is_not() -> None:
    asked = answers(topic(Kind.CONTROL, AGGREGATOR), Probe("cd"), "ab", Membership(), 5.0)
    assert asked == [(Topic("lung", Kind.AGG), AggregatorState(True, "ab", "cd"))]
    for kind in (Kind.STATE, Kind.EVENT, Kind.OFFER, Kind.CHUNK):
        assert answers(topic(kind, AGGREGATOR), Probe("cd"), "ab", Membership(), 5.0) == []


def test_nobody_answers_himself() -> None:
    assert answers(topic(Kind.CONTROL, AGGREGATOR), Probe("ab"), "ab", Membership(), 5.0) == []
