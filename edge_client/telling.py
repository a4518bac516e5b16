"""What an edge says of itself, retained: at once if it is news of its data, else when it has lasted. Pure."""

from __future__ import annotations

from dataclasses import replace

from edge_client.events import Effect, Send
from fl_protocol.messages import ClientState, state_seq
from fl_protocol.topics import Kind, Topic

SETTLED_S = 0.5
"""Fetching, training and uploading are told when they last: in a quick round they would be most of the traffic."""


class Telling:
    """The retained state of one client, as far as others have heard it."""

    def __init__(self, job: str, client: str) -> None:
        self._topic = str(Topic(job, Kind.STATE, client=client))
        self._connection = self._said = 0
        self._told: ClientState | None = None
        self.deadline = float("inf")

    def connected(self, number: int) -> None:
        """A connection begins, the ``number``-th: what is said in it counts from there."""
        self._connection, self._said = number, 0

    def forget(self) -> None:
        """Nobody there has heard us: the next state is news."""
        self._told = None

    def tell(self, state: ClientState, now: float, *, heard: bool) -> list[Effect]:
        """The message, if there is somebody to hear it and the last one has been untrue for long enough."""
        told = self._told
        if not heard or state == told:
            self.deadline = float("inf")
            return []
        if told is not None and _of_data(state) == _of_data(told) and now < self.deadline:
            self.deadline = min(self.deadline, now + SETTLED_S)
            return []
        self._told, self.deadline = state, float("inf")
        return [Send(self._topic, self.counted(state), retain=True)]

    def counted(self, state: ClientState) -> ClientState:
        """``state``, numbered: what comes late is known for old."""
        numbered = replace(state, seq=state_seq(self._connection, self._said))
        self._said += 1
        return numbered


def _of_data(state: ClientState) -> tuple[object, ...]:
    return state.num_examples, state.summary, state.device
