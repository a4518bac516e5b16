"""Sites score the global model: those who train, those who only score, and one that keeps its figures to itself."""

from __future__ import annotations

import json
import re

import pytest

from aggregator.cohort import draw
from fl_protocol.modelfile import read_header
from tests.e2e.processes import Programs, until

NAMES = ("edge1", "edge2", "edge3")
PRIVATE, IDLE = "edge3", "edge1"
SEED = next(
    s for s in range(99) if IDLE not in draw(dict.fromkeys(NAMES, 1), 2, seed=s, round_number=1, attempt=1)
)


def figures(programs: Programs) -> dict[str, str]:
    """By client, the names of the measures that ``fl-agg status`` shows (without counts)."""
    status = programs.start(
        "fl-agg", "status", "--broker", programs.broker, "--job", programs.job, "--json", name="status"
    )
    assert status.wait() == 0
    clients = json.loads(status.out)["clients"]
    return {name: " ".join(set(told["figures"] or {}) - {"examples"}) for name, told in clients.items()}


def test_figures_of_every_site_that_shares_them(programs: Programs) -> None:
    gate = programs.folder / "gate"
    held_out = {"edge1": "4", "edge2": "8", "edge3": "2"}
    agg = programs.agg(
        "--rounds", 1, "--min-clients", 3, "--cohort", 2, "--eval-cohort", "1.0", "--seed", SEED
    )  # fmt: skip
    edges = {
        name: programs.edge(
            name, "--shard", f"{name[-1]}/3", *(["--private-metrics"] if name == PRIVATE else []),
            env={"ECHO_GATE": str(gate), "ECHO_HELD_OUT": held_out[name]},
        )
        for name in NAMES
    }  # fmt: skip
    edges[IDLE].says("round=1 scored loss=")
    assert "joined of=" not in edges[IDLE].out, "it was not asked to train"
    until(lambda: figures(programs).get(IDLE) == "loss", "fl-agg status tells how the model did there")
    gate.touch()
    edges[PRIVATE].says("round=1 scored loss=")
    assert agg.wait() == 0, agg.told()
    assert [edge.wait() for edge in edges.values()] == [0, 0, 0]

    (record,) = programs.rounds()
    assert record["cohort"] == ["edge2", "edge3"]
    assert {name: row["examples"] for name, row in record["sites"].items()} == {"edge1": 4, "edge2": 8}
    losses = [record["sites"][name]["loss"] for name in ("edge1", "edge2")]
    assert losses[0] == losses[1], "of one model"
    means = record["client_metrics"]
    assert means["eval_loss"] == pytest.approx(losses[0])
    assert means["eval_examples"] == 12
    assert means["loss"] == pytest.approx(1 / 12), "edge3 told nothing of its training either"
    report = (programs.run_dir / "report.html").read_text()
    assert 'id="sites"' in report
    assert re.search(rf"No figures of (<[^>]+>)*{PRIVATE}(<[^>]+>)*: kept to themselves", report)


def test_a_site_whose_training_diverges_says_so_and_the_round_goes_on_without_it(programs: Programs) -> None:
    agg = programs.agg("--rounds", 2, "--min-clients", 3, "--quorum", 2, "--grace", 20)
    well = [programs.edge(f"edge{k}", "--shard", f"{k}/3") for k in (1, 2)]
    ill = programs.edge("edge3", "--shard", "3/3", env={"ECHO_DIVERGES": "yes"})
    assert agg.wait() == 0, agg.told()
    assert [edge.wait() for edge in (*well, ill)] == [0, 0, 0], "it stays for the next round"
    for record in programs.rounds():
        assert (record["outcome"], record["accepted"]) == ("closed_short", ["edge1", "edge2"])
        (refusal,) = record["rejected"]
        assert refusal["client_id"] == "edge3"
        assert refusal["reason"].startswith("declined: the loss is not finite at step 3 of 9")
        assert record["stragglers"] == [], "it answered"
    assert ill.out.count("declined reason=") == 2


def test_a_run_ends_early_when_the_sites_see_it_grow_no_better(programs: Programs) -> None:
    """The echo of the updates drives the model away from where it was: the first one stays the best."""
    rule = ("--rounds", 9, "--min-clients", 1, "--early-stop", 1)
    agg = programs.agg(*rule)
    edge = programs.edge("edge1", env={"ECHO_HELD_OUT": "4"})
    assert agg.wait() == 0, agg.told()
    assert edge.wait() == 0, edge.told()
    first, last = programs.rounds()
    assert first["best"] == last["best"]
    assert first["best"]["round"] == 0
    assert "ended_early" not in first
    told = "ended early: no better for 1 round (best: client_eval_loss"
    assert told in agg.out and told in edge.out
    assert "finished rounds=2" in agg.out
    assert last["ended_early"] in (programs.run_dir / "report.html").read_text()
    best = read_header(programs.run_dir / "best.safetensors").metadata
    assert (best["round"], best["sha256"]) == ("0", first["base_sha256"])
    again = programs.agg(*rule)
    assert again.wait() == 0, again.told()
    assert "this run ended early, after round 2: give --early-stop more patience to go on" in again.out
    assert programs.rounds() == [first, last]
