from __future__ import annotations

import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from fl_tasks import calibration, metrics

labelled = st.integers(2, 40).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.int64, n, elements=st.integers(0, 1)),
        hnp.arrays(np.float64, n, elements=st.sampled_from([0.1, 0.2, 0.5, 0.9])),
    )
)


def pairwise_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[labels == 1] for n in scores[labels == 0]]
    return float(np.mean(pairs)) if pairs else math.nan


@given(labelled)
def test_auroc_counts_pairs(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    expected = pairwise_auroc(labels, scores)
    assert metrics.auroc(labels, scores) == pytest.approx(expected, nan_ok=True)
    assert metrics.weighted_auroc(labels, scores, np.ones(len(labels))) == pytest.approx(
        expected, nan_ok=True
    )


@given(labelled, st.data())
def test_weights_are_repetitions(case: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    labels, scores = case
    times = data.draw(
        hnp.arrays(np.int64, len(labels), elements=st.integers(0, 3)).filter(lambda t: t.sum() > 0)
    )
    repeated = metrics.auroc(np.repeat(labels, times), np.repeat(scores, times))
    assert metrics.weighted_auroc(labels, scores, times.astype(float)) == pytest.approx(repeated, nan_ok=True)


@given(labelled)
def test_the_area_under_the_roc_is_the_auroc(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = case
    fpr, tpr, _ = metrics.roc(labels, scores)
    assert (fpr[0], tpr[0]) == (0.0, 0.0)
    area = float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))
    expected = metrics.auroc(labels, scores)
    if not math.isnan(expected):
        assert (fpr[-1], tpr[-1]) == (1.0, 1.0)
        assert area == pytest.approx(expected)


def test_the_interval_holds_the_value_and_narrows_with_patients() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    scores = labels + rng.normal(0, 1, 400)
    alone = metrics.auroc_interval(labels, scores, np.arange(400))
    grouped = metrics.auroc_interval(labels, scores, np.arange(400) // 20)
    value = metrics.auroc(labels, scores)
    assert alone[0] < value < alone[1]
    assert alone[1] - alone[0] == pytest.approx(4 * 0.023, rel=0.25)  # about four Hanley-McNeil errors
    assert grouped == metrics.auroc_interval(labels, scores, np.arange(400) // 20)
    assert grouped != alone


@pytest.mark.parametrize(("positive", "interval"), [(1, (0.0, 0.75)), (0, (0.25, 1.0))])
def test_the_interval_is_that_of_every_draw_there_is(positive: int, interval: tuple[float, float]) -> None:
    """Four patients of one to three images can be drawn in 256 ways: the quantiles of them all, one by one."""
    labels = np.array([1, 0, 0, 1, 0, 1, 0]) == positive
    scores = np.array([0.5, 0.8, 0.2, 0.1, 0.4, 0.2, 0.1])
    patients = np.array(list("abbcddd"))
    drawn = [
        np.concatenate([np.flatnonzero(patients == name) for name in names])
        for names in product("abcd", repeat=4)
    ]
    areas = [roc_auc_score(labels[rows], scores[rows]) for rows in drawn if len(set(labels[rows])) == 2]
    assert tuple(np.percentile(areas, [2.5, 97.5])) == interval
    assert metrics.auroc_interval(labels.astype(int), scores, patients) == interval


def test_every_patient_is_drawn_as_often_as_any_other_with_all_of_its_images() -> None:
    patients = np.array(list("abbcddd"))
    drawn = np.array(list(metrics.patient_draws(patients)))
    assert drawn.shape == (metrics.RESAMPLES, 7)
    of_patients = drawn[:, [0, 1, 3, 4]]
    assert np.array_equal(drawn, of_patients[:, [0, 1, 1, 2, 3, 3, 3]])
    assert (of_patients.sum(axis=1) == 4).all() and of_patients.max() == 4
    assert of_patients.mean(axis=0) == pytest.approx([1.0] * 4, abs=0.12)  # four deviations of 0.027
    assert np.array_equal(drawn, list(metrics.patient_draws(patients)))
    assert not np.array_equal(drawn, list(metrics.patient_draws(patients, seed=1)))


def test_one_class_has_no_area() -> None:
    labels, scores = np.ones(3, np.int64), np.array([0.1, 0.2, 0.3])
    assert math.isnan(metrics.auroc(labels, scores))
    assert all(
        math.isnan(value) for value in metrics.auroc_interval(labels, scores, np.arange(3), resamples=5)
    )
    both = np.stack([1 - scores, scores], axis=1)
    assert "auroc" not in metrics.summary(labels, both)
    shown = metrics.report(labels, both, np.arange(3), ["NORMAL", "PNEUMONIA"])
    assert shown["auroc_interval"] is None
    json.dumps(shown, allow_nan=False)


def test_sensitivity_at_a_specificity_is_reached_by_its_threshold() -> None:
    labels = np.array([0] * 10 + [1] * 10)
    scores = np.concatenate([np.linspace(0, 0.45, 10), np.linspace(0.3, 1.0, 10)])
    sensitivity, threshold = metrics.sensitivity_at(labels, scores, 0.9)
    said = scores >= threshold
    assert said[labels == 1].mean() == pytest.approx(sensitivity)
    assert sensitivity == 0.8
    assert 1 - said[labels == 0].mean() >= 0.9
    found = metrics.sensitivity_at(np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.8, 0.7, 0.2, 0.1]), 0.5)
    assert found == (1.0, 0.8), "of thresholds that find as many, the one with the fewest false alarms"


def test_confusion_loss_and_accuracy() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.0, 1.0]])
    assert metrics.confusion(labels, probabilities.argmax(axis=1), 2) == [[1, 1], [0, 2]]
    found = metrics.summary(labels, probabilities)
    assert found["accuracy"] == 0.75
    assert found["loss"] == pytest.approx(-np.mean(np.log([0.9, 0.4, 0.8, 1.0])))
    assert found["auroc"] == 1.0


def test_a_certain_error_has_a_finite_loss() -> None:
    assert math.isfinite(metrics.cross_entropy(np.array([1]), np.array([[1.0, 0.0]])))


def test_the_report_is_json_with_a_thin_curve() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 1000)
    scores = np.clip(0.3 * labels + rng.random(1000) * 0.7, 0, 1)
    shown = metrics.report(
        labels, np.stack([1 - scores, scores], 1), np.arange(1000) // 2, ["NORMAL", "PNEUMONIA"]
    )
    shown = json.loads(json.dumps(shown, allow_nan=False))
    assert (shown["images"], shown["patients"]) == (1000, 500)
    assert len(shown["roc"]) == metrics.MAX_ROC_POINTS
    assert (shown["roc"][0], shown["roc"][-1]) == ([0.0, 0.0], [1.0, 1.0])
    assert sum(map(sum, shown["confusion"])) == 1000


def test_calibration_error_is_the_gap_between_saying_and_being_right() -> None:
    sure = np.tile([0.1, 0.9], (10, 1))
    assert calibration.calibration_error(np.ones(10, int), sure) == pytest.approx(0.1)
    assert calibration.calibration_error(np.array([1] * 9 + [0]), sure) == pytest.approx(0.0)
    # Two bins, each weighed by how many are in it: 4 of 10 said 0.6 and never right, 6 said 0.9 and always.
    mixed = np.array([[0.4, 0.6]] * 4 + [[0.1, 0.9]] * 6)
    labels = np.array([0] * 4 + [1] * 6)
    assert calibration.calibration_error(labels, mixed) == pytest.approx(0.4 * 0.6 + 0.6 * 0.1)
    assert calibration.calibration_error(np.zeros(3, int), np.tile([1.0, 0.0, 0.0], (3, 1))) == 0.0


def test_what_a_site_measures() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    scores = np.array([0.2, 0.6, 0.1, 0.3, 0.9, 0.4, 0.3])
    found = metrics.at_a_site(labels, np.stack([1 - scores, scores], axis=1))
    assert [found["sensitivity"], found["specificity"]] == pytest.approx([1 / 3, 3 / 4])
    one_class = metrics.at_a_site(np.ones(2, int), np.array([[0.5, 0.5], [0.1, 0.9]]))
    assert set(one_class) == {"ece", "log_temperature"}, "no sensitivity without both classes"
    assert set(metrics.at_a_site(np.array([0, 2]), np.full((2, 3), 1 / 3))) == {"ece", "log_temperature"}


def test_several_classes_are_held_against_the_rest_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 300)
    probabilities = rng.dirichlet(np.ones(4), 300)
    probabilities[np.arange(300), labels] += 0.2
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert metrics.macro_auroc(labels, probabilities) == pytest.approx(expected)
    assert metrics.summary(labels, probabilities)["auroc"] == pytest.approx(expected)
    few = labels < 2  # two classes occur: the others say nothing
    only = [roc_auc_score(labels[few] == k, probabilities[few, k]) for k in (0, 1)]
    assert metrics.macro_auroc(labels[few], probabilities[few]) == pytest.approx(np.mean(only))
    assert math.isnan(metrics.macro_auroc(labels[labels == 2], probabilities[labels == 2]))
    shown = json.loads(
        json.dumps(metrics.report(labels, probabilities, labels, list("abcd")), allow_nan=False)
    )
    assert np.array(shown["confusion"]).shape == (4, 4) and "roc" not in shown


ties = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])


@given(st.lists(st.tuples(st.integers(0, 1), ties), min_size=2, max_size=60))
def test_precision_over_recall_is_scikit_learns(rows: list[tuple[int, float]]) -> None:
    labels, scores = np.array([label for label, _ in rows]), np.array([score for _, score in rows])
    found = metrics.average_precision(labels, scores)
    if labels.any():
        assert found == pytest.approx(average_precision_score(labels, scores))
    else:
        assert math.isnan(found)


@given(
    st.lists(st.tuples(st.integers(0, 1), ties), min_size=2, max_size=60),
    st.sampled_from([0.5, 0.9, 0.95, 1.0]),
)
def test_operating_points_are_those_of_scikit_learns_curve(
    rows: list[tuple[int, float]], least: float
) -> None:
    labels, scores = np.array([label for label, _ in rows]), np.array([score for _, score in rows])
    if len(set(labels.tolist())) < 2:
        return
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert metrics.sensitivity_at(labels, scores, least)[0] == pytest.approx(
        tpr[fpr <= 1 - least + 1e-9].max()
    )
    assert metrics.specificity_at(labels, scores, least) == pytest.approx(1 - fpr[tpr >= least - 1e-9].min())


def test_the_report_shows_calibration_before_and_after() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 400)
    truth = np.where(labels == 1, 0.7, 0.3) + rng.normal(0, 0.05, 400)
    sure = calibration.scaled(np.stack([1 - truth, truth], 1), 0.2)
    shown = metrics.report(labels, sure, np.arange(400), ["a", "b"], 5.0)
    assert shown["temperature"] == 5.0
    assert shown["brier"][1] != shown["brier"][0] == pytest.approx(brier_score_loss(labels, sure[:, 1]))
    assert (
        sum(row[2] for row in shown["reliability"][0])
        == sum(row[2] for row in shown["reliability"][1])
        == 400
    )
    assert shown["auprc"] == pytest.approx(average_precision_score(labels, sure[:, 1]))
    one = metrics.report(np.ones(4, int), sure[:4], np.arange(4), ["a", "b"])
    assert one["auprc"] is one["specificity_at_95_sensitivity"] is None
    json.dumps(one, allow_nan=False)


def test_calibration_in_the_report_is_as_the_model_is_and_then_as_it_is_cooled() -> None:
    """By hand: four images said at 0.9, three of them rightly. At temperature 2 odds of 9 are 3, which is 0.75."""
    scores = np.array([0.9, 0.9, 0.9, 0.1])
    shown = metrics.report(
        np.array([1, 1, 0, 0]), np.stack([1 - scores, scores], axis=1), np.arange(4), ["a", "b"], 2.0
    )
    assert shown["ece"] == pytest.approx([0.15, 0.0])
    assert shown["brier"] == pytest.approx([(3 * 0.01 + 0.81) / 4, (3 * 0.0625 + 0.5625) / 4])
    (plain,), (cooled,) = shown["reliability"]
    assert plain == pytest.approx([0.9, 0.75, 4]) and cooled == pytest.approx([0.75, 0.75, 4])


def test_each_figure_of_the_report_is_what_its_name_says() -> None:
    """20 without, of whom two look ill, and 4 with: one alarm of 20 finds 3 of the 4, two find all."""
    labels = np.array([0] * 20 + [1] * 4)
    scores = np.array([*np.linspace(0.01, 0.18, 18), 0.6, 0.8, 0.5, 0.7, 0.9, 0.95])
    patients = np.arange(24) // 2
    shown = metrics.report(labels, np.stack([1 - scores, scores], axis=1), patients, ["a", "b"])
    assert shown["sensitivity_at_90_specificity"] == 1.0 and shown["threshold"] == 0.5
    assert shown["sensitivity_at_95_specificity"] == 0.75
    assert shown["specificity_at_95_sensitivity"] == pytest.approx(0.9)
    assert shown["auprc"] == pytest.approx(average_precision_score(labels, scores))
    assert shown["auroc_interval"] == list(metrics.auroc_interval(labels, scores, patients))
    assert shown["auroc_interval"] != list(metrics.auroc_interval(labels, scores, np.arange(24)))
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert shown["roc"] == np.stack([fpr, tpr], axis=1).tolist()
    assert shown["confusion"] == [[18, 2], [1, 3]], "a probability of one half is the first class's"
