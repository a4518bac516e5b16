"""The whole edge as a process, over a real mosquitto, against an aggregator that the test plays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aggregator.intake import Completed, Intake, SendAck, WriteLeaf
from aggregator.publisher import Publisher
from fl_protocol import messages as msg
from fl_protocol.codec import decode, encode
from fl_protocol.modelfile import ModelFile, read_header, write
from fl_protocol.network import Received
from fl_protocol.tensors import TensorSpec
from fl_protocol.topics import Kind, Topic, aggregator_filters, parse
from tests.brokers import PATIENCE_S, Broker, Peer, mosquitto, running
from tests.unit.edge_client.sessions import PLAN

ROOT = Path(__file__).parents[3]
SPECS = (TensorSpec("a", (3,)), TensorSpec("b", (2, 2)))
AGG = "bb" * 8
M = TypeVar("M")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running(mosquitto(tmp_path_factory.mktemp("broker"))) as found:
        yield found


class Aggregator:
    """Announces what the test says, and takes updates in with the real intake."""

    def __init__(self, broker: Broker, job: str, model: ModelFile) -> None:
        self.job = job
        self.peer = Peer(broker.options, f"agg-{job}", filters=aggregator_filters(job))
        self.publisher = Publisher(job, self.peer.transport)
        self.manifest = model.manifest("model", 262144, with_metadata=True)
        self.model = model
        self.intake = Intake(SPECS)
        self.uploads: dict[str, bytearray] = {}
        self.hold_verdicts = False
        self.states: list[str] = []

    def __enter__(self) -> Aggregator:  # noqa: PYI034 - Self is not in Python 3.10
        self.peer.__enter__()
        self.peer.connected()
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.__exit__()

    def say(self, topic: Topic, message: msg.Message, *, retain: bool = False) -> None:
        self.peer.transport.publish(str(topic), encode(message), retain=retain)

    def announce(self, **changes: Any) -> None:
        state = msg.RoundState(
            phase=msg.OPEN, round_number=1, rounds=2, attempt=1, cohort=("edge",), base=self.manifest.digest,
            task="echo", model="any", plan=PLAN,
        )  # fmt: skip
        self.say(Topic(self.job, Kind.ROUND), replace(state, **changes), retain=True)

    def serve(self, **changes: Any) -> None:
        self.publisher.publish(self.model, self.manifest)
        self.announce(**changes)
        self.say(Topic(self.job, Kind.AGG), msg.AggregatorState(True, AGG), retain=True)

    def control(self, message: msg.Message) -> None:
        self.say(Topic(self.job, Kind.CONTROL, client="edge"), message)

    def until(
        self, kind: type[M], wanted: Callable[[M], bool] = lambda _: True, timeout_s: float = 30.0
    ) -> M:
        """Answer as an aggregator does until this message of the edge comes."""
        end = time.monotonic() + timeout_s
        while True:
            received = self.peer.next(Received, max(0.001, end - time.monotonic()))
            topic = parse(received.topic)
            if not topic.client or topic.kind is Kind.CONTROL:
                continue
            message = decode(received.payload, topic.kind)
            self.answer(topic, message)
            if isinstance(message, kind) and wanted(message):
                return message

    def answer(self, topic: Topic, message: msg.Message) -> None:
        effects: list[Any] = []
        if isinstance(message, msg.ClientState):
            self.states.append(message.state)
        elif isinstance(message, msg.Hello):
            self.control(msg.Welcome(message.instance))
        elif isinstance(message, msg.Offer):
            self.uploads.setdefault(topic.transfer, bytearray(message.manifest.size))
            effects = list(self.intake.offered(topic.client, topic.transfer, message))
        elif isinstance(message, msg.Chunk):
            effects = list(self.intake.chunk(topic.client, topic.transfer, message.index, message.data))
        while effects:
            effect = effects.pop(0)
            if isinstance(effect, WriteLeaf):
                self.uploads[effect.transfer][effect.offset : effect.offset + len(effect.data)] = effect.data
            elif isinstance(effect, SendAck):
                self.say(Topic(self.job, Kind.ACK, client="edge", transfer=effect.transfer), effect.ack)
            elif isinstance(effect, Completed) and not self.hold_verdicts:
                effects += self.intake.answer(effect.client_id, effect.transfer, msg.ACCEPTED)


class Edge:
    """``fl-edge join`` as a process."""

    def __init__(
        self, broker: Broker, job: str, workdir: Path, *more: str, data: str = "fine", name: str = "edge"
    ) -> None:
        self.workdir = workdir
        command = [
            sys.executable, "-m", "edge_client", "join", "--broker", broker.options.where, "--job", job, "--client-id",
            name, "--workdir", str(workdir), "--data", data, "--plugin", "tests.unit.fl_tasks.echo_plugin", *more,
        ]  # fmt: skip
        env = {key: value for key, value in os.environ.items() if not key.startswith("FL_")}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Edge:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE_S * 2)
        return self.process.returncode, out, err

    def children(self) -> list[str]:
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    path = tmp_path / "global.safetensors"
    write(path, SPECS, {"task": "echo", "model": "any"}, [bytes(28)])
    return read_header(path)


pytestmark = pytest.mark.broker


def state_is(wanted: str) -> Callable[[msg.ClientState], bool]:
    return lambda message: message.state == wanted


def test_an_edge_joins_trains_sends_and_ends_with_the_final_model(
    broker: Broker, model: ModelFile, tmp_path: Path
) -> None:
    with Aggregator(broker, "whole", model) as agg, Edge(broker, "whole", tmp_path / "edge") as edge:
        agg.serve()
        first = agg.until(msg.ClientState)
        assert first.state == msg.PREPARING
        offer = agg.until(msg.Offer)
        assert (offer.round_number, offer.base, offer.num_examples) == (1, agg.manifest.digest, 1)
        ready = agg.until(msg.ClientState, state_is(msg.READY))
        assert (ready.num_examples, ready.device, ready.instance) == (1, "cpu", first.instance)
        (sent,) = agg.uploads.values()
        assert bytes(sent) == b"\x00\x00\x80?" * 7, "every delta of the echo task is 1"
        agg.announce(phase=msg.FINISHED, round_number=2, cohort=())
        agg.until(msg.ClientState, state_is(msg.LEFT))
        code, out, err = edge.ended()
        assert (code, err) == (0, "")
        final = tmp_path / "edge" / "models" / f"{agg.manifest.digest}.safetensors"
        assert str(final) in out
        assert final.read_bytes()[-28:] == bytes(28)
        assert list((tmp_path / "edge" / "outbox").iterdir()) == []


def test_a_finished_update_outlives_a_kill_and_is_not_trained_again(
    broker: Broker, model: ModelFile, tmp_path: Path
) -> None:
    with Aggregator(broker, "killed", model) as agg:
        agg.hold_verdicts = True
        agg.serve()
        with Edge(broker, "killed", tmp_path / "edge") as edge:
            offered = agg.until(msg.Offer)
            edge.process.kill()
            agg.until(msg.ClientState, state_is(msg.LOST))
        agg.hold_verdicts = False
        agg.intake = Intake(SPECS)
        with Edge(broker, "killed", tmp_path / "edge"):
            again = agg.until(msg.Offer)
            agg.until(msg.ClientState, state_is(msg.READY))
        assert again == offered
        assert msg.TRAINING not in agg.states[agg.states.index(msg.LOST) :]


def test_a_round_that_moves_on_cancels_the_training(broker: Broker, model: ModelFile, tmp_path: Path) -> None:
    with Aggregator(broker, "moved", model) as agg, Edge(broker, "moved", tmp_path / "edge", data="slow"):
        agg.serve()
        agg.until(msg.ClientState, state_is(msg.TRAINING))
        agg.announce(phase=msg.WAITING, round_number=5, cohort=())
        agg.until(msg.ClientState, state_is(msg.READY))
        agg.announce(round_number=6)
        assert agg.until(msg.ClientState, state_is(msg.TRAINING)).round_number == 6


def test_a_training_that_fails_declines(broker: Broker, model: ModelFile, tmp_path: Path) -> None:
    with Aggregator(broker, "fails", model) as agg, Edge(broker, "fails", tmp_path / "edge", data="diverged"):
        agg.serve()
        assert agg.until(msg.Decline) == msg.Decline(1, "the loss is not finite")


def test_bad_data_is_exit_2(broker: Broker, model: ModelFile, tmp_path: Path) -> None:
    with (
        Aggregator(broker, "data", model) as agg,
        Edge(broker, "data", tmp_path / "edge", data="data") as edge,
    ):
        agg.serve()
        agg.until(msg.ClientState, state_is(msg.LEFT))
        code, _, err = edge.ended()
        assert (code, err) == (2, "fl-edge: give another folder\n")


def test_a_refused_edge_is_exit_3_and_leaves_no_word(
    broker: Broker, model: ModelFile, tmp_path: Path
) -> None:
    with Aggregator(broker, "taken", model) as agg, Edge(broker, "taken", tmp_path / "edge") as edge:
        agg.say(Topic("taken", Kind.AGG), msg.AggregatorState(True, AGG), retain=True)
        received = agg.peer.next(Received)
        while parse(received.topic).kind is not Kind.EVENT:
            received = agg.peer.next(Received)
        hello = decode(received.payload, Kind.EVENT)
        assert isinstance(hello, msg.Hello)
        agg.control(msg.Refusal(hello.instance, "another edge is using the client id 'edge'"))
        code, _, err = edge.ended()
        assert (code, err) == (3, "fl-edge: another edge is using the client id 'edge'\n")
        agg.say(Topic("taken", Kind.AGG), msg.AggregatorState(False, AGG))
        topics = [each.topic for each in agg.peer.receive_until(str(Topic("taken", Kind.AGG)))]
        assert not [topic for topic in topics if topic.endswith("/state")]


def test_a_second_edge_in_one_folder_is_exit_3(broker: Broker, model: ModelFile, tmp_path: Path) -> None:
    with Aggregator(broker, "twice", model) as agg, Edge(broker, "twice", tmp_path / "edge"):
        agg.serve()
        agg.until(msg.ClientState)
        with Edge(broker, "twice", tmp_path / "edge", name="other") as second:
            code, _, err = second.ended()
        assert code == 3
        assert "another fl-edge works in" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_says_farewell_and_leaves_nothing_running(
    broker: Broker, model: ModelFile, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    job = f"stop-{code}"
    with Aggregator(broker, job, model) as agg, Edge(broker, job, tmp_path / "edge", data="slow") as edge:
        agg.serve()
        agg.until(msg.ClientState, state_is(msg.TRAINING))
        (child,) = edge.children()
        edge.process.send_signal(number)
        agg.until(msg.ClientState, state_is(msg.LEFT))
        assert edge.ended()[0] == code
        assert edge.ended()[2] == ""
        assert not Path(f"/proc/{child}").exists()


def test_an_edge_waits_for_its_aggregator_with_the_model_in_hand(
    broker: Broker, model: ModelFile, tmp_path: Path
) -> None:
    with Aggregator(broker, "away", model) as agg:
        agg.serve()
        agg.say(Topic("away", Kind.AGG), msg.AggregatorState(False, AGG), retain=True)
        agg.peer.settle()
        with Edge(broker, "away", tmp_path / "edge") as edge:
            stored = tmp_path / "edge" / "models" / f"{agg.manifest.digest}.safetensors"
            end = time.monotonic() + PATIENCE_S
            while not stored.exists():
                assert time.monotonic() < end, "the model did not come"
                time.sleep(0.02)
            agg.say(Topic("away", Kind.AGG), msg.AggregatorState(True, AGG), retain=True)
            agg.until(msg.Offer)
            assert edge.process.poll() is None


def test_a_broker_that_dies_is_ridden_out(model: ModelFile, tmp_path: Path) -> None:
    with running(mosquitto(tmp_path / "broker")) as own, Aggregator(own, "cut", model) as agg:
        agg.serve()
        with Edge(own, "cut", tmp_path / "edge", data="slow"):
            agg.until(msg.ClientState, state_is(msg.TRAINING))
            own.kill()
            own.start()
            agg.peer.connected()
            agg.serve()
            found = agg.until(msg.ClientState, state_is(msg.TRAINING))
            assert found.round_number == 1
