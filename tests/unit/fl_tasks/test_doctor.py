"""What the task process's answers mean for a person who asks whether training would work."""

from __future__ import annotations

import pytest

from fl_protocol.messages import DataSummary
from fl_tasks import jobs
from fl_tasks.doctor import judge_data, judge_device
from fl_tasks.jobs import DataOptions, Failed, Inspected, Prepared

OPTIONS = DataOptions("chest-xray", "/x", 0, "/c")
GOOD = DataSummary(100, 90, 80, 20, classes={"NORMAL": 40, "PNEUMONIA": 60})


def verdicts(reply: jobs.Reply) -> list[str]:
    return [finding.verdict for finding in judge_data(reply, OPTIONS)]


def test_a_device_is_told_with_its_software() -> None:
    assert (
        judge_device(Inspected("cuda:0", "torch 2.9, 8 threads, H100"), "auto").detail
        == "cuda:0 (torch 2.9, 8 threads, H100)"
    )
    broken = judge_device(Failed("Inspect", jobs.BUG, "Traceback\nImportError: libcudart.so"), "cuda")
    assert (broken.verdict, broken.exit_code, broken.detail) == ("fail", 2, "ImportError: libcudart.so")
    missing = judge_device(Failed("Inspect", jobs.DATA, "no GPU here: use --device cpu"), "cuda")
    assert (missing.detail, missing.advice) == ("no GPU here", "use --device cpu")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Prepared(GOOD, (), 80, "cpu"), ["ok"]),
        (Prepared(DataSummary(100, 90, 80, 20, 3, 2, {"NORMAL": 2, "PNEUMONIA": 98}), ("a.png is cut",), 80, "cpu"),
         ["ok", "warn", "warn", "warn"]),
        (Prepared(DataSummary(4, 4, 3, 1, classes={"NORMAL": 2, "PNEUMONIA": 2}), (), 3, "cpu"), ["warn"]),
        (Prepared(DataSummary(1, 1, 0, 1), (), 0, "cpu"), ["fail"]),
        (Failed("Prepare", jobs.DATA, "/x does not exist: give a folder"), ["fail"]),
        (Failed("Prepare", jobs.MEMORY, "out of memory"), ["fail"]),
    ],
)  # fmt: skip
def test_a_folder_is_judged_by_its_counts(reply: jobs.Reply, expected: list[str]) -> None:
    assert verdicts(reply) == expected


def test_what_cannot_be_used_says_how_to_mend_it() -> None:
    (finding,) = judge_data(Failed("Prepare", jobs.DATA, "/x does not exist: give a folder"), OPTIONS)
    assert (finding.detail, finding.advice, finding.exit_code) == ("/x does not exist", "give a folder", 2)
