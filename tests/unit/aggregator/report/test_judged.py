"""The parts of the report about the newest model and about who holds what, from files that may be odd."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from aggregator.report.dot_charts import parts_chart, reliability_chart
from aggregator.report.evaluation import read_calibration, read_operating
from aggregator.report.page import render, write_report
from aggregator.report.parts import parts_json, read_parts
from aggregator.report.run_data import read_run

DETAIL = {
    "round": 1, "images": 8, "patients": 4, "classes": ["NORMAL", "PNEUMONIA"], "confusion": [[3, 1], [1, 3]],
    "temperature": 1.5, "brier": [0.12, 0.1], "ece": [0.08, 0.03], "auprc": 0.91,
    "sensitivity_at_95_specificity": 0.5, "specificity_at_95_sensitivity": 0.25,
    "reliability": [[[0.6, 0.5, 3], [0.9, 0.8, 5]], [[0.55, 0.5, 3], [0.8, 0.8, 5]]],
}  # fmt: skip


def page(tmp_path: Path, detail: Any = DETAIL, parts: Any = None) -> str:
    line = {"round": 1, "outcome": "closed", "cohort": ["a"], "accepted": ["a"], "metrics": {"auroc": 0.9}}
    (tmp_path / "rounds.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "evaluation.json").write_text(json.dumps(detail))
    if parts is not None:
        (tmp_path / "parts.json").write_text(json.dumps(parts))
    write_report(tmp_path)
    return (tmp_path / "report.html").read_text("utf-8")


def test_calibration_and_operating_points_are_on_the_page(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "expected error 0.080, at temperature 1.50 0.030; Brier score 0.120, 0.100" in text
    assert "says 0.60, right 0.50 (3 images)" in text
    for row in ("AUPRC", "0.910", "Sensitivity at 95 % specificity", "Specificity at 95 % sensitivity"):
        assert row in text


def test_who_holds_what_is_on_the_page(tmp_path: Path) -> None:
    sites = [("north", {"NORMAL": 3, "PNEUMONIA": 0}), ("so<uth", {"NORMAL": 1, "PNEUMONIA": 1200})]
    text = page(tmp_path, parts=parts_json(sites, "dirichlet:0.1 over 2 clients, seed 0"))
    assert "Who holds what" in text and "dirichlet:0.1 over 2 clients" in text
    assert "so&lt;uth: 1,200 PNEUMONIA" in text and "so<uth" not in text
    assert "Who holds what" not in page(tmp_path / "..", parts=[])


@pytest.mark.parametrize("key", ["brier", "ece", "reliability", "temperature"])
@pytest.mark.parametrize("value", [None, "x", -1, [], [1], [None, 1], {"a": 1}, [[["a", 1, 2]], 7, 8], 1e300])
def test_an_odd_file_loses_what_is_odd(tmp_path: Path, key: str, value: Any) -> None:
    found = read_calibration(DETAIL | {key: value})
    assert found is None or (found.before, found.after) == ((), ())
    assert "Confusion matrix" in page(tmp_path, DETAIL | {key: value})


def test_odd_rows_are_left_out() -> None:
    bins = [[[0.5, 0.5, 1], [2.0, 0.5, 1], "x", [0.1], [0.1, 0.2, None]], []]
    found = read_calibration(DETAIL | {"reliability": bins})
    assert found is not None and found.before == ((0.5, 0.5, 1),) and found.after == ()
    assert read_operating({"auprc": "high"}).rows() == []
    assert (
        read_parts({"sites": [1, {"site": "a"}, {"site": "b", "classes": {"x": -1, "y": 2, "z": True}}]})
        is not None
    )
    odds: list[Any] = [None, [], {}, {"sites": 3}, {"sites": [{}]}]
    assert [read_parts(odd) for odd in odds] == [None] * 5
    crowd = read_parts(parts_json((f"s{i}", {"a": 1}) for i in range(250)))
    assert crowd is not None and (len(crowd.sites), crowd.hidden) == (100, 150)


def test_the_charts_are_sound_whatever_they_show() -> None:
    for svg in (
        reliability_chart("k", "t", [], []),
        parts_chart("k", "t", [], []),
        parts_chart("k", "t", ["a"], [("x", {})]),
    ):
        assert ET.fromstring(svg).get("role") == "img"


def test_a_run_without_any_of_it(tmp_path: Path) -> None:
    assert "Calibration" not in render(read_run(tmp_path), "x")
