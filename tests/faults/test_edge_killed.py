"""``kill -9`` and ``kill -STOP`` of an edge: what it had is not sent again, and nobody waits for it longer than need be."""

from __future__ import annotations

import signal

from fl_protocol.tensors import LEAF_BYTES
from fl_protocol.transfer import WINDOW
from fl_sim.line import Line
from tests.brokers import Broker
from tests.e2e.processes import Program, Programs, until
from tests.faults.sites import edges, end_well, line_to, trainings

MB = 1_000_000
MORE = 0.4
"""MB of messages that carry no payload, and of chunks that were on the line when it was cut."""


def test_killed_while_downloading_it_goes_on_at_the_first_missing_chunk(
    programs: Programs, broker: Broker
) -> None:
    gate = programs.folder / "gate"
    agg = programs.agg("--rounds", 1, "--min-clients", 1, "--model", "mb-5")
    with line_to(broker, Line(down_kbit_s=12_000)) as line:
        first = programs.edge("edge1", "--broker", line.where)
        until(lambda: line.counts().down_bytes > 3 * MB, "three fifths have come")
        first.kill()
        at_kill = line.counts().down_bytes
        assert at_kill < 4.5 * MB
        assert list((programs.folder / "edge1" / "models").glob("*.part"))
        again = programs.edge("edge1", "--broker", line.where, name="again", env={"ECHO_GATE": str(gate)})
        until(
            lambda: list((programs.folder / "edge1" / "models").glob("*.safetensors")), "the model is whole"
        )
        assert line.counts().down_bytes < (5 + 4 * LEAF_BYTES / MB + MORE) * MB, line.counts()
        gate.touch()
        end_well(agg, again)
    assert programs.rounds()[0]["outcome"] == "closed"


def test_killed_while_training_it_trains_again(programs: Programs) -> None:
    gate, done = programs.folder / "gate", programs.folder / "trainings"
    agg = programs.agg("--rounds", 1, "--min-clients", 1)
    first = programs.edge("edge1", env={"ECHO_GATE": str(gate), "ECHO_TRAININGS": str(done)})
    agg.says("round=1 opened")
    first.says("round=1 joined")
    first.kill()
    gate.touch()
    again = programs.edge("edge1", name="again", env={"ECHO_TRAININGS": str(done)})
    end_well(agg, again)
    assert programs.rounds()[0]["outcome"] == "closed" and len(trainings(done)) == 1


def test_killed_while_uploading_it_sends_at_most_a_window_again(programs: Programs, broker: Broker) -> None:
    size = 20 * MB
    done = programs.folder / "trainings"
    agg = programs.agg("--rounds", 1, "--min-clients", 1, "--model", "mb-20", "--grace", 60)
    with line_to(broker, Line(up_kbit_s=80_000)) as line:
        first = programs.edge("edge1", "--broker", line.where, env={"ECHO_TRAININGS": str(done)})
        until(lambda: line.counts().up_bytes > 0.7 * size, "most of the update is up")
        first.kill()
        assert line.counts().up_bytes < 0.95 * size, "or it shows nothing"
        assert not programs.rounds()
        again = programs.edge(
            "edge1", "--broker", line.where, name="again", env={"ECHO_TRAININGS": str(done)}
        )
        agg.says("round=1 accepted")
        assert line.counts().up_bytes < size + WINDOW * LEAF_BYTES + MORE * MB, line.counts()
        end_well(agg, again)
    assert programs.rounds()[0]["outcome"] == "closed"
    assert len(trainings(done)) == 1, "a finished update survives on disk"


def waiting_for(programs: Programs, *more: object) -> tuple[Program, list[Program], Program]:
    """An aggregator that would wait for ten minutes, two edges that have sent, and one that trains on and on."""
    agg = programs.agg("--min-clients", 3, "--deadline", 600, "--grace", 600, *more)
    gate = programs.folder / "gate"
    slow = programs.edge("edge3", "--shard", "3/3", "--keepalive", 2, env={"ECHO_GATE": str(gate)})
    quick = edges(programs, 2, of=3)
    agg.says(r"round=1 accepted", times=2)
    assert not programs.rounds(), "it waits for the third"
    return agg, quick, slow


def test_a_dead_edge_is_not_waited_for(programs: Programs) -> None:
    agg, quick, slow = waiting_for(programs, "--rounds", 1)
    slow.kill()
    agg.says("client lost client=edge3")
    end_well(agg, *quick)
    (record,) = programs.rounds()
    assert (record["outcome"], record["stragglers"]) == ("closed_short", ["edge3"])


def test_a_hung_edge_is_not_waited_for_and_finds_its_way_back(programs: Programs) -> None:
    """Its connection stays open and silent: the broker gives it up after one and a half keepalives and some seconds."""
    agg, quick, slow = waiting_for(programs, "--rounds", 2)
    slow.send(signal.SIGSTOP)
    agg.says("client lost client=edge3")
    agg.says("round=1 outcome=closed_short")
    (programs.folder / "gate").touch()
    slow.send(signal.SIGCONT)
    end_well(agg, *quick, slow)
    assert [(r["outcome"], r["accepted"]) for r in programs.rounds()] == [
        ("closed_short", ["edge1", "edge2"]), ("closed", ["edge1", "edge2", "edge3"])
    ]  # fmt: skip
