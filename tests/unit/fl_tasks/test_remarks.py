from __future__ import annotations

from fl_protocol.messages import DataSummary
from fl_tasks.jobs import EVAL, DataOptions
from fl_tasks.remarks import MAX_LINES, bounded, remarks_on, remarks_on_parts

OPTIONS = DataOptions("chest-xray", "/x", 64, "/c", 3, 8, "dirichlet:0.01")
USUAL = DataSummary(40, 30, 34, 6, classes={"NORMAL": 10, "PNEUMONIA": 30})


def test_nothing_is_said_of_usual_data_or_of_a_test_set() -> None:
    assert remarks_on(USUAL, OPTIONS) == ()
    one_class = DataSummary(4, 1, 0, 0, classes={"NORMAL": 4, "PNEUMONIA": 0})
    assert remarks_on(one_class, DataOptions("chest-xray", "/x", 64, "/c", role=EVAL)) == ()
    assert remarks_on(DataSummary(0, 0, 0, 0), OPTIONS) == ()


def test_of_many_lines_the_first_are_told_and_the_rest_counted() -> None:
    lines = [str(number) for number in range(MAX_LINES + 3)]
    assert bounded(lines[:-3]) == lines[:-3]
    assert bounded(lines) == [*lines[:-3], "and 3 more"]


def test_a_draw_that_leaves_a_part_nearly_empty_is_told() -> None:
    said = remarks_on(DataSummary(2, 1, 2, 0, classes={"NORMAL": 0, "PNEUMONIA": 2}), OPTIONS)
    assert [line.split(":")[0] for line in said] == [
        "part 3 of 8 has one patient",
        "every image here is PNEUMONIA",
        "too few patients to hold one out",
    ]
    assert "dirichlet" in said[0]


def test_a_whole_folder_of_one_patient_was_not_drawn() -> None:
    whole = DataOptions("chest-xray", "/x", 64, "/c")
    assert not any("part" in line for line in remarks_on(DataSummary(2, 1, 2, 1), whole))


def test_of_many_parts_each_kind_is_told_once() -> None:
    lone = DataSummary(2, 1, 2, 0, classes={"NORMAL": 0, "PNEUMONIA": 2})
    one_class = DataSummary(9, 9, 8, 1, classes={"NORMAL": 9, "PNEUMONIA": 0})
    nobody = DataSummary(0, 0, 0, 0, classes={"NORMAL": 0, "PNEUMONIA": 0})
    said = remarks_on_parts([USUAL, lone, lone, one_class, nobody], OPTIONS)
    assert [line.split(":")[0] for line in said] == [
        "2 of 5 parts have one patient",
        "3 of 5 parts are of one class each",
        "2 of 5 parts have too few patients to hold one out",
    ]
    assert "dirichlet:0.01" in said[0]
    assert remarks_on_parts([USUAL] * 8, OPTIONS) == ()


def test_of_parts_whose_classes_nobody_counts_only_the_patients_are_told() -> None:
    counts = [DataSummary(3, 1, 3, 0), DataSummary(5, 5, 5, 0)]
    assert [line[:27] for line in remarks_on_parts(counts, OPTIONS)] == ["1 of 2 parts have one patie"]
