"""One name, one edge; one job, one aggregator; one folder, one process."""

from __future__ import annotations

import re

from fl_protocol.modelfile import read_header
from tests.brokers import Broker
from tests.e2e.processes import Programs


def one_line(text: str, program: str, pattern: str) -> None:
    """``text`` is one line of that program, and says ``pattern``."""
    lines = text.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{program}: "), text
    assert re.search(pattern, lines[0]), text


def test_a_federation_runs_to_its_end(programs: Programs) -> None:
    agg = programs.agg("--rounds", 2)
    edges = [programs.edge(f"edge{k}", "--shard", f"{k}/2") for k in (1, 2)]
    assert agg.wait() == 0, agg.told()
    assert [edge.wait() for edge in edges] == [0, 0], edges[0].told() + edges[1].told()
    assert [record["outcome"] for record in programs.rounds()] == ["closed"] * 2
    model = read_header(programs.run_dir / "global.safetensors")
    assert model.metadata["sha256"] == programs.rounds()[-1]["model_sha256"]
    assert not list(programs.run_dir.rglob("*.tmp")) and not list((programs.run_dir / "spool").iterdir())


def test_one_job_has_one_aggregator_and_one_folder_one_process(programs: Programs) -> None:
    """The seconds are refused, each by name, and the first goes on as if nothing had been."""
    first = programs.agg("--rounds", 2)
    first.says("waiting for clients")
    same_job = programs.agg("--out", "elsewhere", name="same-job")
    same_folder = programs.agg("--job", "another-job", name="same-folder")
    edge1 = programs.edge("edge1")
    edge1.says("joined")
    same_workdir = programs.edge("edge9", "--workdir", programs.folder / "edge1", name="same-workdir")
    assert same_job.wait() == 3, same_job.told()
    one_line(
        same_job.err, "fl-agg", f"another aggregator is serving job '{programs.job}' .*stop it, or use --job"
    )
    assert same_folder.wait() == 3, same_folder.told()
    one_line(
        same_folder.err,
        "fl-agg",
        "another aggregator is working in .*/run: stop it, or give this one another",
    )
    assert same_workdir.wait() == 3, same_workdir.told()
    one_line(
        same_workdir.err, "fl-edge", "another fl-edge works in .*/edge1: stop it, or .*--workdir of its own"
    )
    edge2 = programs.edge("edge2")
    assert first.wait() == 0, first.told()
    assert [edge1.wait(), edge2.wait()] == [0, 0]
    assert [record["accepted"] for record in programs.rounds()] == [["edge1", "edge2"]] * 2
    assert "another aggregator" not in first.out + first.err


def test_one_name_is_one_edge_and_nobody_is_thrown_out(programs: Programs, broker: Broker) -> None:
    """The second with a name is sent away; neither disturbs the other's connection, and the first stays in the job."""
    agg = programs.agg("--rounds", 2)
    first = programs.edge("twin")
    first.says("joined")
    second = programs.edge("twin", "--workdir", programs.folder / "twin2", name="second")
    assert second.wait() == 3, second.told()
    one_line(
        second.err,
        "fl-edge",
        "another edge is using the client id 'twin': stop it, or give this one --client-id",
    )
    assert first.running
    other = programs.edge("other")
    assert agg.wait() == 0, agg.told()
    assert [first.wait(), other.wait()] == [0, 0], first.told()
    assert [record["accepted"] for record in programs.rounds()] == [["other", "twin"]] * 2
    assert "lost" not in first.out and "disconnected" not in first.out, first.told()
    connections = re.findall(r"New client connected from \S+ as (twin-[0-9a-f]{8}) ", broker.log.read_text())
    assert len(connections) == len(set(connections)) == 2, connections


def test_a_name_is_free_once_its_holder_is_gone(programs: Programs) -> None:
    agg = programs.agg("--rounds", 1)
    first = programs.edge("twin")
    first.says("joined")
    agg.says("client joined client=twin")
    first.kill()
    again = programs.edge("twin", name="again")
    again.says("joined")
    programs.edge("other")
    assert agg.wait() == 0, agg.told()
    assert again.wait() == 0, again.told()


def test_an_edge_waits_for_a_job_that_nobody_serves_yet_and_says_so(programs: Programs) -> None:
    edge = programs.edge("early")
    edge.says(f"no aggregator serves job '{programs.job}' yet, waiting for one .*--job")
    agg = programs.agg("--rounds", 1, "--min-clients", 1)
    assert agg.wait() == 0, agg.told()
    assert edge.wait() == 0, edge.told()
