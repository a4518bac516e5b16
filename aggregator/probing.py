"""What an aggregator answers to who asks whether it is there: another aggregator, or an edge's doctor. Pure."""

from __future__ import annotations

from aggregator.membership import Membership
from fl_protocol.messages import LEFT, LOST, AggregatorState, Echo, Message, Probe
from fl_protocol.topics import AGGREGATOR, Kind, Topic

DOCTOR = "doctor"
"""The transfer that no update can have: an update's begins with its round."""


def answers(
    topic: Topic, probe: Probe, instance: str, membership: Membership, clock_s: float
) -> list[tuple[Topic, Message]]:  # fmt: skip
    """Where to say what. ``clock_s`` is our time of day.

    An edge hears it on both of its topics, so that each way in can be told from each way out; a doctor that speaks for
    an aggregator listens to itself.
    """
    if probe.instance == instance:
        return []
    if topic.client == AGGREGATOR:
        birth = AggregatorState(True, instance, probe.instance)
        return [(Topic(topic.job, Kind.AGG), birth)] if topic.kind is Kind.CONTROL else []
    member = membership.members.get(topic.client)
    holder = member.state if member and member.state not in (LOST, LEFT) else ""
    echo = Echo(probe.instance, topic.kind.name.lower(), holder, clock_s)
    return [
        (Topic(topic.job, Kind.CONTROL, client=topic.client), echo),
        (Topic(topic.job, Kind.ACK, client=topic.client, transfer=DOCTOR), echo),
    ]
