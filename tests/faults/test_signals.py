"""Ctrl-C and SIGTERM in every state: state saved, a farewell in place of the last will, nothing left, exit 130 or 0."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from fl_protocol import messages as msg
from fl_protocol.topics import Kind
from fl_sim.line import Line
from tests.brokers import Broker
from tests.e2e.processes import Program, Programs, until
from tests.faults.sites import edges, end_well, is_farewell, line_to, retained, story, temporary

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 0)]
SLOW = Line(up_kbit_s=16_000, down_kbit_s=16_000)
"""2 MB/s: a model of 20 MB is on its way for long, and a farewell is not."""


def stop(program: Program, number: signal.Signals) -> int:
    """As a terminal does (to the group), or as ``kill`` does; its exit code, once nothing of it runs."""
    program.interrupt() if number is signal.SIGINT else program.send(number)
    return program.wait()


@pytest.mark.parametrize(("number", "code"), SIGNALS, ids=["ctrl-c", "sigterm"])
def test_an_edge_in_every_state(
    programs: Programs, broker: Broker, number: signal.Signals, code: int
) -> None:
    """Five edges, each in another state at the same time."""
    never = {"ECHO_GATE": "/nonexistent"}
    agg = programs.agg(
        "--rounds", 1, "--min-clients", 3, "--model", "mb-20", "--grace", 600, "--deadline", 600
    )
    with ExitStack() as stack:
        down, up = (stack.enter_context(line_to(broker, SLOW)) for _ in range(2))
        up.shape(Line(up_kbit_s=16_000))
        waiting = programs.edge("waiting", "--job", f"{programs.job}-nobody")
        preparing = programs.edge("preparing", env={"ECHO_PREPARE_GATE": "/nonexistent"})
        working = {
            "fetching": programs.edge("fetching", "--broker", down.where),
            "training": programs.edge("training", env=never),
            "uploading": programs.edge("uploading", "--broker", up.where),
        }
        waiting.says("no aggregator serves")
        agg.says("round=1 opened")
        until(lambda: down.counts().down_bytes > 1_000_000, "the model is on its way")
        until(lambda: up.counts().up_bytes > 1_000_000, "the update is on its way")
        states = {"preparing": preparing, **working}
        assert {name: retained(broker, programs.job, Kind.STATE, name).state for name in ("training", "preparing")} == {
            "training": msg.TRAINING, "preparing": msg.PREPARING
        }  # fmt: skip
        for name, edge in states.items():
            assert stop(edge, number) == code, edge.told()
            assert is_farewell(retained(broker, programs.job, Kind.STATE, name)), name
            agg.says(f"client left client={name}") if name in working else None
        assert stop(waiting, number) == code
        assert retained(broker, f"{programs.job}-nobody", Kind.STATE, "waiting") is None
    for name, edge in {"waiting": waiting, **states}.items():
        assert edge.err == "", edge.told()
        assert not temporary(programs.folder / name), name
    assert list((programs.folder / "fetching" / "models").glob("*.part")), "what came stays"
    assert list((programs.folder / "uploading" / "outbox").glob("*.json")), "what is finished stays"


@pytest.mark.parametrize(("number", "code"), SIGNALS, ids=["ctrl-c", "sigterm"])
def test_the_aggregator_in_every_state(
    programs: Programs, broker: Broker, number: signal.Signals, code: int, undisturbed: list[object]
) -> None:
    """One run, stopped once in each state and gone on with by the same command: it ends as if nothing had been."""
    gate, score = programs.folder / "gate", programs.folder / "score"
    working: list[Program] = []

    def begin() -> None:
        working.extend(edges(programs, ECHO_GATE=str(gate)))

    states: list[tuple[str, str, Callable[[], object]]] = [
        ("waiting", "waiting for clients", lambda: None),
        ("training", "round=1 opened", begin),
        ("uploading", "round=1 uploading", gate.touch),
        ("folding", "round=1 aggregating", lambda: None),
        ("evaluating", "resumed", lambda: None),
    ]
    for state, seen, act in states:
        scoring = programs.folder / "score.waiting"
        scoring.unlink(missing_ok=True)
        agg = programs.agg(*arguments(programs), env={"ECHO_SCORE_GATE": str(score)}, name=state)
        act()
        agg.says(seen)
        if state == "evaluating":
            until(scoring.exists, "a model is being scored")
        assert stop(agg, number) == code, agg.told()
        assert agg.err == "", agg.told()
        assert not temporary(programs.run_dir), state
        assert retained(broker, programs.job, Kind.AGG).online is False
        assert retained(broker, programs.job, Kind.ROUND).phase == msg.STOPPED, (
            "its last will cannot say this"
        )
    score.touch()
    end_well(programs.agg(*arguments(programs), env={"ECHO_SCORE_GATE": str(score)}), *working)
    assert story(programs) == undisturbed


def arguments(programs: Programs) -> tuple[object, ...]:
    return (
        "--rounds",
        2,
        "--min-clients",
        3,
        "--grace",
        60,
        "--model",
        "mb-5",
        "--eval-data",
        programs.folder,
    )


@pytest.fixture(scope="module")
def undisturbed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    calm = Programs(tmp_path_factory.mktemp("calm"), broker.options.where, "calm-signals")
    try:
        end_well(calm.agg(*arguments(calm)), *edges(calm))
        return list(story(calm))
    finally:
        calm.close()


def test_an_edge_that_finds_no_broker_is_stopped_at_once(programs: Programs, tmp_path: Path) -> None:
    for number, code in SIGNALS:
        edge = programs.edge(
            "lonely", "--broker", "127.0.0.1:1", "--workdir", tmp_path / f"{code}", name=f"lonely{code}"
        )
        edge.says("connecting broker=")
        assert stop(edge, number) == code, edge.told()
