from __future__ import annotations

import numpy as np
import pytest

from fl_tasks.seen import Seen, verdict


def test_probabilities_are_taken_at_the_models_temperature() -> None:
    seen = Seen(np.array([0.0, 2.0], np.float32), None)
    assert seen.probabilities({})[1] == pytest.approx(1 / (1 + np.exp(-2)))
    assert seen.probabilities({"temperature": "2"})[1] == pytest.approx(1 / (1 + np.exp(-1)))


def test_heat_runs_from_nought_to_one() -> None:
    maps = np.array([[[0.0, 0.5], [2.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]], np.float32)
    seen = Seen(np.zeros(2, np.float32), maps)
    heat, none = seen.heat(0), seen.heat(1)
    assert heat is not None and heat.tolist() == [[0.0, 0.25], [1.0, 0.5]]
    assert none is not None and none.max() == 0.0
    assert Seen(np.zeros(2, np.float32), None).heat(0) is None


def test_a_verdict_names_the_likeliest_class() -> None:
    found = verdict(("a", "b"), np.array([0.25, 0.75]))
    assert found == {"class": "b", "probability": 0.75, "probabilities": {"a": 0.25, "b": 0.75}}
