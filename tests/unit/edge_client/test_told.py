from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_client.told import told_beside


def test_the_rounds_of_the_run_it_lies_in(tmp_path: Path) -> None:
    lines = [
        {"model_sha256": "a", "accepted": ["x"], "metrics": {"auroc": 0.8}},
        {
            "model_sha256": "b",
            "accepted": ["x", "y"],
            "metrics": {"auroc": 0.9, "auroc_low": 0.8, "loss": 1.0},
        },
    ]
    (tmp_path / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{half")
    assert told_beside(tmp_path / "global.safetensors", "b") == (2, {"auroc": 0.9, "auroc_low": 0.8})
    assert told_beside(tmp_path / "global.safetensors", "c") == (None, {})


def test_its_card(tmp_path: Path) -> None:
    card = {
        "digest": "a",
        "training": {"sites": 3},
        "metrics": {"central": {"auroc": 0.9, "auroc_interval_95": [0.8, 1.0]}},
    }
    (tmp_path / "m.card.json").write_text(json.dumps(card))
    assert told_beside(tmp_path / "m.safetensors", "a") == (
        3,
        {"auroc": 0.9, "auroc_low": 0.8, "auroc_high": 1.0},
    )
    assert told_beside(tmp_path / "m.safetensors", "b") == (None, {})


@pytest.mark.parametrize(
    "odd", [[], {"digest": "a"}, {"digest": "a", "training": 5, "metrics": {"central": [1]}}]
)
def test_odd_cards_tell_nothing(tmp_path: Path, odd: Any) -> None:
    (tmp_path / "m.card.json").write_text(json.dumps(odd))
    assert told_beside(tmp_path / "m.safetensors", "a") == (None, {})
