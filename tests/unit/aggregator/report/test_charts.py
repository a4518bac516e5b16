"""Charts: nice scales, gaps, and well-formed SVG whatever the text."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from aggregator.report.charts import (
    Bar,
    Line,
    bar_chart,
    line_chart,
    presence_chart,
    roc_chart,
    spark_range,
    tally_chart,
)

HOSTILE = '</title><script>alert("x")</script>&\'"'


def test_a_gap_breaks_the_curve_and_a_faint_line_bridges_it() -> None:
    line = Line("auroc", [(1, 0.5), (2, 0.6), (3, None), (4, 0.7), (5, 0.8)])
    root = ET.fromstring(line_chart("k", "t", [line]))
    assert [p.get("class") for p in root.iter("path")] == ["bridge", "line c1", "line c1"]
    assert len(list(root.iter("circle"))) == 4


def test_one_round_is_a_dot_with_its_whisker() -> None:
    line = Line("auroc", [(1, 0.8)], band=[(1, 0.7, 0.9)])
    root = ET.fromstring(line_chart("k", "t", [line]))
    assert len(list(root.iter("circle"))) == 1
    assert [p.get("class") for p in root.iter("line") if "whisker" in (p.get("class") or "")]


def test_nothing_to_draw_is_still_a_drawing() -> None:
    for svg in (
        line_chart("k", "t", []),
        bar_chart("k", "t", [], unit="s"),
        roc_chart("k", "t", []),
        tally_chart("k", "t", []),
    ):
        assert ET.fromstring(svg).get("role") == "img"


def test_hostile_text_stays_text_in_every_chart() -> None:
    drawings = [
        line_chart(HOSTILE, HOSTILE, [Line(HOSTILE, [(1, 0.5), (2, 0.6)])], x_label=HOSTILE),
        bar_chart("k", HOSTILE, [Bar(1, [(3.0, "k1")], HOSTILE)], unit=HOSTILE),
        tally_chart("k", HOSTILE, [(HOSTILE, 3)]),
        presence_chart("k", HOSTILE, [HOSTILE], [1], lambda _name, _number: "late"),
        spark_range("k", HOSTILE, 0.8, 0.9, 0.95),
    ]
    for svg in drawings:
        root = ET.fromstring(svg)
        assert not list(root.iter("script"))
        assert root.find("title") is not None


def test_no_coordinate_is_not_a_number() -> None:
    bars = [Bar(i, [(float(i) * 1e9, "k1"), (0.0, "k3")]) for i in range(1, 400)]
    lines = [Line("l", [(i, math.exp(i / 20)) for i in range(1, 400)])]
    for svg in (bar_chart("k", "t", bars, unit="B"), line_chart("k", "t", lines)):
        assert "nan" not in svg and "inf" not in svg
