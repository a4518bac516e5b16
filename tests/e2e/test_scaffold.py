"""SCAFFOLD over the wire: a site's control variate outlives its process, and counts once however often it is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.e2e.processes import Program, Programs, until


def aggregator(programs: Programs) -> Program:
    """Three rounds of everybody."""
    return programs.agg(
        "--strategy", "scaffold", "--rounds", 3, "--min-clients", 2, "--quorum", "1.0", "--grace", 20
    )  # fmt: skip


def edge(programs: Programs, k: int, name: str = "", **env: str) -> Program:
    return programs.edge(f"edge{k}", "--shard", f"{k}/2", name=name, env=env)


def story(programs: Programs) -> list[tuple[Any, ...]]:
    return [(r["round"], r["outcome"], r["accepted"], r["model_sha256"]) for r in programs.rounds()]


def test_a_killed_site_goes_on_with_its_control_variate(programs: Programs, tmp_path: Path) -> None:
    calm = Programs(tmp_path, programs.broker, f"{programs.job}-calm")
    calm.folder = tmp_path / "calm"
    calm.folder.mkdir()
    try:
        agg, edges = aggregator(calm), [edge(calm, k) for k in (1, 2)]
        assert agg.wait() == 0, agg.told()
        assert [each.wait() for each in edges] == [0, 0]
    finally:
        calm.close()

    gate = programs.folder / "gate"
    agg = aggregator(programs)
    first, other = edge(programs, 1), edge(programs, 2, ECHO_GATE=str(gate))
    first.says("round=1 update verdict=accepted")
    first.kill()  # between its rounds
    again = edge(programs, 1, "edge1-again", ECHO_DELAY_S="30")
    again.says("joined job=")
    gate.touch()
    again.says("round=2 joined")
    again.kill()  # in the middle of one
    last = edge(programs, 1, "edge1-last")
    assert agg.wait() == 0, agg.told()
    assert [each.wait() for each in (other, last)] == [0, 0]
    assert story(programs) == story(calm)

    model = load_file(programs.run_dir / "global.safetensors")
    assert set(model) == {"a", "b", "control/a", "control/b"}
    kept = [max((programs.folder / f"edge{k}" / "kept" / programs.job).iterdir()) for k in (1, 2)]
    assert [file.stem for file in kept] == ["000000003"] * 2
    mine = [load_file(file)["control/a"] for file in kept]
    wanted = (mine[0] + mine[1]) / 2
    np.testing.assert_allclose(
        model["control/a"], wanted, atol=1e-6, err_msg="c is the mean of the sites' own"
    )


def test_a_run_with_control_variates_is_no_run_without(programs: Programs) -> None:
    agg = aggregator(programs)
    agg.says("waiting for clients")
    agg.interrupt()
    agg.wait()
    plain = programs.agg("--rounds", 3)
    assert plain.wait() == 2
    assert "holds a run with strategy 'scaffold', not 'fedavg'" in plain.err
    assert until(lambda: programs.run_dir.joinpath("global.safetensors").exists(), "nothing was touched")
