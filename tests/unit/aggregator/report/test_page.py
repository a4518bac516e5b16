"""The report: useful whatever the run looks like, safe whatever the peers are called."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aggregator.report.page import size_text, span_text, write_report
from aggregator.report.run_data import read_run

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"


def record(number: int, **more: Any) -> dict[str, Any]:
    """A line of rounds.jsonl."""
    return {
        "round": number, "outcome": "closed", "cohort": ["a", "b"], "accepted": ["a", "b"], "rejected": [],
        "stragglers": [], "num_examples": 100, "bytes_down": 1_300_000, "bytes_up": 2_600_000,
        "started_at": "2026-05-04T09:12:03.123+00:00", "duration_s": 41.2,
        "metrics": {"loss": 0.5, "accuracy": 0.8, "auroc": 0.9}, "client_metrics": {"train_loss": 0.4},
        "model_sha256": "ab" * 32, "attempts": 1, **more,
    }  # fmt: skip


def a_run(path: Path, records: list[dict[str, Any]], evaluation: Any = None, **settings: Any) -> str:
    """The page of a run with these files."""
    path.joinpath("rounds.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    held = {name: {"value": value, "source": "option"} for name, value in settings.items()}
    path.joinpath("config.json").write_text(json.dumps(held))
    if evaluation is not None:
        path.joinpath("evaluation.json").write_text(json.dumps(evaluation))
    return write_report(path).read_text("utf-8")


class Tags(HTMLParser):
    """Counts tags and remembers attributes; complains of tags closed out of order."""

    VOID = frozenset({"meta", "br", "path", "circle", "rect", "line"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.attributes: set[str] = set()
        self.stack: list[str] = []
        self.feed(page)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.stack.pop() == tag


EVALUATION = {
    "round": 2, "auroc_interval": [0.871, 0.932], "sensitivity_at_90_specificity": 0.742, "threshold": 0.613,
    "confusion": [[81, 16], [50, 136]], "roc": [[0, 0], [0.1, 0.74], [1, 1]], "images": 283, "patients": 195,
    "classes": ["NORMAL", "PNEUMONIA"],
}  # fmt: skip


def test_a_full_run_says_what_a_reader_looks_for(tmp_path: Path) -> None:
    page = a_run(tmp_path, [record(1), record(2)], EVALUATION, job="lung", task="chest-xray",
                 model="hilum-cnn", rounds=2)  # fmt: skip
    for said in ("lung", "chest-xray", "hilum-cnn", "0.900", "0.871 to 0.932", "0.742", "73.1 %", "finished",
                 "For research, not for diagnosis", "7.8 MB", "ab" * 32, "option"):  # fmt: skip
        assert said in page
    tags = Tags(page)
    assert tags.counts["svg"] >= 9
    assert "Synthetic" not in page and "synthetic phantoms" not in page


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    page = a_run(tmp_path, [record(1)], EVALUATION, job="lung")
    tags = Tags(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "image"} & set(tags.counts)
    assert not {"style", "onclick", "onload", "href", "src", "xlink:href"} & tags.attributes
    assert not re.search(r"url\(|@import|https?:", page)


def test_the_policy_names_the_digest_of_the_style_sheet(tmp_path: Path) -> None:
    page = a_run(tmp_path, [], None, job="lung")
    style = page[page.index("<style>") + 7 : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page


def test_no_rounds_yet(tmp_path: Path) -> None:
    page = write_report(tmp_path).read_text("utf-8")
    Tags(page)
    assert tmp_path.name in page and "No round has ended yet" in page and "--eval-data" in page


def test_hostile_names_and_reasons_stay_text(tmp_path: Path) -> None:
    bad = record(1, cohort=[HOSTILE, "b"], accepted=["b"], stragglers=[HOSTILE],
                 rejected=[{"client_id": HOSTILE, "reason": HOSTILE, "count": 4}], outcome="closed_short")  # fmt: skip
    evaluation = {**EVALUATION, "classes": [HOSTILE, HOSTILE]}
    page = a_run(tmp_path, [bad], evaluation, job=HOSTILE, task=HOSTILE, broker=HOSTILE)
    assert "script" not in Tags(page).counts
    assert "&lt;script&gt;" in page and "{{7*7}}" in page and "× 4" in page


def test_abandoned_rounds_and_missing_metrics_keep_their_place(tmp_path: Path) -> None:
    lines = [
        record(1),
        record(2, outcome="abandoned", metrics=None, client_metrics=None, accepted=[], attempts=4),
    ]
    page = a_run(tmp_path, lines, rounds=5)
    Tags(page)
    assert "last round abandoned" in page and "try 4" in page
    assert re.search(r"<b>1</b>\s*of 5 rounds done", page)
    assert "AUROC" in page and "0.900" in page


def test_without_central_metrics_the_clients_curves_are_drawn(tmp_path: Path) -> None:
    page = a_run(
        tmp_path, [record(i, metrics=None, client_metrics={"val_auroc": 0.8, "odd": 3.0}) for i in (1, 2)]
    )
    assert "clients&#39; validation" in page and ">odd<" in page and "No central evaluation yet" in page


def test_synthetic_runs_say_so_in_every_chart(tmp_path: Path) -> None:
    refused = [{"client_id": "a", "reason": "non_finite"}]
    page = a_run(tmp_path, [record(1), record(2, rejected=refused)], EVALUATION, synthetic=True)
    Tags(page)
    titles = re.findall(r'<figcaption><span class="title">([^<]*)</span>', page)
    assert len(titles) >= 9 and all("synthetic phantoms" in title for title in titles)
    assert 'role="note"' in page


def test_an_interval_of_another_round_is_not_shown_as_this_one(tmp_path: Path) -> None:
    page = a_run(tmp_path, [record(1), record(2), record(3)], EVALUATION)
    assert "0.871 to 0.932" not in page


def test_a_cut_last_line_costs_that_line_only(tmp_path: Path) -> None:
    a_run(tmp_path, [record(1)])
    with (tmp_path / "rounds.jsonl").open("a") as file:
        file.write('{"round": 2, "outc')
    page = write_report(tmp_path).read_text("utf-8")
    assert "1 line of rounds.jsonl could not be read" in page


@pytest.mark.parametrize("junk", [
    {"round": 1}, {"round": 1, "cohort": 3, "metrics": [1], "rejected": [7, {}], "duration_s": float("nan")},
    {"round": 1, "metrics": {"auroc": 1e300, "loss": float("inf")}, "bytes_up": -4, "started_at": None},
    {"round": "x"}, [], None, {"round": 10**30},
])  # fmt: skip
def test_odd_lines_never_stop_the_page(tmp_path: Path, junk: Any) -> None:
    evaluation = {"roc": [[2, 2], ["a"], 3], "confusion": [[1], [2]], "auroc_interval": [1], "round": None}
    Tags(a_run(tmp_path, [junk, record(5)], evaluation, rounds="many"))


def test_many_clients_and_rounds_are_bounded(tmp_path: Path) -> None:
    ids = [f"client-{i:04}" for i in range(1500)]
    page = a_run(tmp_path, [record(i, cohort=ids, accepted=ids) for i in range(1, 12)])
    assert "and 1300 more" in page and "and 1,488 more" in page
    assert len(page) < 600_000


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    page = a_run(tmp_path, [], None, password="hunter2", password_file="/etc/pw")
    assert "hunter2" not in page and "/etc/pw" in page


def test_writing_leaves_no_draft_and_replaces_the_old_page(tmp_path: Path) -> None:
    write_report(tmp_path).write_text("old")
    assert write_report(tmp_path).read_text("utf-8") != "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_clients_are_tallied_by_what_they_did(tmp_path: Path) -> None:
    a_run(tmp_path, [record(1), record(2, accepted=["a"], stragglers=["b"]),
                     record(3, cohort=["a", "b", "c"], accepted=["b"], client_examples={"b": 40},
                            rejected=[{"client_id": "a", "reason": "bad_shape"}])])  # fmt: skip
    a, b, c = read_run(tmp_path).rounds.clients()
    assert (a.cohort, a.accepted, a.late, a.rejected, a.missing) == (3, 2, 0, 1, 0)
    assert (b.accepted, b.late, b.examples) == (2, 1, 40)
    assert (c.cohort, c.missing) == (1, 1)


def test_sizes_and_spans_for_people() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 1_300_000, 999_600)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.3 MB",
        "1.0 MB",
    ]
    assert [span_text(s) for s in (0.031, 9.96, 59.6, 125, 11400)] == [
        "0.03 s",
        "10 s",
        "1 min 00 s",
        "2 min 05 s",
        "3 h 10 min",
    ]


def test_sites_have_a_row_each_and_those_that_keep_their_figures_are_named(tmp_path: Path) -> None:
    row = {"auroc": 0.81, "loss": 0.5, "ece": 0.04, "examples": 120, "patients": 96, "rmse": 7.0}
    later = {"a": row | {"auroc": 0.93}, HOSTILE: {"loss": 0.7, "examples": "many", "auroc": None}}
    page = a_run(tmp_path, [record(1, sites={"a": row}), record(2, sites=later)])
    Tags(page)
    table = re.search(r'id="sites".*?</section>', page, re.DOTALL)
    assert table is not None
    cells = re.sub(r"<[^>]+>", " ", table[0]).split()
    text = " ".join(cells)
    assert "AUROC loss ECE rmse first AUROC" in text
    assert "a 2 120 96 0.930 0.500 0.040 7.000 0.810" in text, "the newest, and where it began"
    assert "No figures of b : kept to themselves" in text
    assert "<script" not in page


def test_a_run_whose_sites_share_nothing_has_no_table_of_them(tmp_path: Path) -> None:
    oddities: tuple[Any, ...] = (None, {}, [], {"a": {}}, {"a": 3})
    for odd in oddities:
        assert 'id="sites"' not in a_run(tmp_path, [record(1, sites=odd)])


def test_a_run_that_ended_early_says_so_and_names_its_best_model(tmp_path: Path) -> None:
    best = {"round": 1, "metric": "auroc", "value": 0.912, "model_sha256": "ab" * 32}
    page = a_run(
        tmp_path, [record(1, best=best), record(2, best=best, ended_early="no better for 1 round")], rounds=9
    )
    assert all(said in page for said in ("finished early", "no better for 1 round", "Best auroc", "0.912"))
    odd = a_run(
        tmp_path, [record(1, best={"value": "high"}, ended_early=None), record(2, best=[3])], rounds=9
    )
    assert "Best auroc" not in odd and "finished early" not in odd
