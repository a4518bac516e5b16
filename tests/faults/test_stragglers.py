"""One site of eight whose line is twenty times slower than it may be: nobody waits for it, and its work is not lost."""

from __future__ import annotations

from fl_sim.line import PROFILES, Line
from fl_sim.proxy import FaultProxy
from tests.brokers import Broker
from tests.e2e.processes import Program, Programs, until
from tests.faults.sites import end_well, line_to

EIGHT = [f"edge{k}" for k in range(1, 9)]
SEVEN, SLOW = EIGHT[:7], EIGHT[7]
SLOW_UP = Line(up_kbit_s=400)
"""The update takes 40 s: the others have all the time they need on a busy machine."""


def round_one_without_it(
    programs: Programs, line: FaultProxy, *more: object
) -> tuple[Program, list[Program], Program]:
    """Round 1 ends while the slow one uploads: the seven begin to train when some of its update is on the line."""
    gate = programs.folder / "gate"
    agg = programs.agg("--min-clients", 8, "--quorum", 7, "--deadline", 600, "--model", "mb-2", *more)
    slow = programs.edge(SLOW, "--shard", "8/8", "--broker", line.where)
    env = {"ECHO_GATE": str(gate), "ECHO_DELAY_S": "0.3"}
    quick = [programs.edge(name, "--shard", f"{k}/8", env=env) for k, name in enumerate(SEVEN, start=1)]
    until(lambda: line.counts().up_bytes > 100_000, "the slow one uploads", 60.0)
    gate.touch()
    agg.says("round=1 outcome=closed_short", 60.0)
    assert line.counts().up_bytes < 2_000_000, "or it shows nothing"
    line.shape(PROFILES["lan"])
    return agg, quick, slow


def test_the_round_closes_at_quorum_and_grace_and_the_late_update_is_told_so(
    programs: Programs, broker: Broker
) -> None:
    with line_to(broker, SLOW_UP) as line:
        agg, quick, slow = round_one_without_it(programs, line, "--rounds", 3, "--grace", 1)
        slow.says("round=1 .*late")
        end_well(agg, *quick, slow)
    records = programs.rounds()
    first = records[0]
    assert (first["cohort"], first["accepted"], first["stragglers"]) == (EIGHT, SEVEN, [SLOW])
    assert first["attempts"] == 1
    refused = [(each["client_id"], each["reason"]) for record in records for each in record["rejected"]]
    assert refused == [(SLOW, "late")]


def test_the_late_update_is_folded_in_with_its_staleness(programs: Programs, broker: Broker) -> None:
    buffered = ("--strategy", "fedbuff", "--strategy-option", "max_staleness=20", "--grace", 0)
    with line_to(broker, SLOW_UP) as line:
        agg, quick, slow = round_one_without_it(programs, line, "--rounds", 10, *buffered)
        end_well(agg, *quick, slow)
    records = programs.rounds()
    assert (records[0]["accepted"], records[0]["stragglers"]) == (SEVEN, [SLOW])
    ((number, late),) = [
        (record["round"], each)
        for record in records
        for each in record["stale"]
        if (each["client_id"], each["round"]) == (SLOW, 1)
    ]
    assert late["staleness"] == number - 1 >= 1
    assert late["num_examples"] == 18, "those of the eighth shard, as it declared them"
    record = records[number - 1]
    fresh = sum(record["client_examples"].values())
    assert record["num_examples"] == fresh + sum(each["num_examples"] for each in record["stale"])
    assert not [
        each
        for record in records
        for each in record["rejected"]
        if each["client_id"] == SLOW and record["round"] <= number
    ]
