"""A copy of a run directory, taken while it runs: it resumes, whatever of it is behind the rest."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.processes import Programs, until

RUN = ("--rounds", 3, "--min-clients", 2, "--model", "mb-1")


def final(programs: Programs) -> str:
    return str(programs.rounds()[-1]["model_sha256"])


def resume(broker: Broker, folder: Path, copy: Path) -> tuple[Programs, str]:
    """Run a copy to its end with edges that know nothing; the programs, closed, and what the aggregator said."""
    programs = Programs(folder, broker.options.where, "backup")
    folder.mkdir()
    shutil.copytree(copy, programs.run_dir)
    try:
        agg = programs.agg(*RUN)
        edges = [programs.edge(f"edge{k}", "--shard", f"{k}/2") for k in (1, 2)]
        assert agg.wait() == 0, agg.told()
        assert [edge.wait() for edge in edges] == [0, 0]
    finally:
        programs.close()
    return programs, agg.out


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> tuple[str, Path, list[Path]]:
    """The final digest of a run; a copy from inside its second round, with one update; copies taken as it ran."""
    folder = tmp_path_factory.mktemp("backup")
    programs = Programs(folder, broker.options.where, "backup")
    inside = folder / "inside"
    running: list[Path] = []
    gate = folder / "gate"
    try:
        agg = programs.agg(*RUN)
        edges = [
            programs.edge(f"edge{k}", "--shard", f"{k}/2", env={"ECHO_GATE": str(gate)} if k == 2 else None)
            for k in (1, 2)
        ]
        agg.says("round=1 accepted client=edge1")
        until(lambda: list((programs.run_dir / "spool").rglob("*.f32")), "the update is in the spool")
        shutil.copytree(programs.run_dir, inside)
        gate.touch()
        while agg.running and len(running) < 40:
            running.append(folder / f"copy{len(running)}")
            with contextlib.suppress(
                shutil.Error
            ):  # a file may go while it is copied; the rest is copied all the same
                shutil.copytree(programs.run_dir, running[-1])
        assert agg.wait() == 0, agg.told()
        assert [edge.wait() for edge in edges] == [0, 0]
    finally:
        programs.close()
    return final(programs), inside, running


def test_copies_taken_while_it_runs_end_in_the_same_model(
    copies: tuple[str, Path, list[Path]], broker: Broker, tmp_path: Path
) -> None:
    wanted, inside, running = copies
    for number, copy in enumerate((inside, running[len(running) // 2])):
        programs, _ = resume(broker, tmp_path / str(number), copy)
        assert final(programs) == wanted


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-4]), lambda path: path.write_bytes(b"\1" * path.stat().st_size)],
    ids=["gone", "cut", "other bytes"],
)  # fmt: skip
def test_an_accepted_update_that_is_no_more_what_it_was_is_asked_for_again(
    copies: tuple[str, Path, list[Path]], broker: Broker, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Before, it was folded as it was: into a model of which nobody could say what had gone into it."""
    wanted, inside, _ = copies
    copy = shutil.copytree(inside, tmp_path / "copy")
    (spooled,) = (copy / "spool").rglob("*.f32")
    damage(spooled)
    programs, out = resume(broker, tmp_path / "again", copy)
    assert "accepted updates of round 1 are damaged or gone, asked for again: edge1" in out
    assert final(programs) == wanted
    assert programs.rounds()[0]["attempts"] == 2


def test_a_model_that_is_no_more_what_it_was_is_one_line(
    copies: tuple[str, Path, list[Path]], broker: Broker, tmp_path: Path
) -> None:
    programs = Programs(tmp_path, broker.options.where, "backup")
    shutil.copytree(copies[1], programs.run_dir)
    (model,) = (programs.run_dir / "models").glob("*.safetensors")
    with model.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    agg = programs.agg(*RUN)
    assert agg.wait() == 2, agg.told()
    programs.close()
    assert agg.err.count("\n") == 1 and "is damaged (its digest is another): restore it" in agg.err, (
        agg.told()
    )
