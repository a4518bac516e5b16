"""The benchmark runs, checks its own result, and says so; how fast it was is no test's business."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNNER = ROOT / "benchmarks" / "run_hilum.py"
KEYS = (
    "ok", "why", "isolated_net", "rounds_done", "round_s", "round_median_s", "rounds_total_s", "startup_s",
    "cpu_per_round_s", "cpu_by_role_s", "peak_rss_mb", "lo_bytes_tx", "foreign_cpu_cores", "final_check",
)  # fmt: skip

SIMULATED = ("updates", "updates_per_s", "train_wall_sum_s", "train_cpu_sum_s", "cpu_startup_s", "tree_peak_rss_mb",
             "tree_peak_pss_mb", "max_processes", "sample")  # fmt: skip

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.broker,
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux's /proc"),
]


def run(tmp: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUNNER), "--tmp", str(tmp / "bench"), "--guard", "200", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=220)


def result_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert len(lines) == 1, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    assert result["ok"], result["why"]
    assert done.returncode == 0
    return result


@pytest.fixture(autouse=True)
def _needs_mosquitto() -> None:
    if shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin") is None:
        pytest.skip("mosquitto is not installed")


def test_without_training_every_round_adds_one(tmp_path: Path) -> None:
    result = result_of(run(tmp_path, "--work", "W1", "--clients", "2", "--size", "0.25", "--rounds", "2"))
    assert result["final_check"] == result["rounds_done"] == len(result["round_s"]) == 2
    assert [key for key in KEYS if key not in result] == []
    for part in ("cpu_by_role_s", "peak_rss_mb"):
        assert all(result[part][role] > 0 for role in ("server", "client", "trainer", "broker")), result[part]
    model_bytes = 4 * 62_500
    assert result["aggregator_bytes_down"] < 3.5 * model_bytes, "each of the three models is published once"
    assert result["lo_bytes_tx"] > 2 * (1 + 2 + 2 + 2) * model_bytes, (
        "down and up again, each through the broker"
    )


@pytest.mark.slow
def test_the_small_network_learns(tmp_path: Path) -> None:
    result = result_of(run(tmp_path, "--work", "W2", "--clients", "2", "--rounds", "1"))
    assert result["updates"] == 2
    assert result["train_cpu_sum_s"] > 0
    assert result["accuracy"] > 0.6, "of two classes, by chance a half"


def test_the_simulation_learns_and_counts_its_updates(tmp_path: Path) -> None:
    result = result_of(run(tmp_path, "--work", "W3", "--clients", "6", "--sample", "2", "--rounds", "2"))
    assert [key for key in (*KEYS, *SIMULATED) if key not in result] == []
    assert (result["updates"], result["rounds_done"], len(result["round_s"])) == (4, 2, 2)
    assert result["updates_per_s"] > 0
    assert result["accuracy"] > 0.6, "of two classes, by chance a half"
    assert 0 < result["tree_peak_pss_mb"] <= result["tree_peak_rss_mb"]
    assert set(result["peak_rss_mb"]) == {"server", "trainer"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--work", "W3", "--sample", "0"], "--sample must be at least 1"),
        (["--clients", "0"], "--clients must be at least 1"),
    ],
)
def test_what_cannot_run_is_said_in_one_line(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_full_scratch_folder_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "bench" / "thesis.txt"
    kept.parent.mkdir()
    kept.write_text("years of work")
    done = run(tmp_path, "--work", "W1")
    assert done.returncode == 2
    assert "holds something else" in done.stderr
    assert kept.read_text() == "years of work"
