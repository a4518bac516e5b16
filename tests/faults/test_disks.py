"""A disk without room under the aggregator, an edge, the broker: one clear line, nothing corrupted, on when there is."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import mosquitto, running
from tests.e2e.processes import Programs, until
from tests.faults.sites import edges, end_well, final_model, story, undisturbed_run

ARGUMENTS = ("--rounds", 2, "--min-clients", 2, "--model", "mb-1", "--grace", 60)
ROOM = 24_000_000
pytestmark = pytest.mark.skipif(
    os.getuid() != 0,
    reason="mounts a small disk, which takes root; tests/e2e/test_bad_input.py has the rest by rlimit",
)


class SmallDisk:
    """A file system of its own, which can be filled to the last byte and given room again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._filler = folder, folder / "filler"

    def fill(self) -> None:
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def make_room(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this place lets nobody mount: {mounted.stderr.decode().strip()}")
    yield SmallDisk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def undisturbed(programs: Programs) -> tuple[list[object], bytes]:
    calm = undisturbed_run(programs, *ARGUMENTS, count=2)
    return list(story(calm)), final_model(calm)


def test_the_aggregators_disk(
    programs: Programs, disk: SmallDisk, undisturbed: tuple[list[object], bytes]
) -> None:
    """Without room for a journal entry it ends in one line; with room the same command goes on."""
    out = ("--out", disk.folder / "run")
    agg = programs.agg(*ARGUMENTS, *out)
    agg.says("waiting for clients")
    disk.fill()
    working = edges(programs, 2)
    assert agg.wait() == 2, agg.told()
    assert re.fullmatch(
        r"fl-agg: cannot write to \S+/small/run \(.*(full|No space).*\): make room, then the same command goes on .*\n",
        agg.err,
    ), agg.told()
    disk.make_room()
    end_well(programs.agg(*ARGUMENTS, *out), *working)
    programs.run_dir.symlink_to(disk.folder / "run")
    assert (story(programs), final_model(programs)) == undisturbed


def test_an_edges_disk(programs: Programs, disk: SmallDisk, undisturbed: tuple[list[object], bytes]) -> None:
    """It says so, waits, and takes part as soon as there is room; its folder is as good as any other then."""
    agg = programs.agg(*ARGUMENTS)
    agg.says("waiting for clients")
    first = programs.edge("edge1", "--shard", "1/2")
    second = programs.edge(
        "edge2", "--shard", "2/2", "--workdir", disk.folder / "edge2", "--job", f"{programs.job}-x"
    )
    second.says("no aggregator serves")
    second.interrupt()
    second.wait()
    disk.fill()
    second = programs.edge("edge2", "--shard", "2/2", "--workdir", disk.folder / "edge2")
    second.says(r"cannot keep the model \(No space left on device in \S+/small/edge2\): make room")
    assert second.running and first.running
    disk.make_room()
    end_well(agg, first, second)
    assert (story(programs), final_model(programs)) == undisturbed


def test_the_brokers_disk(
    programs: Programs, disk: SmallDisk, undisturbed: tuple[list[object], bytes]
) -> None:
    """What it cannot save it says in its log; what it retains is a cache that the aggregator lays out again."""
    data = disk.folder / "data"
    data.mkdir()
    keeping = mosquitto(
        programs.folder / "broker", "persistence true", f"persistence_location {data}/", "autosave_on_changes true",
        "autosave_interval 1",
    )  # fmt: skip
    disk.fill()
    with running(keeping):
        programs.broker = keeping.options.where
        working = edges(programs, 2, ECHO_DELAY_S="0.3")
        agg = programs.agg(*ARGUMENTS)
        agg.says("round=1 accepted")
        until(lambda: "Error" in keeping.log.read_text(), f"the broker says so: {keeping.log.read_text()}")
        keeping.kill()
        keeping.start()
        agg.says("broker back")
        disk.make_room()
        end_well(agg, *working)
        programs.close()
    assert (story(programs), final_model(programs)) == undisturbed
