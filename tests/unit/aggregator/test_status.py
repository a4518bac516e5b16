"""Status: what retained topics tell, whoever is dead and whatever lies about on the broker."""

from __future__ import annotations

import io
import json
import queue
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.status.job import as_json, jobs_in, newest, read_status, status_of
from aggregator.status.lines import lines, show
from aggregator.status.table import show_table
from fl_protocol.codec import encode
from fl_protocol.errors import BrokerUnavailable, ConfigError
from fl_protocol.messages import (
    AggregatorState,
    ClientState,
    DataSummary,
    LastRound,
    Message,
    Plan,
    Probe,
    RoundState,
)
from fl_protocol.topics import Kind, Topic
from fl_protocol.transport import BrokerOptions, Connected, Event, MqttTransport, Received

KEYS = {
    "job", "aggregator_online", "phase", "round", "rounds", "attempt", "cohort", "quorum", "min_clients", "accepted", "refused",
    "base", "task", "model", "image_size", "plan", "reason", "clients", "last", "malformed",
}  # fmt: skip
OPEN_ROUND = RoundState(
    "open", 3, 10, 2, ("st-marys", "county"), "ab" * 32, "chest-xray", "hilum-cnn", Plan(1, 32, 0.01, 7), 96, 2, 2, 1,
    last=LastRound(2, "closed_short", 2, 1, 0, 33.2, {"auroc": 0.88, "loss": 0.3}),
)  # fmt: skip


def reading(kind: Kind, message: Message, client: str = "", job: str = "lung") -> tuple[str, bytes]:
    return str(Topic(job, kind, client=client)), encode(message)


def readings() -> list[tuple[str, bytes]]:
    """A dead aggregator's job: its last will, the round it left open, two clients."""
    summary = DataSummary(1000, 900, 850, 150, classes={"NORMAL": 300, "PNEUMONIA": 700})
    return [
        reading(Kind.AGG, AggregatorState(False, "ab")), reading(Kind.ROUND, OPEN_ROUND),
        reading(Kind.STATE, ClientState("aa", "training", 3, 850, summary, "cpu x 4"), "st-marys"),
        reading(Kind.STATE, ClientState("bb", "lost", 2, 12), "county"),
        reading(Kind.STATE, ClientState("cc", "ready"), "elsewhere", job="other"),
    ]  # fmt: skip


def test_a_dead_aggregator_leaves_its_round_readable() -> None:
    status = status_of("lung", readings())
    assert status.aggregator_online is False and status.phase == "open" and status.round_number == 3
    assert list(status.clients) == ["county", "st-marys"]
    assert status.clients["st-marys"].images == 1000 and status.clients["county"].images is None
    told = "\n".join(lines(status))
    assert "aggregator=away" in told and "client=st-marys state=training" in told
    assert "last_round=2 outcome=closed_short" in told and "auroc=0.88" in told


def test_malformed_frames_are_counted_and_cleared_topics_are_nothing() -> None:
    odd = [
        ("fl/1/lung/pub/round", b"\xc1junk"),
        ("fl/1/lung/nonsense", b"x"),
        ("fl/1/lung/up/gone/state", b""),
    ]
    status = status_of("lung", [*readings(), *odd])
    assert status.malformed == 2 and "gone" not in status.clients
    assert any("2 retained frame" in line for line in lines(status))


def test_a_job_nobody_knows_is_not_known() -> None:
    assert not status_of("nowhere", readings()).known
    assert status_of("other", readings()).known
    assert jobs_in([*readings(), ("junk", b"x")]) == ["lung", "other"]


@pytest.mark.parametrize("job", ["lung", "other", "nowhere"])
def test_json_has_the_same_keys_whatever_is_known(job: str) -> None:
    body = json.loads(json.dumps(as_json(status_of(job, readings()))))
    assert set(body) == KEYS


def test_json_names_rounds_as_the_documentation_does() -> None:
    body = as_json(status_of("lung", readings()))
    assert body["round"] == 3 and body["last"]["round"] == 2 and body["plan"]["batch_size"] == 32
    assert body["clients"]["st-marys"] == {
        "state": "training", "round": 3, "num_examples": 850, "device": "cpu x 4", "images": 1000, "patients": 900,
        "classes": {"NORMAL": 300, "PNEUMONIA": 700}, "figures": None, "scored_round": 0,
    }  # fmt: skip


@pytest.mark.parametrize("job", ["lung", "other", "nowhere"])
def test_the_table_and_the_lines_show_any_status(job: str) -> None:
    status, plain, table = status_of(job, readings()), io.StringIO(), io.StringIO()
    show(status, plain)
    show_table(status, table, width=120)
    assert job in plain.getvalue() and job in table.getvalue() and "\x1b" not in plain.getvalue()


def test_what_a_model_scores_at_a_site_is_shown_beside_it() -> None:
    figures = {"auroc": 0.912, "loss": 0.31, "examples": 120.0}
    state = ClientState("cc" * 8, "ready", 0, 850, None, "cpu", figures, 4)
    status = status_of("lung", [reading(Kind.STATE, state, "st-marys")])
    assert lines(status)[-1].endswith("device=cpu scored_round=4 auroc=0.912 loss=0.31 examples=120")
    assert as_json(status)["clients"]["st-marys"]["figures"] == figures
    stream = io.StringIO()
    show_table(status, stream, width=160)
    assert "round=4 auroc=0.912" in stream.getvalue()


def test_hostile_text_reaches_no_terminal() -> None:
    evil = ClientState("aa", "ready", device="cpu\x1b[2J\nx")
    status = status_of("lung", [reading(Kind.STATE, evil, "county")])
    table = io.StringIO()
    show_table(status, table, width=120)
    assert "\x1b[2J" not in table.getvalue() and all(line.isprintable() for line in lines(status))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerOptions]:
    """A real mosquitto on a free loopback port."""
    binary = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        pytest.skip("mosquitto is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    process = subprocess.Popen(
        [binary, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await_port(port)
        yield BrokerOptions(host="127.0.0.1", port=port)
    finally:
        process.terminate()
        process.wait(10)


def _await_port(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("mosquitto did not start")


@pytest.mark.broker
def test_a_status_is_read_from_a_broker_with_nobody_there(broker: BrokerOptions) -> None:
    inbox: queue.Queue[Event] = queue.Queue()
    writer = MqttTransport(broker, "writer", None, inbox.put)
    writer.start()
    assert isinstance(inbox.get(timeout=10), Connected)
    for topic, frame in [*readings(), ("fl/1/lung/up/odd/state", b"junk")]:
        writer.publish(topic, frame, retain=True)
    assert writer.close(timeout_s=10)
    status = read_status(broker, "lung")
    assert status.round_number == 3 and len(status.clients) == 2 and status.malformed == 1
    with pytest.raises(ConfigError, match=r"no job 'nowhere'.*it has lung, other"):
        read_status(broker, "nowhere")


@pytest.mark.broker
def test_no_broker_is_one_clear_error() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(BrokerUnavailable) as error:
        read_status(BrokerOptions(host="127.0.0.1", port=port), "lung")
    assert str(port) in str(error.value) and "\n" not in str(error.value)


def test_a_doctor_at_work_does_not_hide_a_client() -> None:
    kept = reading(Kind.STATE, ClientState("aa", "training", 3), "a")
    asked = reading(Kind.STATE, Probe("bb"), "a")
    frames = [Received(*kept, retained=True), Received(*asked, retained=False)]
    status = status_of("lung", newest(frames))
    assert status.clients["a"].state == "training" and status.malformed == 0


def test_refusals_of_the_round_under_way_are_told() -> None:
    state = reading(Kind.ROUND, replace(OPEN_ROUND, refused=4))
    status = status_of("lung", [state])
    assert as_json(status)["refused"] == 4 and "refused=4" in "\n".join(lines(status))
    out = io.StringIO()
    show_table(status, out, 120)
    assert "4 refused" in out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_narrow_terminal_loses_columns_and_no_name(width: int) -> None:
    summary = DataSummary(1564, 1162, 1337, 227, classes={"NORMAL": 439})
    figures = {"auroc": 0.95, "accuracy": 0.9, "loss": 0.3}
    kept = [
        reading(Kind.STATE, ClientState("aa", "training", 1, 1337, summary, "cuda:0", figures, 1), name)
        for name in ("st-marys-radiology", "county-hospital-2")
    ]
    out = io.StringIO()
    show_table(status_of("lung", [reading(Kind.ROUND, OPEN_ROUND), *kept]), out, width)
    assert "…" not in out.getvalue()
    assert all(word in out.getvalue() for word in ("st-marys-radiology", "county-hospital-2", "training"))
    assert ("device" in out.getvalue()) is (width == 160)
    rows = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue()).splitlines()
    assert max(map(len, rows)) <= width
