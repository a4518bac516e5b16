"""What machines read of a run: the page for Prometheus, and ``fl-agg status --json`` while a round fills."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.brokers import Broker, Peer, free_port
from tests.e2e.processes import Program, Programs, until


def page(port: int) -> dict[tuple[str, ...], float]:
    """Every sample by name and labels, but for the job."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(value for key, value in sorted(sample.labels.items()) if key != "job")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def status(programs: Programs) -> dict[str, object]:
    run = programs.start(
        "fl-agg", "status", "--broker", programs.broker, "--job", programs.job, "--json", name="status"
    )
    assert run.wait() == 0, run.told()
    found: dict[str, object] = json.loads(run.out)
    return found


def start(programs: Programs, port: int, *more: object) -> Program:
    return programs.agg("--rounds", 3, "--metrics-port", port, *more)


def test_the_page_agrees_with_the_rounds_while_and_after_they_run(programs: Programs, broker: Broker) -> None:
    port, gate = free_port(), programs.folder / "gate"
    agg = start(programs, port)
    agg.says("waiting for clients")
    with Peer(broker.options, "stranger") as stranger:
        stranger.connected()
        for _ in range(3):
            stranger.transport.publish(f"fl/1/{programs.job}/up/stranger/event", b"\xc1 no message")
        until(lambda: "rejected client=stranger" in agg.out, "the frames were refused")
        edges = [
            programs.edge(name, env={"ECHO_GATE": str(gate)} if name == "slow" else None)
            for name in ("quick", "slow")
        ]
        agg.says("accepted client=quick")
        until(lambda: page(port)["hilum_round_accepted",] == 1, "the page shows the round filling")
        during = page(port)
        assert (during["hilum_phase", "open"], during["hilum_round",], during["hilum_round_cohort",]) == (
            1,
            1,
            2,
        )
        assert during["hilum_edges", "training"] == 1
        told = until(
            lambda: (now := status(programs))["accepted"] == 1 and now, "the status shows the round filling"
        )
        assert (told["refused"], told["cohort"], told["aggregator_online"]) == (3, ["quick", "slow"], True)
        gate.touch()
        agg.says("round=2 outcome=closed")
        assert page(port)["hilum_rounds_total", "closed"] >= 2
    assert agg.wait() == 0, agg.told()
    assert [edge.wait() for edge in edges] == [0, 0]
    records = programs.rounds()
    refused = Counter(
        {refusal["reason"]: refusal["count"] for record in records for refusal in record["rejected"]}
    )
    assert refused == {"not_msgpack": 3}
    again = programs.agg("--rounds", 4, "--metrics-port", port, name="again")
    again.says("resumed|waiting for clients")
    after = page(port)
    again.interrupt()
    assert again.wait() == 130, again.told()
    assert after["hilum_rounds_total", "closed"] == len(records) == 3
    assert after["hilum_updates_accepted_total",] == sum(len(record["accepted"]) for record in records) == 6
    assert after["hilum_updates_refused_total", "not_msgpack"] == 3
    assert after["hilum_stragglers_total",] == 0
    assert after["hilum_bytes_total", "up"] >= sum(record["bytes_up"] for record in records) > 0
    assert after["hilum_round_duration_seconds_count",] == 3
    assert (
        abs(after["hilum_round_duration_seconds_sum",] - sum(record["duration_s"] for record in records))
        < 1e-6
    )


def test_a_taken_port_ends_the_start_before_it_begins(programs: Programs) -> None:
    port = int(programs.broker.rpartition(":")[2])
    agg = start(programs, port)
    assert agg.wait() == 2, agg.told()
    assert agg.err.count("\n") == 1 and "give another --metrics-port" in agg.err, agg.told()
    assert not Path(programs.run_dir).exists()
