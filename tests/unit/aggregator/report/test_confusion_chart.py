"""The confusion matrix: counts and shares for few classes, and room for every name and figure where there are many."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from aggregator.report.confusion_chart import confusion_chart
from fl_tasks.catalogue import ARRAY_TASKS
from tests.unit.aggregator.report.test_charts import HOSTILE

TASKS = {name: task.classes for name, task in ARRAY_TASKS.items()}


def texts(svg: str) -> list[ET.Element]:
    return [each for each in ET.fromstring(svg) if each.tag == "text"]


def test_it_says_counts_and_shares_of_the_row() -> None:
    svg = confusion_chart("k", "t", [[81, 16], [50, 136]], ["NORMAL", "PNEUMONIA"])
    assert "84 % of row" in svg and "73 % of row" in svg and ">136<" in svg


@pytest.mark.parametrize("size", [0, 2, 5])
def test_hostile_text_stays_text(size: int) -> None:
    root = ET.fromstring(confusion_chart("k", HOSTILE, [[1] * size] * size, [HOSTILE] * size))
    assert not list(root.iter("script"))


def test_of_many_classes_a_count_of_nothing_is_an_empty_cell() -> None:
    counts = [[7 * (i == j) for j in range(10)] for i in range(10)]
    svg = confusion_chart("k", "t", counts, TASKS["mnist"])
    assert svg.count("<rect") == 100
    assert [each.text for each in texts(svg) if "cell" in each.attrib["class"]] == ["7"] * 10


@pytest.mark.parametrize("task", TASKS)
def test_no_name_or_count_of_a_known_task_reaches_into_the_next(task: str) -> None:
    """A letter is 8 wide at the most, a small figure 6.2 and a large one 12; lines are 12 apart at the least."""
    classes = TASKS[task]
    found = texts(confusion_chart("k", "t", [[1234] * len(classes)] * len(classes), classes))
    many = len(classes) > 4
    heads = [each for each in found if float(each.attrib["y"]) == float(found[2 if many else -1].attrib["y"])]
    assert len(heads) == len(classes)
    if "transform" in heads[0].attrib:
        assert min(b - a for a, b in pairwise(float(each.attrib["x"]) for each in heads)) >= 12
        assert all(8 * len(each.text or "") <= float(each.attrib["y"]) for each in heads)
    else:
        places = [(float(each.attrib["x"]), 4 * len(each.text or "")) for each in heads]
        assert all(a + half <= b - other for (a, half), (b, other) in pairwise(places))
    cells = [each for each in found if "cell" in each.attrib["class"] and "%" not in (each.text or "")]
    first, second = float(cells[0].attrib["x"]), float(cells[1].attrib["x"])
    assert (6.2 if many else 12.0) * len(cells[0].text or "") <= second - first
