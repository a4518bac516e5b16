"""What the report keeps of a run: right to the last round, and no more for five thousand rounds than for five hundred."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aggregator.report import rounds as kept
from aggregator.report.page import write_report
from aggregator.report.round_line import RoundLine, read_line
from aggregator.report.rounds import OTHER_REASONS, Curve, Rounds

outcomes = st.sampled_from(["closed", "closed_short", "abandoned"])
some_lines = st.lists(
    st.tuples(outcomes, st.integers(0, 9), st.integers(0, 9), st.sampled_from(["auroc", "loss", None])),
    min_size=1, max_size=90,
)  # fmt: skip


def lines_of(rows: list[tuple[str, int, int, str | None]]) -> list[RoundLine]:
    return [
        RoundLine(number, outcome, duration_s=float(took), bytes_up=up, metrics={name: number / 100} if name else {})
        for number, (outcome, took, up, name) in enumerate(rows, start=1)
    ]  # fmt: skip


@given(some_lines, st.integers(2, 12))
def test_a_thinned_curve_loses_no_round_no_second_and_no_newest_value(
    rows: list[tuple[str, int, int, str | None]], most: int
) -> None:
    lines, curve = lines_of(rows), Curve(most)
    for line in lines:
        curve.add(line)
    points = curve.points
    assert len(points) <= most
    assert [point.rounds for point in points[:-1]] == [curve.every] * (len(points) - 1)
    assert points[-1].rounds <= curve.every
    assert [n for point in points for n in range(point.first, point.last + 1)] == [
        line.number for line in lines
    ]
    for point in points:
        inside = lines[point.first - 1 : point.last]
        assert (point.duration_s, point.bytes_up) == (sum(line.duration_s for line in inside), sum(line.bytes_up for line in inside))  # fmt: skip
        newest: dict[str, float] = {}
        for line in inside:
            newest |= line.metrics
        assert point.metrics == newest
        worst = [bad for bad in ("abandoned", "closed_short") if bad in {line.outcome for line in inside}]
        assert point.outcome == (worst[0] if worst else "closed")


def test_sums_are_of_all_rounds_and_rows_of_the_newest() -> None:
    rounds = Rounds()
    for number in range(1, 1001):
        outcome = "abandoned" if number % 10 == 0 else "closed"
        rounds.add(
            RoundLine(number, outcome, bytes_down=2, bytes_up=3, duration_s=0.5, metrics={"loss": 1 / number})
        )
    assert (rounds.count, rounds.done, rounds.abandoned, rounds.seconds) == (1000, 900, 100, 500.0)
    assert (rounds.bytes_down, rounds.bytes_up) == (2000, 3000)
    assert [line.number for line in rounds.recent] == list(range(1001 - kept.MOST_ROUNDS, 1001))
    assert rounds.central["loss"].number == 1000
    assert rounds.curve.points[-1].last == 1000


def test_a_line_out_of_order_is_left_out() -> None:
    rounds = Rounds()
    assert [rounds.add(RoundLine(number, "closed")) for number in (1, 3, 2, 3, 4)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert rounds.count == 3


def test_reasons_beyond_the_bound_are_counted_together() -> None:
    rounds = Rounds()
    for number in range(1, 2 * kept.MOST_REASONS + 1):
        line = read_line({"round": number, "rejected": [{"client_id": "a", "reason": f"declined: {number}"}]})
        assert line is not None
        rounds.add(line)
    told = dict(rounds.refusals())
    assert len(told) == kept.MOST_REASONS + 1
    assert told[OTHER_REASONS] == kept.MOST_REASONS and sum(told.values()) == 2 * kept.MOST_REASONS


def long_run(folder: Path, count: int) -> Path:
    """The files of a run of ``count`` rounds of eight clients."""
    folder.mkdir()
    names = [f"site-{k}" for k in range(8)]
    with (folder / "rounds.jsonl").open("w") as file:
        for number in range(1, count + 1):
            body: dict[str, Any] = {
                "round": number, "outcome": "closed", "cohort": names, "accepted": names[:7], "stragglers": names[7:],
                "rejected": [{"client_id": names[7], "reason": "late", "count": 1}], "num_examples": 700,
                "client_examples": dict.fromkeys(names[:7], 100), "bytes_down": 10_000, "bytes_up": 70_000,
                "started_at": "2026-05-04T09:12:03.123+00:00", "duration_s": 1.5, "attempts": 1,
                "metrics": {"auroc": 0.5 + number / 20_000, "auroc_low": 0.4, "auroc_high": 0.9, "loss": 1 / number},
                "client_metrics": {"train_loss": 2 / number}, "model_sha256": "ab" * 32,
                "sites": {name: {"auroc": 0.8, "examples": 30} for name in names},
            }  # fmt: skip
            file.write(json.dumps(body) + "\n")
    return folder


def test_neither_the_page_nor_the_memory_for_it_grows_with_the_rounds(tmp_path: Path) -> None:
    sizes, peaks = [], []
    for count in (600, 5000):
        folder = long_run(tmp_path / str(count), count)
        tracemalloc.start()
        page = write_report(folder)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append(page.stat().st_size)
        text = page.read_text("utf-8")
        assert f"and {count - kept.MOST_ROUNDS} earlier rounds, in rounds.jsonl" in text
        assert f"{0.5 + count / 20_000:.3f}" in text, "the newest figure"
    assert sizes[1] < 1.1 * sizes[0] < 1_000_000
    assert peaks[1] < 1.1 * peaks[0], peaks
