"""``fl-agg demo``: real processes, a report at the end, and nothing left behind whenever it is stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_protocol.modelfile import read_header
from fl_tasks.calibration import COLDEST, HOTTEST, METADATA_KEY
from fl_tasks.phantoms import write_phantoms
from tests.e2e.processes import Program, Programs, until


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Programs]:
    """Programs without a broker: the demonstration starts its own."""
    programs = Programs(tmp_path, "", "")
    yield programs
    programs.close()


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of phantoms: what is tested is the leaving, not the learning."""
    return write_phantoms(tmp_path_factory.mktemp("data") / "few", train=48, test=16)


def start(demo: Programs, *arguments: object) -> Program:
    return demo.start("fl-agg", "demo", "--out", "out", "--clients", "2", *arguments)


def leftovers(folder: Path) -> list[Path]:
    """Files that only a process under way may have."""
    return [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".part"))]


def test_a_demonstration_on_phantoms_ends_in_a_report_that_says_so(demo: Programs) -> None:
    run = start(demo, "--rounds", "1")
    assert run.wait(150) == 0, run.told()
    out = demo.folder / "out"
    (record,) = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()]
    assert record["outcome"] == "closed"
    assert record["accepted"] == ["site-1", "site-2"]
    assert 0.0 <= record["metrics"]["auroc"] <= 1.0
    assert "synthetic phantoms" in run.out
    assert f"file://{out}/report.html" in run.out
    assert "synthetic phantoms" in (out / "report.html").read_text()
    temperature = float(read_header(out / "global.safetensors").metadata[METADATA_KEY])
    assert COLDEST < temperature < HOTTEST, "fitted at the sites, sent with the model"
    assert leftovers(out) == []
    assert run.err == ""


@pytest.mark.parametrize("moment", ["broker", "joined", "round=2 opened"])
def test_ctrl_c_leaves_no_process_and_no_half_file(demo: Programs, few: Path, moment: str) -> None:
    run = start(demo, "--rounds", "5000", "--data", few)
    run.says(moment, 90)
    time.sleep(0.2)  # somewhere behind the line, not at it
    run.interrupt()
    assert run.wait() == 130, run.told()
    assert leftovers(demo.folder / "out") == []
    assert "Traceback" not in run.err


def test_a_stopped_demonstration_goes_on_and_an_ended_one_begins_anew(demo: Programs, few: Path) -> None:
    first = start(demo, "--rounds", "2", "--data", few)
    first.says("round=1 outcome=closed", 120)
    first.interrupt()
    assert first.wait() == 130, first.told()
    again = start(demo, "--rounds", "2", "--data", few)
    assert again.wait(120) == 0, again.told()
    assert "resumed round=2" in again.out
    records = (demo.folder / "out" / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in records] == [1, 2]
    anew = start(demo, "--rounds", "1", "--data", few)
    assert anew.wait(120) == 0, anew.told()
    assert "resumed" not in anew.out


def test_sigterm_to_the_demonstration_alone_ends_them_all(demo: Programs, few: Path) -> None:
    run = start(demo, "--rounds", "5000", "--data", few, "--dashboard", "127.0.0.1:0")
    run.says(r"dashboard: http://127\.0\.0\.1:\d+")
    run.says("joined", 90)
    run.process.terminate()
    assert run.wait() == 0, run.told()
    until(lambda: not run.living(), "all have ended")


def test_bad_data_is_one_line(demo: Programs) -> None:
    (demo.folder / "empty").mkdir()
    run = start(demo, "--data", "empty")
    assert run.wait() == 2
    assert run.err.count("\n") == 1
    assert "has no class folders" in run.err
