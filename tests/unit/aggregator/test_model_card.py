from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aggregator.model_card import Subject, card_of
from aggregator.model_card_text import markdown
from aggregator.report.run_data import RunData, read_run

DIGEST = "ab" * 32
SAID = {
    "task": "chest-xray", "model": "hilum-cnn", "classes": '["NORMAL", "PNEUMONIA"]', "image_size": "96",
    "round": "2", "temperature": "1.25",
}  # fmt: skip


def run_with(folder: Path, sites: dict[str, Any] | None = None, evaluated: int = 2) -> RunData:
    rounds = [
        {
            "round": number, "outcome": "closed", "accepted": ["a", "b"], "num_examples": 100,
            "started_at": "2026-05-04T09:12:03.123+00:00", "model_sha256": digest,
            "metrics": {"auroc": 0.9, "auroc_low": 0.85, "auroc_high": 0.94, "loss": 0.3}, "sites": sites or {},
        }
        for number, digest in ((1, "cd" * 32), (2, DIGEST))
    ]  # fmt: skip
    evaluation = {
        "round": evaluated, "images": 283, "patients": 195, "ece": [0.1, 0.05], "brier": [0.2, 0.1], "temperature": 1.25,
        "reliability": [[], []], "auroc_interval": [0.86, 0.95], "auprc": 0.97,
    }  # fmt: skip
    folder.joinpath("rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rounds))
    folder.joinpath("evaluation.json").write_text(json.dumps(evaluation))
    folder.joinpath("config.json").write_text(
        json.dumps({"strategy": {"value": "fedprox", "source": "option"}})
    )
    parts = {"how": "iid", "sites": [{"site": "a", "classes": {"NORMAL": 7, "PNEUMONIA": 9}}]}
    folder.joinpath("parts.json").write_text(json.dumps(parts))
    return read_run(folder)


def test_all_that_a_run_tells_stands_in_the_card(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"a": {"auroc": 0.91, "examples": 40.0}})
    card = card_of(Subject(DIGEST, SAID, 302_898), run, "onnx")
    assert card["name"] == "hilum-cnn for chest-xray of round 2"
    assert card["strategy"] == "fedprox" and card["rounds"] == 2
    assert card["data"]["sites"] == [{"site": "a", "classes": {"NORMAL": 7, "PNEUMONIA": 9}}]
    assert card["metrics"]["central"]["auroc_interval_95"] == [0.86, 0.95]
    assert card["metrics"]["sites"] == {"of_round": 1, "by_site": {"a": {"auroc": 0.91, "examples": 40.0}}}
    assert card["calibration"] == {"temperature": 1.25, "ece": [0.1, 0.05], "brier": [0.2, 0.1]}
    text = markdown(json.loads(json.dumps(card)))
    for told in (
        DIGEST,
        "0.860 to 0.950",
        "| a | 7 | 9 |",
        "0.1000 before, 0.0500 at the temperature",
        "302,898",
    ):
        assert told in text
    assert "research, not for diagnosis" in text


def test_without_a_run_nothing_is_invented() -> None:
    card = card_of(Subject(DIGEST, {}, 5), None, "safetensors")
    unknown = ("task", "model", "classes", "image_size", "rounds", "strategy", "training", "data")
    assert [card[name] for name in unknown] == [None] * len(unknown)
    assert card["metrics"] == {"central": None, "sites": None}
    assert card["calibration"] == {"temperature": None, "ece": None, "brier": None}
    assert markdown(card).count("not known") >= 10


def test_a_run_that_did_not_make_the_model_says_nothing_of_it(tmp_path: Path) -> None:
    card = card_of(Subject("ef" * 32, SAID, 5), run_with(tmp_path), "onnx")
    assert card["metrics"]["central"] is None and card["data"] is None and card["strategy"] is None


def test_an_evaluation_of_another_round_is_not_this_models(tmp_path: Path) -> None:
    card = card_of(Subject(DIGEST, SAID, 5), run_with(tmp_path, evaluated=1), "onnx")
    assert card["metrics"]["central"]["auroc_interval_95"] == [0.85, 0.94]
    assert card["calibration"]["ece"] is None and "images" not in card["metrics"]["central"]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a | b", "x\n# y"])
def test_names_of_sites_are_no_markup(tmp_path: Path, name: str) -> None:
    card = card_of(Subject(DIGEST, SAID, 5), run_with(tmp_path, {name: {"auroc": 0.5}}), "onnx")
    text = markdown(card)
    assert "<script" not in text and "| a | b |" not in text and "\n# y" not in text


@pytest.mark.parametrize(
    "odd", [{"temperature": "hot"}, {"round": "-1"}, {"classes": "{"}, {"image_size": "x"}]
)
def test_odd_metadata_are_not_known(odd: dict[str, str]) -> None:
    markdown(card_of(Subject(DIGEST, SAID | odd, 5), None, "onnx"))
