"""``kill -9`` changes nothing: the same command goes on, and the run ends in the same bytes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.brokers import mosquitto
from tests.e2e.processes import Program, Programs, until

ROUNDS = ("--rounds", "4", "--min-clients", "3", "--grace", "20")
MODEL = ("--model", "mb-5")


def edges(programs: Programs, **env: str) -> list[Program]:
    return [programs.edge(f"edge{k}", "--shard", f"{k}/3", env=env) for k in (1, 2, 3)]


def ends_well(programs: Programs, *others: Program) -> None:
    """The last aggregator and all edges end by themselves."""
    agg = programs.agg(*ROUNDS, *MODEL)
    assert agg.wait() == 0, agg.told()
    for edge in others:
        assert edge.wait() == 0, edge.told()


def story(programs: Programs) -> list[tuple[Any, ...]]:
    """What must not depend on anybody's death."""
    return [
        (r["round"], r["outcome"], r["accepted"], r["rejected"], r["model_sha256"]) for r in programs.rounds()
    ]


@pytest.fixture(scope="module")
def undisturbed(broker_address: str, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The story of the same run in which nobody dies."""
    calm = Programs(tmp_path_factory.mktemp("calm"), broker_address, "calm")
    try:
        ends_well(calm, *edges(calm))
    finally:
        calm.close()
    return story(calm)


def test_killed_between_rounds(programs: Programs, undisturbed: list[tuple[Any, ...]]) -> None:
    working = edges(programs, ECHO_DELAY_S="0.2")
    first = programs.agg(*ROUNDS, *MODEL)
    first.says(r"round=2 outcome=closed")
    first.kill()
    ends_well(programs, *working)
    assert story(programs) == undisturbed


def test_killed_inside_a_round_with_one_update_accepted(
    programs: Programs, undisturbed: list[tuple[Any, ...]]
) -> None:
    """edge1 is through, the others still train: edge1 must not train again, and its update must count."""
    gate = programs.folder / "gate"
    quick = programs.edge("edge1", "--shard", "1/3")
    slow = [programs.edge(f"edge{k}", "--shard", f"{k}/3", env={"ECHO_GATE": str(gate)}) for k in (2, 3)]
    first = programs.agg(*ROUNDS, *MODEL)
    first.says(r"round=1 accepted client=edge1")
    first.kill()
    gate.touch()
    ends_well(programs, quick, *slow)
    assert story(programs) == undisturbed
    assert quick.out.count("round=1 joined") == 1


def test_killed_again_and_again(programs: Programs, undisturbed: list[tuple[Any, ...]]) -> None:
    working = edges(programs, ECHO_DELAY_S="0.1")
    for moment in (r"round=1 opened", r"round=1 uploading", r"round=2 aggregating", r"round=3 accepted"):
        agg = programs.agg(*ROUNDS, *MODEL)
        until(lambda agg=agg, moment=moment: _said(agg, moment), f"{moment}{agg.told()}")  # type: ignore[misc]
        agg.kill()
    ends_well(programs, *working)
    assert story(programs) == undisturbed


def _said(agg: Program, moment: str) -> bool:
    """Whether that moment has come, or has been passed by an earlier life."""
    number = int(moment.split("=")[1].split(maxsplit=1)[0])
    passed = [f"round={later} opened" for later in range(number + 1, 5)] + [f"resumed round={number + 1}"]
    return any(word in agg.out for word in (moment, *passed)) or not agg.running


def test_ctrl_c_leaves_a_run_that_goes_on(programs: Programs, undisturbed: list[tuple[Any, ...]]) -> None:
    working = edges(programs, ECHO_DELAY_S="0.2")
    first = programs.agg(*ROUNDS, *MODEL)
    first.says(r"round=2 opened")
    first.interrupt()
    assert first.wait() == 130, first.told()
    assert not list(programs.run_dir.glob(".*.tmp"))
    ends_well(programs, *working)
    assert story(programs) == undisturbed


def test_a_killed_edge_sends_the_update_it_had_finished(
    programs: Programs, undisturbed: list[tuple[Any, ...]]
) -> None:
    """The aggregator is away while edge1 finishes and dies; its next life trains nothing and sends what it has."""
    gate = programs.folder / "gate"
    first = programs.agg(*ROUNDS, *MODEL)
    quick = programs.edge("edge1", "--shard", "1/3", env={"ECHO_DELAY_S": "1"})
    slow = [programs.edge(f"edge{k}", "--shard", f"{k}/3", env={"ECHO_GATE": str(gate)}) for k in (2, 3)]
    first.says(r"round=1 opened")
    quick.says(r"round=1 joined")
    first.kill()
    outbox = programs.folder / "edge1" / "outbox"
    until(lambda: list(outbox.glob("*.json")), "the finished update is on disk")
    quick.kill()
    again = programs.edge("edge1", "--shard", "1/3", name="edge1-again", env={"ECHO_GATE": "/nonexistent"})
    second = programs.agg(*ROUNDS, *MODEL)
    second.says(r"round=1 accepted client=edge1")
    second.kill()
    again.interrupt()
    assert again.wait() == 130, again.told()
    gate.touch()
    last = programs.edge("edge1", "--shard", "1/3", name="edge1-last")
    ends_well(programs, last, *slow)
    assert story(programs) == undisturbed


def test_a_broker_that_forgets_everything_is_told_again(
    programs: Programs, undisturbed: list[tuple[Any, ...]]
) -> None:
    """The broker is killed in a round and comes back empty; nobody is restarted by hand."""
    broker = mosquitto(programs.folder / "broker")
    broker.start()
    gate = programs.folder / "gate"
    programs.broker = broker.options.where
    try:
        waiting = programs.edge("edge3", "--shard", "3/3", env={"ECHO_GATE": str(gate)})
        working = [programs.edge(f"edge{k}", "--shard", f"{k}/3") for k in (1, 2)]
        agg = programs.agg(*ROUNDS, *MODEL)
        agg.says(r"round=1 accepted", times=2)
        broker.kill()
        broker.start()
        gate.touch()
        assert agg.wait() == 0, agg.told()
        assert [edge.wait() for edge in (*working, waiting)] == [0, 0, 0], agg.told()
        assert story(programs) == undisturbed
    finally:
        programs.close()
        broker.stop()
