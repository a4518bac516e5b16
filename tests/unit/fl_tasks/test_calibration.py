from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from fl_protocol.errors import DataError
from fl_tasks import calibration as cal


def drawn(
    seed: int, classes: int = 2, images: int = 300, temperature: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, which are then said at another temperature."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet(np.full(classes, 0.8), images)
    labels = np.array([rng.choice(classes, p=row) for row in true])
    return labels, cal.scaled(true, temperature)


def test_bins_are_scikit_learns() -> None:
    labels, probabilities = drawn(1)
    right = (probabilities.argmax(axis=1) == labels).astype(int)
    held, said = calibration_curve(right, probabilities.max(axis=1), n_bins=cal.BINS)
    rows = cal.reliability(labels, probabilities)
    assert [row[0] for row in rows] == pytest.approx(said.tolist())
    assert [row[1] for row in rows] == pytest.approx(held.tolist())
    assert sum(row[2] for row in rows) == len(labels)


@pytest.mark.parametrize("bins", [5, 10, cal.BINS])
def test_a_probability_on_an_edge_is_in_the_lower_bin_as_in_scikit_learn(bins: int) -> None:
    said = np.concatenate([np.linspace(0, 1, bins + 1), np.linspace(0, 1, bins + 1) - 1e-3])
    said = said[said > 0.5]
    right = np.arange(len(said)) % 3 != 0
    held, mean = calibration_curve(right, said, n_bins=bins)
    rows = cal.reliability(right.astype(int), np.stack([1 - said, said], axis=1), bins)
    assert [row[:2] for row in rows] == [pytest.approx(pair) for pair in zip(mean, held, strict=True)]
    ((sure, *rest),) = cal.reliability(np.array([1, 1]), np.array([[0.0, 1.0], [0.02, 0.98]]), bins)
    assert sure == pytest.approx(0.99) and rest == [1.0, 2], "a certain answer is in the last bin"


@pytest.mark.parametrize("classes", [2, 5])
def test_the_brier_score_is_scikit_learns(classes: int) -> None:
    labels, probabilities = drawn(2, classes)
    if classes == 2:
        expected = brier_score_loss(labels, probabilities[:, 1])
    else:
        expected = ((probabilities - np.eye(classes)[labels]) ** 2).sum(axis=1).mean()
    assert cal.brier(labels, probabilities) == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "seed"), [(2, 3), (2, 4), (5, 5)])
@pytest.mark.parametrize("wrong", [0.4, 1.0, 2.5])
def test_the_temperature_is_where_scipy_finds_the_likeliest(classes: int, seed: int, wrong: float) -> None:
    labels, probabilities = drawn(seed, classes, 600, wrong)

    def cost(log_t: float) -> float:
        loss = log_loss(labels, cal.scaled(probabilities, math.exp(log_t)), labels=list(range(classes)))
        return float(len(labels) * loss + log_t**2 / (2 * cal.PRIOR**2))

    best = minimize_scalar(cost, bounds=(-2.3, 2.3), method="bounded", options={"xatol": 1e-6}).x
    found = cal.log_temperature(labels, probabilities)
    assert found == pytest.approx(best, abs=1e-3)
    assert math.exp(found) == pytest.approx(1 / wrong, rel=0.2)


def test_cooling_mends_calibration_and_changes_no_order() -> None:
    labels, probabilities = drawn(6, 2, 1000, 0.3)
    mended = cal.scaled(probabilities, math.exp(cal.log_temperature(labels, probabilities)))
    assert cal.calibration_error(labels, mended) < 0.5 * cal.calibration_error(labels, probabilities)
    assert cal.brier(labels, mended) < cal.brier(labels, probabilities)
    assert np.array_equal(mended[:, 1].argsort(kind="stable"), probabilities[:, 1].argsort(kind="stable"))


@given(st.integers(2, 6), st.floats(cal.COLDEST, cal.HOTTEST), st.integers(0, 99))
def test_scaled_probabilities_are_probabilities(classes: int, temperature: float, seed: int) -> None:
    _, probabilities = drawn(seed, classes, 20)
    probabilities[0] = np.eye(classes)[0]
    found = cal.scaled(probabilities, temperature)
    assert np.isfinite(found).all() and found.sum(axis=1) == pytest.approx(np.ones(20))
    assert np.array_equal(found.argmax(axis=1), probabilities.argmax(axis=1))
    assert cal.scaled(probabilities, 1.0) is probabilities


def test_few_images_move_little_and_certain_ones_stay_in_bounds() -> None:
    sure = np.tile([0.02, 0.98], (1, 1))
    assert abs(cal.log_temperature(np.array([1]), sure)) < 0.1
    never = np.tile([1.0, 0.0], (500, 1))
    found = cal.log_temperature(np.ones(500, int), never)
    assert math.log(cal.COLDEST) <= found <= math.log(cal.HOTTEST)


@pytest.mark.parametrize("said", ["nan", "inf", "0", "-1", "hot", "1e9", ""])
def test_a_temperature_that_cannot_be_is_refused(said: str) -> None:
    with pytest.raises(DataError, match="which cannot be"):
        cal.temperature_of({"temperature": said})
    assert cal.temperature_of({}) == 1.0
    for possible in (cal.COLDEST, 1.7, cal.HOTTEST):
        assert cal.temperature_of({"temperature": f"{possible:.4f}"}) == possible
