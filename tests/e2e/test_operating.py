"""Those who run a federation, with real processes: what they read of it, and what they can ask for."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from typing import Any

from fl_protocol import messages as msg
from tests.e2e.operating import Operator
from tests.e2e.processes import Program, Programs, rounds, until

SLOW = {"ECHO_DELAY_S": "0.3"}


def test_an_operator_reads_the_run_and_a_line_for_every_round(
    programs: Programs, broker_address: str
) -> None:
    agg = programs.agg("--rounds", 2, "--min-clients", 2, "--grace", 1)
    edges = [programs.edge(name, env=SLOW) for name in ("one", "two")]
    with closing(Operator(broker_address, programs.job)) as operator:
        operator.ended(2)
        code = agg.wait()
        assert code == 0, agg.told()
        operator.sees(
            "the end", lambda: operator.run and operator.run.newest == 2 and not operator.run.accepts
        )
    lines = [json.loads(line) for line in (programs.run_dir / "rounds.jsonl").read_text().splitlines()]
    assert operator.lines == {line["round"]: line for line in lines}
    for line in lines:
        assert set(line["phases"]) == {"download", "train", "upload", "wait"}
        assert 0.0 < line["phases"]["train"] <= line["duration_s"]
        assert "train_s" not in line["client_metrics"]
    assert operator.run and operator.run.run == "run"
    assert json.loads(operator.run.config) == json.loads((programs.run_dir / "config.json").read_text())
    assert [edge.wait() for edge in edges] == [0, 0]


def test_a_run_is_paused_goes_on_gets_more_rounds_loses_a_client_and_stops_after_the_round(
    programs: Programs, broker_address: str
) -> None:
    agg = programs.agg("--rounds", 1000, "--min-clients", 2, "--grace", 1)
    edges = {name: programs.edge(name, env=SLOW) for name in ("one", "two", "three")}
    with closing(Operator(broker_address, programs.job)) as operator:
        operator.ended(1)
        pause = msg.Command("ab", msg.PAUSE)
        assert operator.send(pause).ok
        operator.waits("paused by an operator")
        operator.sees("that it is paused", lambda: operator.run and operator.run.paused)
        assert operator.run and msg.RESUME in operator.run.accepts and msg.PAUSE not in operator.run.accepts
        done = operator.state.round_number if operator.state else 0
        assert operator.send(pause).ok, "the same command again is answered, and done once"
        assert operator.ask(msg.PAUSE) == msg.Answer(
            list(operator.answers)[-1], False, "the run is paused already"
        )
        for refused, reason in (
            (operator.ask(msg.EVICT, "nobody"), "no client 'nobody' is here"),
            (operator.ask(msg.LAUNCH, rounds="3"), "this aggregator was not started with --wait"),
            (operator.ask(msg.MORE), "is no number of them"),
        ):
            assert not refused.ok and reason in refused.reason
        assert operator.ask(msg.EVICT, "three").ok
        assert edges["three"].wait() == 3, edges["three"].told()
        assert "sent away by an operator" in edges["three"].err
        operator.sees(
            "no round that opened meanwhile", lambda: operator.state and operator.state.round_number == done
        )
        back = programs.edge("three", name="three-again")
        assert back.wait() == 3, back.told()
        assert operator.ask(msg.MORE, rounds="5").ok
        assert operator.ask(msg.RESUME).ok
        operator.ended(done + 1)
        assert operator.lines[done + 1]["cohort"] == ["one", "two"]
        assert operator.ask(msg.FINISH_ROUND).ok
        assert agg.wait() == 0, agg.told()
        operator.sees("that it stopped", lambda: operator.state and operator.state.phase == msg.STOPPED)
        assert operator.state and operator.state.reason == "stopped by an operator"
    stopped_at = len(programs.rounds())
    assert "stopped by an operator" in agg.out
    assert json.loads((programs.run_dir / "config.json").read_text())["rounds"] == {
        "value": 1005, "source": "operator",
    }  # fmt: skip
    again = programs.agg("--rounds", 1000, "--min-clients", 2, "--grace", 1, name="again")
    with closing(Operator(broker_address, programs.job)) as operator:
        operator.ended(stopped_at + 1)
        assert operator.state and operator.state.rounds == 1005
        assert operator.ask(msg.STOP).ok
        assert again.wait() == 0, again.told()


def test_a_run_begun_afresh_clears_the_lines_of_the_one_before(
    programs: Programs, broker_address: str
) -> None:
    first = programs.agg("--rounds", 3, "--min-clients", 1)
    programs.edge("one")
    assert first.wait() == 0, first.told()
    with closing(Operator(broker_address, programs.job)) as operator:
        operator.ended(3)
        again = programs.agg("--rounds", 1, "--min-clients", 1, "--fresh", name="again")
        operator.sees("no line", lambda: not operator.lines)
        programs.edge("one", name="one-again")
        assert again.wait() == 0, again.told()
        operator.sees("the new line", lambda: list(operator.lines) == [1])


# --- an aggregator that waits to be told ---------------------------------------------------------------------------


def waiting(programs: Programs, *more: object, name: str = "agg") -> Program:
    return programs.agg("--wait", "--min-clients", 2, "--grace", 1, *more, name=name)


def records(programs: Programs, run: str) -> list[dict[str, Any]]:
    return rounds(programs.run_dir / run)


def test_runs_are_launched_one_after_the_other_and_edges_stay(
    programs: Programs, broker_address: str
) -> None:
    (programs.folder / "central").mkdir()
    agg = waiting(programs, "--eval-data", programs.folder / "central")
    edges = [programs.edge(name) for name in ("one", "two")]
    with closing(Operator(broker_address, programs.job)) as operator:
        operator.waits("waits for an operator to launch a run")
        operator.sees("LAUNCH", lambda: operator.run and operator.run.accepts == (msg.LAUNCH, msg.EVICT))
        for edge in edges:
            edge.says("joined")
        for refused, reason in (
            (operator.ask(msg.PAUSE), "no run is under way"),
            (operator.ask(msg.MORE, rounds="1"), "there is no run yet: launch one"),
            (operator.ask(msg.LAUNCH, rounds="many"), "--rounds"),
            (operator.ask(msg.LAUNCH, out="/tmp/elsewhere"), "'out' cannot be set by a launch"),
        ):
            assert not refused.ok and reason in refused.reason, refused
        assert not list(programs.run_dir.glob("0*")), "nothing was begun"

        assert operator.ask(msg.LAUNCH, rounds="1", learning_rate="0.5").ok
        operator.waits("run 001 has had its 1 rounds")
        assert operator.lines[1]["accepted"] == ["one", "two"]
        # The same seed and so the same first model: what was done for the run before must not count in this one.
        assert operator.ask(msg.LAUNCH, rounds="2", learning_rate="0.25", strategy="fedadam").ok
        operator.waits("run 002 has had its 2 rounds")
        assert operator.ask(msg.MORE, rounds="1").ok
        operator.waits("run 002 has had its 3 rounds")
        operator.sees(
            "the run", lambda: operator.run and (operator.run.run, operator.run.newest) == ("002", 3)
        )
        assert sorted(operator.lines) == [1, 2, 3]

        last = records(programs, "002")[-1]["model_sha256"]
        for name in ("one", "two"):
            kept = programs.folder / name / "models" / f"{last}.safetensors"
            until(kept.is_file, f"{name} has the last model")
        first, second = (
            json.loads((programs.run_dir / run / "config.json").read_text()) for run in ("001", "002")
        )
        assert first["learning_rate"] == {"value": 0.5, "source": "launch"}
        assert first["min_clients"] == {"value": 2, "source": "option"}
        assert second["strategy"] == {"value": "fedadam", "source": "launch"}
        assert second["rounds"] == {"value": 3, "source": "operator"}
        assert [len(records(programs, run)) for run in ("001", "002")] == [1, 3]
        assert all(record["accepted"] == ["one", "two"] for record in records(programs, "002"))
        assert all(record["metrics"] for run in ("001", "002") for record in records(programs, run))
        assert all(edge.running for edge in edges)
        agg.interrupt()
        assert agg.wait() == 130
        operator.sees("that it stopped", lambda: operator.state and operator.state.phase == msg.STOPPED)
    assert all(edge.running for edge in edges), "they wait for the aggregator to come back"


def test_a_launched_run_is_stopped_gone_on_with_and_survives_a_kill(
    programs: Programs, broker_address: str
) -> None:
    agg = waiting(programs)
    edges = {name: programs.edge(name, env=SLOW) for name in ("one", "two", "three")}
    with closing(Operator(broker_address, programs.job)) as operator:
        operator.waits("waits for an operator")
        assert operator.ask(msg.LAUNCH, rounds="1000").ok
        operator.ended(1)
        assert "a run is under way" in operator.ask(msg.LAUNCH).reason
        assert operator.ask(msg.PAUSE).ok
        operator.waits("paused by an operator")
        assert operator.ask(msg.RESUME).ok
        assert operator.ask(msg.EVICT, "three").ok
        assert edges["three"].wait() == 3
        assert operator.ask(msg.STOP).ok
        operator.waits("run 001 was stopped by an operator after round")
        done = len(records(programs, "001"))
        operator.sees(
            "that it can be gone on with", lambda: operator.run and msg.RESUME in operator.run.accepts
        )
        assert operator.ask(msg.RESUME).ok
        operator.ended(done + 1)
        agg.kill()
        operator.sees("nobody", lambda: edges["one"].says("gone|lost|away"))
        again = waiting(programs, name="again")
        operator.ended(len(records(programs, "001")) + 2)
        assert operator.ask(msg.FINISH_ROUND).ok
        operator.waits("run 001 was stopped by an operator after round")
        again.kill()
        third = waiting(programs, name="third")
        third.says("waiting for an operator")
        done = len(records(programs, "001"))
        operator.sees(
            "the last run as it was",
            lambda: operator.run and (operator.run.run, operator.run.newest) == ("001", done)
            and msg.RESUME in operator.run.accepts and sorted(operator.lines) == list(range(1, done + 1)),
        )  # fmt: skip
        assert operator.state and (operator.state.phase, operator.state.round_number) == (msg.WAITING, done)
        assert operator.state.base == records(programs, "001")[-1]["model_sha256"]
    numbers = [record["round"] for record in records(programs, "001")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert edges["one"].running and edges["two"].running


def test_a_run_that_fails_or_cannot_begin_is_no_end(programs: Programs, broker_address: str) -> None:
    agg = waiting(programs, "--retries", 0)
    edge = programs.edge("one", env={"ECHO_DIVERGES": "1"})
    with closing(Operator(broker_address, programs.job)) as operator:
        operator.waits("waits for an operator")
        assert operator.ask(msg.LAUNCH, rounds="1", model="enormous").ok, "only the task knows its models"
        operator.waits("unknown model 'enormous'")
        assert not list(programs.run_dir.glob("0*"))
        assert operator.ask(msg.LAUNCH, rounds="1", min_clients="1").ok
        operator.waits("round 1 was abandoned")
        assert agg.running and edge.running
        # A signal while a run is being begun, or just after: the same command begins it, or goes on with it.
        assert operator.ask(msg.LAUNCH, rounds="1", min_clients="2").ok
        agg.send(signal.SIGTERM)
        assert agg.wait() == 0, agg.told()
        again = waiting(programs, name="again")
        again.says(r"waiting for clients present=\d needed=2")
        again.interrupt()
        assert again.wait() == 130, again.told()
    assert [path.name for path in sorted(programs.run_dir.glob("0*"))] == ["001", "002"]


def test_who_is_late_round_after_round_is_named_once_with_what_to_do(programs: Programs) -> None:
    programs.edge("slow", env={"ECHO_DELAY_S": "5"})
    agg = programs.agg("--rounds", 8, "--min-clients", 2, "--quorum", 1, "--grace", 0)
    programs.edge("quick")
    assert agg.wait() == 0, agg.told()
    said = [line for line in agg.out.splitlines() if "straggler in" in line]
    assert len(said) == 1, agg.told()
    assert (
        said[0].startswith("warning: slow was a straggler in 3 rounds running") and "--quorum 1.0" in said[0]
    )
