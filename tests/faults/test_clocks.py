"""Clocks hours apart, and jumping: only durations count, and nobody's time of day decides anything."""

from __future__ import annotations

import ast
from datetime import datetime, timezone
from pathlib import Path

from tests.brokers import Broker
from tests.e2e.processes import Programs
from tests.faults.sites import end_well, final_model, story, undisturbed_run

ROOT = Path(__file__).parents[2]
PACKAGES = ("aggregator", "edge_client", "fl_protocol", "fl_tasks", "fl_web")
WALL = {
    "time",
    "time_ns",
    "localtime",
    "gmtime",
    "ctime",
    "strftime",
    "now",
    "utcnow",
    "today",
    "st_mtime",
    "st_ctime",
}
READS_IT_FOR_PEOPLE = {
    "aggregator/server.py": {"now"},  # started_at in a record
    "aggregator/station.py": {"time"},  # the drift that the doctor remarks
    "edge_client/doctor.py": {"time"},  # that remark
    "fl_protocol/visit.py": {"time"},
    "aggregator/doctor.py": {"time"},
    "edge_client/serve.py": {"time"},  # since when the reading room has a model from a file
    "edge_client/store.py": {"st_mtime"},  # which model on its own disk is newer
    "fl_tasks/image_cache.py": {"time", "st_mtime"},  # which cached file on its own disk is old
    "fl_web/dashboard/feed.py": {"time"},  # what a page shows of when
    "fl_web/dashboard/runs.py": {"st_mtime"},  # when a run changed, for its list
    "fl_web/dashboard/service.py": {"localtime", "strftime"},
    "fl_web/dashboard/watch.py": {"time"},
}
HOURS = 3600.0


def wall_clock_reads(file: Path) -> set[str]:
    """Names by which a module reads the time of day."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr in WALL:
            of_time = isinstance(node.value, ast.Name) and node.value.id in {"time", "datetime", "date"}
            if of_time or node.attr.startswith("st_"):
                found.add(node.attr)
    return found


def test_only_what_stamps_records_reads_the_time_of_day() -> None:
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            name = str(file.relative_to(ROOT))
            surplus = wall_clock_reads(file) - READS_IT_FOR_PEOPLE.get(name, set())
            assert not surplus, f"{name} reads the time of day ({surplus}): use time.monotonic()"


def test_clocks_hours_apart_and_jumping_change_nothing(programs: Programs, broker: Broker) -> None:
    arguments = ("--rounds", 2, "--min-clients", 3, "--model", "mb-1", "--grace", 60)
    calm = undisturbed_run(programs, *arguments)
    path = f"{Path(__file__).parent / 'clock'}:{programs.env['PYTHONPATH']}"
    programs.env["PYTHONPATH"] = path
    agg = programs.agg(*arguments, env={"CLOCK_OFF_S": str(5 * HOURS)})
    working = [
        programs.edge(f"edge{k}", "--shard", f"{k}/3", env={"CLOCK_OFF_S": str(off * HOURS)})
        for k, off in ((1, -7.5), (2, 0.001), (3, 24 * 400))
    ]
    end_well(agg, *working)
    assert (story(programs), final_model(programs)) == (story(calm), final_model(calm))
    started = datetime.fromisoformat(programs.rounds()[0]["started_at"])
    assert (started - datetime.now(timezone.utc)).total_seconds() > 3 * HOURS, "the clock was wrong indeed"
    assert all(0 <= record["duration_s"] < HOURS for record in programs.rounds())
