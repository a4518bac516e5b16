"""``fl-sim run`` as a process: the same bytes whoever trains, and the same as a federation over sockets."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from fl_protocol.modelfile import read_header
from tests.e2e.conftest import phantoms
from tests.e2e.processes import ECHO_JOB, Programs, rounds

WORLD = ("--clients", 20, "--cohort", 6, "--rounds", 4, "--speeds", "lognormal:0.7", "--slow", "1/5:30",
         "--dropout", 0.2, "--grace", 0.2, "--quorum", 0.5, "--retries", 9, "--seed", 3)  # fmt: skip


def simulate(programs: Programs, *arguments: object, out: str = "sim", code: int = 0) -> Path:
    """Run ``fl-sim run`` of an echo job to its end; its run directory."""
    program = programs.start("fl-sim", "run", *ECHO_JOB, "--out", programs.folder / out, *arguments)
    assert program.wait() == code, program.told()
    return programs.folder / out


def test_the_number_of_workers_changes_no_byte(programs: Programs) -> None:
    runs = [simulate(programs, *WORLD, "--workers", n, out=f"w{n}") for n in (1, 2, 3)]
    for name in ("rounds.jsonl", "global.safetensors"):
        found = [(run / name).read_bytes() for run in runs]
        assert found[0] == found[1] == found[2], name
    told = rounds(runs[0])
    assert [record["round"] for record in told] == [1, 2, 3, 4]
    assert any(record["stragglers"] for record in told), "somebody was too slow"
    assert all((run / "report.html").stat().st_size > 1000 for run in runs)


@pytest.mark.parametrize("strategy", ["fedbuff", "fedasync"])
def test_an_asynchronous_federation_is_as_reproducible(programs: Programs, strategy: str) -> None:
    world = (
        "--clients",
        20,
        "--rounds",
        8,
        "--speeds",
        "lognormal:0.7",
        "--slow",
        "1/5:10",
        "--quorum",
        4,
        "--grace",
        0,
    )
    waits = rounds(simulate(programs, *world, out="waits"))
    runs = [simulate(programs, *world, "--strategy", strategy, "--workers", n, out=f"w{n}") for n in (1, 3)]
    assert (runs[0] / "rounds.jsonl").read_bytes() == (runs[1] / "rounds.jsonl").read_bytes()
    told = rounds(runs[0])
    assert any(record["stale"] for record in told), "what comes late is folded in"
    assert sum(r["duration_s"] for r in told) < sum(r["duration_s"] for r in waits), "nobody begins anew"
    assert [*(runs[0] / "spool").glob("*/*.f32")] == []


def test_training_on_images_is_the_same_whoever_trains(programs: Programs) -> None:
    data = programs.folder / "data"
    phantoms(data / "train", 12)
    phantoms(data / "test", 3)
    found = []
    for workers in (1, 2):
        program = programs.start(
            "fl-sim", "run", "--data", data, "--clients", 4, "--cohort", 3, "--rounds", 2, "--image-size", 32,
            "--workers", workers, "--out", f"w{workers}", "--json", "--eval-cohort", 2, "--sampling", "power-of-choice:4",
            "--local-steps", 2, "--learning-rate-schedule", "cosine", "--best-by", "client_eval_loss",
        )  # fmt: skip
        assert program.wait(60) == 0, program.told()
        found.append(json.loads(program.out))
        assert "outcome=closed" in program.err
        told = rounds(programs.folder / f"w{workers}")
        assert all(record["client_metrics"]["local_steps"] == 2 for record in told)
        scored = [record["sites"].keys() for record in told]
        assert [len(names) for names in scored] == [2, 2], "whoever trains, two score"
        assert all(names - set(record["cohort"]) for names, record in zip(scored, told, strict=True))
        assert read_header(programs.folder / f"w{workers}" / "best.safetensors").size > 0
    assert found[0]["model_sha256"] == found[1]["model_sha256"]
    assert found[0]["metrics"] == found[1]["metrics"]
    assert {"auroc", "accuracy", "loss"} <= found[0]["metrics"].keys()
    assert (found[0]["rounds"], found[0]["updates"]) == (2, 6)


def test_a_simulation_is_the_federation_it_simulates(programs: Programs) -> None:
    names = [f"client-{k}" for k in (1, 2, 3)]
    rule = ("--rounds", 3, "--cohort", 2, "--seed", 11)
    agg = programs.agg(*rule, "--min-clients", 3)
    agg.says("waiting for clients")
    for k, name in enumerate(names, 1):
        programs.edge(name, "--shard", f"{k}/3")
    assert agg.wait() == 0, agg.told()
    simulated = rounds(simulate(programs, *rule, "--clients", 3))
    assert [record["model_sha256"] for record in simulated] == [
        record["model_sha256"] for record in programs.rounds()
    ]
    assert [record["cohort"] for record in simulated] == [record["cohort"] for record in programs.rounds()]


def test_an_absurd_update_is_refused_as_in_the_federation_it_simulates(programs: Programs) -> None:
    rule, absurd = ("--rounds", 2, "--quorum", 2, "--seed", 5), {"ECHO_ABSURD": "2"}
    agg = programs.agg(*rule, "--min-clients", 3)
    agg.says("waiting for clients")
    for k in (1, 2, 3):
        programs.edge(f"client-{k}", "--shard", f"{k}/3", env=absurd)
    assert agg.wait() == 0, agg.told()
    found = []
    for workers in (1, 2):
        program = programs.start(
            "fl-sim", "run", *ECHO_JOB, "--out", f"w{workers}", *rule, "--clients", 3, "--workers", workers, env=absurd
        )  # fmt: skip
        assert program.wait() == 0, program.told()
        assert "round=1 rejected client=client-2 reason=absurd_values" in program.out
        assert [*(programs.folder / f"w{workers}" / "spool").glob("*/*")] == []
        found.append((programs.folder / f"w{workers}" / "rounds.jsonl").read_bytes())
    assert found[0] == found[1]
    refused = [{"client_id": "client-2", "reason": "absurd_values", "count": 1}]
    simulated = rounds(programs.folder / "w1")
    assert [record["rejected"] for record in simulated] == [refused, refused]
    for name in ("model_sha256", "rejected", "outcome", "stragglers"):
        assert [record[name] for record in simulated] == [record[name] for record in programs.rounds()], name


def test_a_run_goes_on_after_ctrl_c(programs: Programs) -> None:
    many = (*WORLD, "--rounds", 6)
    whole = simulate(programs, *many, out="whole")
    cut = programs.start(
        "fl-sim", "run", *ECHO_JOB, "--out", "cut", *many, "--workers", 1, env={"ECHO_DELAY_S": "0.1"}
    )
    cut.says(r"round=2 outcome")
    cut.interrupt()
    assert cut.wait() == 130, cut.told()
    assert len(rounds(programs.folder / "cut")) < 6
    again = programs.start("fl-sim", "run", *ECHO_JOB, "--out", "cut", *many)
    assert again.wait() == 0, again.told()
    assert "resumed round=" in again.out
    cut_short = programs.folder / "cut"
    assert (cut_short / "rounds.jsonl").read_bytes() == (whole / "rounds.jsonl").read_bytes()


def test_kill_leaves_no_worker_behind(programs: Programs) -> None:
    program = programs.start(
        "fl-sim", "run", *ECHO_JOB, "--out", "sim", "--clients", 4, env={"ECHO_DELAY_S": "30"}
    )
    program.says("round=1 opened")
    program.send(signal.SIGKILL)
    program.wait()


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("--clients", 0), "--clients 0 is too small", 2),
        (("--engine", "abacus"), "unknown --engine 'abacus': use local or ray", 2),
        (("--workers", 0), "--workers 0 is too small", 2),
        (("--speeds", "fast"), "--speeds 'fast' is not known", 2),
        (("--slow", "8"), "--slow '8' is not K/N:FACTOR", 2),
        (("--dropout", "1"), "--dropout '1' is not CHANCE", 2),
        (("--task", "chess"), "unknown task 'chess'", 2),
        (("--clients", 3, "--quorum", 3, "--deadline", 0.1, "--retries", 0), "was abandoned", 4),
    ],
)
def test_what_cannot_be_is_one_line(
    programs: Programs, arguments: tuple[object, ...], says: str, code: int
) -> None:
    out = programs.folder / "sim"
    program = programs.start("fl-sim", "run", *ECHO_JOB, "--out", out, *arguments, "--pace", 1)
    assert program.wait() == code, program.told()
    assert says in program.err.strip().splitlines()[-1]
    assert "Traceback" not in program.err


def test_another_world_is_not_taken_up(programs: Programs) -> None:
    out = simulate(programs, "--clients", 4, "--rounds", 1)
    program = programs.start("fl-sim", "run", *ECHO_JOB, "--out", out, "--clients", 5, "--rounds", 1)
    assert program.wait() == 2
    assert "holds a run with clients 4, not 5" in program.err
    simulate(programs, "--clients", 5, "--rounds", 1, "--fresh")


def test_the_three_ways_are_compared(programs: Programs) -> None:
    data = programs.folder / "data"
    phantoms(data / "train", 16)
    phantoms(data / "test", 4)
    program = programs.start(
        "fl-sim", "compare", "--data", data, "--clients", 2, "--rounds", 1, "--image-size", 32, "--out", "cmp", "--json",
    )  # fmt: skip
    assert program.wait(60) == 0, program.told()
    found = json.loads(program.out)
    kinds = [result["kind"] for result in found["results"]]
    assert kinds == ["federated", "centralised", "local", "local"]
    assert sum(found["sites"].values()) == sum(
        rounds(programs.folder / "cmp" / "centralised")[0]["client_examples"].values()
    )
    assert all(0.0 <= result["pooled"]["auroc"] <= 1.0 for result in found["results"])
    assert all(set(result["sites"]) == {"client-1", "client-2"} for result in found["results"])
    assert len({result["model_sha256"] for result in found["results"]}) == 4
    page = (programs.folder / "cmp" / "report.html").read_text()
    assert page.count("<tr class=") == 4
    assert json.loads((programs.folder / "cmp" / "compare.json").read_text()) == found


@pytest.mark.slow
def test_several_folders_are_sites_of_their_own(programs: Programs) -> None:
    phantoms(programs.folder / "north" / "train", 12)
    phantoms(programs.folder / "north" / "test", 3)
    phantoms(programs.folder / "South", 15)
    program = programs.start(
        "fl-sim", "compare", "--data", "north", "--data", "South", "--rounds", 1, "--image-size", 32, "--out", "cmp",
        "--json",
    )  # fmt: skip
    assert program.wait(60) == 0, program.told()
    found = json.loads(program.out)
    assert list(found["sites"]) == ["north", "south"]
    assert [result["title"] for result in found["results"]] == ["all sites", "in one place", "north", "south"]
    detail = json.loads((programs.folder / "cmp" / "federated" / "evaluation.json").read_text())
    assert detail["images"] == 2 * 3 + 2 * 3, "the test part of one, a fifth of the patients of the other"


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes(programs: Programs) -> None:
    pytest.importorskip("ray")
    local = simulate(programs, *WORLD, out="local")
    program = programs.start(
        "fl-sim", "run", *ECHO_JOB, *WORLD, "--out", "ray", "--engine", "ray", "--workers", 2
    )
    assert program.wait(90) == 0, program.told()
    for name in ("rounds.jsonl", "global.safetensors"):
        assert (programs.folder / "ray" / name).read_bytes() == (local / name).read_bytes(), name
