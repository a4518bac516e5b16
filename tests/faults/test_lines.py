"""Bad lines between a site and the broker: cut, silent, slow, lossy, and delivering everything twice."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from fl_protocol.tensors import LEAF_BYTES
from fl_protocol.topics import Kind
from fl_protocol.transfer import WINDOW
from fl_sim.line import PROFILES, Line
from tests.brokers import Broker
from tests.e2e.processes import Program, Programs, until
from tests.faults.sites import LONG, edges, end_well, final_model, line_to, retained, story, undisturbed_run

MB = 1_000_000
KEEPALIVE = ("--keepalive", 2)


def three(programs: Programs, third_by: str, *more: object, **env: str) -> tuple[list[Program], Program]:
    """Edges 1 and 2 straight to the broker, and the third over a line."""
    two = edges(programs, 2, of=3)
    return two, programs.edge("edge3", "--shard", "3/3", "--broker", third_by, *KEEPALIVE, *more, env=env)


def test_a_short_silence_is_sat_out(programs: Programs, broker: Broker) -> None:
    """The cable is out for two seconds in the middle of an upload: nobody reconnects, nothing comes again."""
    size = 12 * MB
    agg = programs.agg("--rounds", 1, "--min-clients", 3, "--model", "mb-12", "--grace", 60)
    with line_to(broker, Line(up_kbit_s=50_000)) as line:
        two, third = three(programs, line.where)
        until(lambda: line.counts().up_bytes > size / 2, "half of it is up")
        with line.stalled():
            time.sleep(2.0)
        agg.says("round=1 accepted client=edge3")
        assert line.counts().up_bytes < size + MB and line.counts().connections == 1
        end_well(agg, *two, third)
    (record,) = programs.rounds()
    assert (record["outcome"], record["attempts"], record["rejected"]) == ("closed", 1, [])


def test_a_cut_is_resumed_while_the_round_is_open(programs: Programs, broker: Broker) -> None:
    """In the middle of an upload, and another edge still trains: what had arrived does not come again."""
    size, gate = 12 * MB, programs.folder / "gate"
    agg = programs.agg("--rounds", 1, "--min-clients", 2, "--quorum", 2, "--model", "mb-12", "--grace", 60)
    with line_to(broker, Line(up_kbit_s=50_000)) as line:
        second = programs.edge("edge2", "--shard", "2/2", env={"ECHO_GATE": str(gate)})
        first = programs.edge("edge1", "--shard", "1/2", "--broker", line.where)
        until(lambda: line.counts().up_bytes > size / 2, "half of it is up")
        with line.refusing():
            line.cut()
            agg.says("client lost client=edge1")
        agg.says("round=1 accepted client=edge1")
        assert line.counts().up_bytes < size + WINDOW * LEAF_BYTES
        gate.touch()
        end_well(agg, first, second)
    (record,) = programs.rounds()
    assert (record["outcome"], record["attempts"], record["rejected"]) == ("closed", 1, [])


@pytest.mark.parametrize("seconds", [0.0, 30.0] if LONG else [0.0])
def test_a_silent_line_is_left_and_the_edge_is_back(
    programs: Programs, broker: Broker, seconds: float
) -> None:
    """Nobody hangs up: both sides find out by their keepalives. It is a straggler, and in the next round."""
    gate = programs.folder / "gate"
    agg = programs.agg(
        "--rounds", 2, "--min-clients", 3, "--model", "mb-1", "--grace", 600, "--deadline", 600
    )
    with line_to(broker) as line:
        two, third = three(programs, line.where, ECHO_GATE=str(gate))
        agg.says("round=1 accepted", times=2)
        with line.refusing():
            assert line.half_open() == 1
            third.says("disconnected|broker lost|connection")
            agg.says("client lost client=edge3")
            time.sleep(seconds)
        gate.touch()
        end_well(agg, *two, third)
    first, second = programs.rounds()
    assert (first["stragglers"], first["rejected"]) == (["edge3"], [])
    assert second["accepted"] == ["edge1", "edge2", "edge3"], agg.told() + third.told()


def test_cut_until_after_the_deadline_it_is_told_and_in_the_next_round(
    programs: Programs, broker: Broker
) -> None:
    gate = programs.folder / "gate"
    agg = programs.agg("--rounds", 2, "--min-clients", 3, "--model", "mb-1", "--deadline", 600, "--grace", 1)
    with line_to(broker) as line:
        two, third = three(programs, line.where, ECHO_GATE=str(gate))
        agg.says("round=1 accepted", times=2)
        with line.refusing():
            line.cut()
            gate.touch()
            until(
                lambda: list((programs.folder / "edge3" / "outbox").glob("*.json")),
                "its update is on its disk",
            )
            agg.says("round=1 outcome=closed_short")
        third.says("round=1 .*late")
        end_well(agg, *two, third)
    first, second = programs.rounds()
    assert (first["accepted"], first["stragglers"]) == (["edge1", "edge2"], ["edge3"])
    assert second["accepted"] == ["edge1", "edge2", "edge3"]
    assert [(each["client_id"], each["reason"]) for each in second["rejected"]] == [("edge3", "late")]


@pytest.mark.timeout(400)
def test_a_slow_and_lossy_uplink_delivers_on_one_connection(programs: Programs, broker: Broker) -> None:
    """1 Mbit/s, 200 ms, 2 % lost: keepalive 15 s and 5 MB, or half a megabyte in proportion."""
    model, keepalive = ("mb-5", 15) if LONG else ("kb-500", 6)
    gate = programs.folder / "gate"
    agg = programs.agg("--rounds", 1, "--min-clients", 1, "--model", model, "--deadline", 600)
    with line_to(broker) as line:
        edge = programs.edge(
            "edge1", "--broker", line.where, "--keepalive", keepalive, env={"ECHO_GATE": str(gate)}
        )
        until(lambda: list((programs.folder / "edge1" / "models").glob("*.safetensors")), "the model is here")
        line.shape(PROFILES["lossy"])
        gate.touch()
        agg.says("round=1 accepted client=edge1", 300.0)
        line.shape(PROFILES["lan"])
        end_well(agg, edge)
        assert line.counts().connections == 1
    assert programs.rounds()[0]["outcome"] == "closed"


def test_every_frame_twice_out_of_order_and_a_round_late_changes_nothing(
    programs: Programs, broker: Broker
) -> None:
    """On the lines of all edges and of the aggregator; after every round all of it comes once more."""
    arguments = ("--rounds", 3, "--min-clients", 3, "--model", "mb-1", "--grace", 60)
    calm = undisturbed_run(programs, *arguments)
    with ExitStack() as stack:
        lines = [stack.enter_context(line_to(broker, mqtt=True)) for _ in range(4)]
        for line in lines:
            line.double(on=True)
        agg = programs.agg("--broker", lines[0].where, *arguments)
        working = [
            programs.edge(
                f"edge{k}", "--shard", f"{k}/3", "--broker", lines[k].where, env={"ECHO_DELAY_S": "0.7"}
            )
            for k in (1, 2, 3)
        ]
        replayed = 0
        for number in (2, 3):
            agg.says(f"round={number} opened")
            replayed += sum(line.replay() for line in lines)
        end_well(agg, *working)
        assert replayed > 100 and sum(line.counts().copies for line in lines) > 200
        assert [line.counts().connections for line in lines] == [2, 1, 1, 1]
    assert story(programs) == story(calm)
    assert final_model(programs) == final_model(calm)
    assert [record["attempts"] for record in programs.rounds()] == [1, 1, 1]


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_new_edge_has_the_model_while_the_aggregator_is_away(
    programs: Programs, broker: Broker, how: str
) -> None:
    arguments = ("--rounds", 4, "--min-clients", 2, "--model", "mb-2", "--grace", 60)
    agg = programs.agg(*arguments)
    old = [programs.edge(f"edge{k}", "--shard", f"{k}/3", env={"ECHO_DELAY_S": "0.4"}) for k in (1, 2)]
    agg.says("round=1 outcome=closed")
    agg.kill() if how == "killed" else agg.interrupt()
    agg.process.wait(15)
    current = retained(broker, programs.job, Kind.ROUND).base
    new = programs.edge("edge3", "--shard", "3/3")
    stored = programs.folder / "edge3" / "models" / f"{current}.safetensors"
    until(stored.exists, "the new edge has the current model")
    assert new.running
    again = programs.agg(*arguments, name="again")
    again.says("client joined client=edge3")
    end_well(again, *old, new)
    assert "edge3" in programs.rounds()[-1]["accepted"]
