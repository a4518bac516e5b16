"""Many rounds of a tiny model with three edges: memory, open files and what the broker retains stay where they were.

120 rounds by default; ``HILUM_LONG=1`` (as ``make chaos``) runs 500.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aggregator.bulletin import KEPT
from fl_protocol.network import Received
from tests.brokers import Broker, Peer, mosquitto, running
from tests.e2e.processes import Program, Programs, marked

ROUNDS = 500 if os.environ.get("HILUM_LONG") else 120
SETTLED = 50
"""By this round everything that is made once has been made."""
AROUND = 5
GROWTH = 1.05
LOOK_EVERY_S = 0.05
RETAINED = 10
"""Aggregator, round, run, three states; a manifest and a chunk of the newest model and of the one before."""


@dataclass
class Watch:
    """Samples of the processes of some programs, by round."""

    programs: list[Program]
    resident_kb: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    open_files: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))

    def look(self, round_number: int) -> None:
        for program in self.programs:
            for pid, words in marked(program.mark).items():
                role = "worker of " if "fl_tasks.worker" in words else ""
                key = f"{role}{program.name}", round_number
                if (size := resident_kb(pid)) is not None:
                    self.resident_kb[key].append(size)
                    self.open_files[key].append(open_files(pid))

    def around(self, samples: dict[tuple[str, int], list[int]], round_number: int) -> dict[str, float]:
        """The median of each process near a round; a median, since a sample may fall into the middle of a write."""
        near: dict[str, list[int]] = defaultdict(list)
        for (name, number), values in samples.items():
            if abs(number - round_number) <= AROUND:
                near[name] += values
        return {name: statistics.median(values) for name, values in near.items()}


def resident_kb(pid: int) -> int | None:
    """None if it has ended meanwhile."""
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return None
    return int(found[1]) if found else None


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def retained(broker: Broker, job: str) -> tuple[list[str], int]:
    """Topics of a job of which the broker keeps a message now, and how many lines of ended rounds there are beside."""
    with Peer(broker.options, "counter", filters=[f"fl/1/{job}/#"]) as peer:
        peer.connected()
        barrier = f"fl/1/{job}/barrier"
        peer.transport.publish(barrier, b"x")
        got: list[Received] = peer.receive_until(barrier)
    topics = sorted({each.topic for each in got if each.retained})
    others = [topic for topic in topics if "/op/round/" not in topic]
    return others, len(topics) - len(others)


@pytest.fixture
def broker_alone(tmp_path: Path) -> Iterator[Broker]:
    with running(mosquitto(tmp_path / "broker")) as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_grows_with_the_rounds(programs: Programs, broker_alone: Broker) -> None:
    programs.broker = broker_alone.options.where
    agg = programs.agg("--rounds", ROUNDS, "--min-clients", 3, "--quorum", "1.0")
    edges = [programs.edge(f"edge{k}", "--shard", f"{k}/3") for k in (1, 2, 3)]
    watch, early, last = Watch([agg, *edges]), 0, ROUNDS - AROUND - 1
    while agg.running:
        done = len(programs.rounds())
        if abs(done - SETTLED) <= AROUND or done >= last - AROUND:
            watch.look(done)
        if done >= SETTLED and not early:
            early = len(retained(broker_alone, programs.job)[0])
        time.sleep(LOOK_EVERY_S)
    assert agg.wait() == 0, agg.told()
    assert [edge.wait() for edge in edges] == [0, 0, 0]
    assert {record["outcome"] for record in programs.rounds()} == {"closed"}
    assert len(programs.rounds()) == ROUNDS

    left, lines = retained(broker_alone, programs.job)
    assert len(left) == RETAINED, left
    assert lines == min(ROUNDS, KEPT), "operators have the newest rounds, and no more of them"
    assert early <= RETAINED + 2, "of a model that is being replaced there are a manifest and a chunk more"
    before, after = (watch.around(watch.resident_kb, number) for number in (SETTLED, last))
    assert set(before) == set(after)
    assert len(before) >= 4, before
    print({name: (kb, after[name]) for name, kb in before.items()})
    grown = {name: (kb, after[name]) for name, kb in before.items() if after[name] > GROWTH * kb}
    assert not grown, f"resident kB after round {SETTLED} and after round {last}: {grown}"
    files = [watch.around(watch.open_files, number) for number in (SETTLED, last)]
    assert {name: count for name, count in files[1].items() if count > files[0][name] + 1} == {}
