"""``cp -r`` of a run directory while it runs gives a directory that resumes, and ends in the same bytes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.e2e.processes import Programs, rounds, until
from tests.faults.sites import LONG, edges, end_well, final_model, story

ARGUMENTS = ("--rounds", 4, "--min-clients", 3, "--quorum", 3, "--model", "mb-5", "--grace", 60)
MOMENTS = ("accepted", "aggregating", "outcome", "opened") if LONG else ("accepted", "aggregating")


def test_a_copy_of_a_running_run_resumes(programs: Programs) -> None:
    working = edges(programs, ECHO_DELAY_S="0.4")
    agg = programs.agg(*ARGUMENTS)
    copies: list[Path] = []
    for number, moment in enumerate(MOMENTS, start=2):
        words = f"round={number if number < 4 else 3} {moment}"
        until(lambda words=words: words in agg.out, words)  # type: ignore[misc]
        copies.append(programs.folder / f"copy-{moment}")
        subprocess.run(
            ["cp", "-r", programs.run_dir, copies[-1]], check=False
        )  # what vanishes meanwhile may be missing
    end_well(agg, *working)
    wanted = story(programs), final_model(programs)
    for copy in copies:
        assert len(rounds(copy)) < 4, "or it shows nothing"
        end_well(programs.agg(*ARGUMENTS, "--out", copy, name=copy.name), *edges(programs))
        programs.run_dir.rename(programs.folder / f"before-{copy.name}")
        copy.rename(programs.run_dir)
        assert (story(programs), final_model(programs)) == wanted, copy.name
