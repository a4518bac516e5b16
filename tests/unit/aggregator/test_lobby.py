"""Between runs: what operators may ask for, what they are told, and that edges are answered."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.lobby import BEGINS, WAITS, GoOn, Launch, Lobby
from aggregator.runs import Launched, Runs
from aggregator.station import Station
from fl_protocol import messages as msg
from fl_protocol.codec import decode, encode
from fl_protocol.errors import ConfigError
from fl_protocol.topics import Kind, Topic, parse
from fl_protocol.transport import Connected, Received
from tests.unit.aggregator.shown import Shown

STATE = msg.RoundState(msg.WAITING, 0, 0, 0, (), None, "mnist", "tiny-cnn", None, image_size=28)
GIVEN: dict[str, Any] = {"eval_data": None, "plugin": None, "rounds": 7, "task": "mnist"}


class Network:
    """As much of a transport as a station needs: what was published last, by topic."""

    def __init__(self) -> None:
        self.last: dict[str, bytes] = {}
        self.filters: set[str] = set()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, bulk: bool = False) -> None:
        self.last[topic] = payload

    def subscribe(self, filters: list[str]) -> None:
        """Everything comes from the test."""
        self.filters |= set(filters)

    def unsubscribe(self, filters: list[str]) -> None:
        self.filters -= set(filters)

    def heard(self, kind: Kind, client: str = "") -> Any:
        return decode(self.last[str(Topic("job", kind, client=client))], kind)


class Place:
    """A lobby in a station that is connected."""

    def __init__(self, out: Path) -> None:
        self.network = Network()
        self.station = Station("job", "ab", Shown(), queue.Queue())
        self.station.transport = self.network  # type: ignore[assignment]
        self.runs = Runs(out)
        self.lobby = Lobby(self.station, self.runs, GIVEN, STATE)
        self.station.connection = Connected("5", None, number=1)
        self.lobby.on_connected(self.station.connection)

    def ask(self, action: str, settings: dict[str, str] | None = None, client: str = "") -> str:
        """The objection to a command, empty if there is none."""
        try:
            self.lobby.command(msg.Command("ab", action, settings, client))
        except ConfigError as error:
            return str(error)
        return ""

    def put(self, kind: Kind, message: msg.Message, client: str = "") -> None:
        self.station.inbox.put(
            Received(str(Topic("job", kind, client=client)), encode(message), retained=False)
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_launch_ends_the_wait_with_its_options(place: Place) -> None:
    place.put(Kind.COMMAND, msg.Command("c1", msg.LAUNCH, {"seed": "5"}))
    order = place.lobby.wait()
    assert isinstance(order, Launch)
    assert (order.options["seed"], order.options["rounds"], order.options["task"]) == (5, 7, "mnist")
    state = place.network.heard(Kind.ROUND)
    assert (state.phase, state.reason, state.task, state.image_size) == (msg.WAITING, WAITS, "mnist", 28)
    assert place.network.heard(Kind.ANSWER) == msg.Answer("c1", True)


def test_edges_are_welcomed_and_what_they_offer_is_let_pass(place: Place) -> None:
    place.put(Kind.EVENT, msg.Hello("cd"), "site")
    place.put(Kind.STATE, msg.ClientState("cd", msg.READY, num_examples=9), "site")
    place.put(Kind.EVENT, msg.Progress(1, 0.5), "site")
    place.station.inbox.put("what is left of a run")
    place.put(Kind.COMMAND, msg.Command("c1", msg.LAUNCH))
    place.lobby.wait()
    assert place.network.heard(Kind.CONTROL, "site") == msg.Welcome("cd")
    assert place.station.membership.members["site"].num_examples == 9


def test_a_client_can_be_sent_away_between_runs(place: Place) -> None:
    place.put(Kind.EVENT, msg.Hello("cd"), "site")
    place.lobby.step()
    assert place.ask(msg.EVICT, client="site") == ""
    assert place.network.heard(Kind.CONTROL, "site") == msg.Refusal("cd", "sent away by an operator")
    assert place.ask(msg.EVICT, client="site") == "no client 'site' is here"


def test_without_a_run_there_is_nothing_to_go_on_with(place: Place) -> None:
    assert place.lobby.accepts() == (msg.LAUNCH, msg.EVICT)
    for action in (msg.PAUSE, msg.FINISH_ROUND, msg.STOP):
        assert place.ask(action) == "no run is under way"
    assert place.ask(msg.RESUME) == "there is no run yet: launch one"
    assert place.ask(msg.MORE, {"rounds": "2"}) == "there is no run yet: launch one"
    assert "--rounds" in place.ask(msg.LAUNCH, {"rounds": "0"})


def test_the_newest_run_can_be_gone_on_with(place: Place) -> None:
    path = place.runs.begin({})
    stopped = Launched({}, under_way=False)
    place.runs.note(path, stopped)
    assert place.lobby.accepts() == (msg.LAUNCH, msg.MORE, msg.RESUME, msg.EVICT)
    place.put(Kind.COMMAND, msg.Command("c1", msg.RESUME))
    assert place.lobby.wait() == GoOn()
    place.put(Kind.COMMAND, msg.Command("c2", msg.MORE, {"rounds": "2"}))
    assert place.lobby.wait() == GoOn(2)
    place.runs.note(path, replace(stopped, rounds_left=False))
    assert place.lobby.accepts() == (msg.LAUNCH, msg.MORE, msg.EVICT)
    assert place.ask(msg.RESUME) == "run 001 has had its rounds: ask for more of them"
    place.put(Kind.COMMAND, msg.Command("c3", msg.MORE, {"rounds": "1"}))
    assert place.lobby.wait() == GoOn(1)


def test_the_first_order_stands_also_if_it_comes_while_a_run_ends(place: Place) -> None:
    assert place.ask(msg.LAUNCH, {"rounds": "3"}) == ""
    assert place.ask(msg.LAUNCH, {"rounds": "4"}) == BEGINS
    order = place.lobby.wait("the run before was stopped")
    assert isinstance(order, Launch) and order.options["rounds"] == 3


def test_while_a_run_begins_operators_and_edges_are_answered(place: Place) -> None:
    go_on = threading.Event()
    place.put(Kind.COMMAND, msg.Command("c1", msg.LAUNCH))
    place.put(Kind.EVENT, msg.Hello("cd"), "site")

    def slow() -> str:
        assert go_on.wait(60)
        return "made"

    def publish(topic: str, payload: bytes, **_: bool) -> None:
        place.network.last[topic] = payload
        if parse(topic).kind is Kind.CONTROL:
            go_on.set()

    place.network.publish = publish  # type: ignore[method-assign]
    assert place.lobby.aside(slow) == "made"
    assert place.network.heard(Kind.ANSWER) == msg.Answer("c1", False, BEGINS)
    assert place.network.heard(Kind.CONTROL, "site") == msg.Welcome("cd")
    assert place.network.heard(Kind.ROUND).reason == BEGINS


def test_what_goes_wrong_in_beginning_is_raised_where_it_was_asked_for(place: Place) -> None:
    def fails() -> None:
        raise ConfigError("no such model")

    with pytest.raises(ConfigError, match="no such model"):
        place.lobby.aside(fails)


def test_what_lay_on_op_run_is_heard_once_a_connection(place: Place) -> None:
    """Else everything that is told there would come back."""
    topic = "fl/1/job/op/run"
    assert topic in place.network.filters
    place.put(Kind.RUN, msg.RunInfo("ef", "before", b"", (), first=1, newest=2))
    place.lobby.step()
    assert topic not in place.network.filters
    place.lobby.step()
    assert place.network.last["fl/1/job/op/round/2"] == b"", "the line of another process is cleared"
    place.lobby.on_connected(Connected("5", None, number=2))
    assert topic in place.network.filters


def test_a_signal_ends_the_wait(place: Place) -> None:
    place.station.stop_requested = True
    assert place.lobby.wait("the run before failed") is None
    (state, _), (online, _) = (
        (decode(frame, parse(topic).kind), 0) for topic, frame, _ in place.lobby.farewell()
    )
    assert isinstance(state, msg.RoundState) and state.phase == msg.STOPPED
    assert isinstance(online, msg.AggregatorState) and not online.online
