"""The gap's interval: patients are drawn, not images, and both models by the same draw."""

from __future__ import annotations

import numpy as np

from benchmarks.gap import gaps, told
from fl_tasks.metrics import patient_draws

LABELS = np.array([0, 0, 0, 1, 1, 1] * 20)
PATIENTS = np.array([f"p{index // 2}" for index in range(len(LABELS))])
GOOD = LABELS + np.random.default_rng(0).normal(0, 0.8, len(LABELS))
WORSE = LABELS + np.random.default_rng(1).normal(0, 6.0, len(LABELS))


def drawn(resamples: int) -> np.ndarray:
    return np.stack(list(patient_draws(PATIENTS, resamples=resamples)))


def test_images_of_a_patient_are_drawn_together() -> None:
    draws = drawn(50)
    assert draws.shape == (50, len(LABELS))
    assert np.array_equal(draws[:, 0::2], draws[:, 1::2])
    assert (draws.sum(axis=1) == len(LABELS)).all()
    assert draws.std() > 0


def test_a_model_beside_itself_has_no_gap_in_any_draw() -> None:
    assert not gaps((GOOD, GOOD.copy()), LABELS, drawn(20)).any()


def test_the_interval_lies_around_the_gap_and_has_its_sign() -> None:
    plain = gaps((GOOD, WORSE), LABELS, np.ones((1, len(LABELS))))[0]
    row = told("a", plain, gaps((GOOD, WORSE), LABELS, drawn(300)))
    assert 0 < float(str(row["low"])) < plain < float(str(row["high"]))
