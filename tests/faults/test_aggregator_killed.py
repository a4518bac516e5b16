"""``kill -9`` of the aggregator at every kind of instant of a run: started again, it ends in the same bytes."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.e2e.processes import PATIENCE_S, Program, Programs
from tests.faults.sites import LONG, edges, end_well, final_model, story, temporary, trainings

ROUNDS = 5
ARGUMENTS = ("--rounds", ROUNDS, "--min-clients", 3, "--grace", 60, "--model", "mb-2")
SECONDS = "after so many seconds"
Instant = tuple[str, float]


def spooled(run: Path, number: int) -> int:
    return sum(file.stat().st_size for file in run.glob(f"spool/{number:06d}/*"))


INSTANTS: dict[str, Callable[[Program, Path, int], Any]] = {
    "announce": lambda agg, run, n: f"round={n} opened" in agg.out,
    "download": lambda agg, run, n: (
        f"round={n} opened" in agg.out and any(run.parent.glob("edge*/models/*.part"))
    ),
    "upload": lambda agg, run, n: spooled(run, n),
    "accept": lambda agg, run, n: f"round={n} accepted" in agg.out,
    "fold": lambda agg, run, n: f"round={n} aggregating" in agg.out or any(run.glob("models/.fold*")),
    "commit": lambda agg, run, n: (
        f"round={n} aggregating" in agg.out and len(list(run.glob("models/*.saf*"))) > 2
    ),
    "close": lambda agg, run, n: f"round={n} outcome" in agg.out,
}
"""What is seen from outside when it happens."""

SHORT: list[list[Instant]] = [
    [("announce", 1), ("upload", 1), ("accept", 2), ("fold", 2), ("download", 3), ("commit", 3), ("close", 4), ("announce", 5)],
]  # fmt: skip


def long_schedule() -> list[list[Instant]]:
    """Fifty: every kind in every round, five runs of seven; then fifteen whenever they happen, in three runs."""
    kinds, rng = list(INSTANTS), random.Random(3)
    grid = [[(kinds[(k + 2 * run) % 7], float(1 + (k * 5) // 7)) for k in range(7)] for run in range(5)]
    return grid + [[(SECONDS, rng.uniform(0.05, 2.0)) for _ in range(5)] for _ in range(3)]


def passed(agg: Program, number: int) -> bool:
    """Whether the run is beyond that round: the instant was missed, and any other is as good."""
    opened = [int(found) for found in re.findall(r"(?:round=|resumed round=)(\d+)", agg.out)]
    return max(opened, default=0) > number


def strike(agg: Program, run: Path, kind: str, when: float) -> bool:
    """Kill it at that instant; False if it had ended before."""
    end = time.monotonic() + (when if kind == SECONDS else PATIENCE_S)
    seen = INSTANTS.get(kind)
    while agg.running and time.monotonic() < end:
        if seen and (seen(agg, run, int(when)) or passed(agg, int(when))):
            break
        time.sleep(0.002)
    else:
        assert kind == SECONDS or not agg.running, f"never came: {kind} of round {when:g}{agg.told()}"
    alive = agg.running
    agg.kill()
    return alive


@pytest.fixture(scope="module")
def undisturbed(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], bytes]:
    calm = Programs(tmp_path_factory.mktemp("calm"), broker.options.where, "calm")
    try:
        end_well(calm.agg(*ARGUMENTS), *edges(calm))
        return story(calm), final_model(calm)
    finally:
        calm.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "instants", long_schedule() if LONG else SHORT, ids=lambda each: f"{len(each)}-kills"
)
def test_killed_at_any_instant_it_ends_in_the_same_bytes(
    instants: list[Instant], programs: Programs, undisturbed: tuple[list[Any], bytes]
) -> None:
    done = programs.folder / "trainings"
    working = edges(programs, ECHO_DELAY_S="0.3", ECHO_TRAININGS=str(done))
    killed = 0
    for kind, when in instants:
        killed += strike(programs.agg(*ARGUMENTS), programs.run_dir, kind, when)
    end_well(programs.agg(*ARGUMENTS), *working)
    assert story(programs) == undisturbed[0]
    assert final_model(programs) == undisturbed[1], "bit for bit"
    assert killed >= len(instants) - 2 or instants[0][0] == SECONDS, "else the instants were missed"
    assert len(trainings(done)) == len(set(trainings(done))) == 3 * ROUNDS, "nothing is trained twice"
    assert not temporary(programs.run_dir)
