"""A row for every site, and means that a single client cannot bend beyond its share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.site_figures import MAX_FIGURES, Report, client_means, site_rows
from aggregator.strategy import MAX_METRICS
from fl_protocol.messages import metrics_table

BIG = Report(
    "b",
    300,
    {"train_loss": 0.2, "local_steps": 30, "eval_auroc": 0.9, "eval_examples": 60, "eval_patients": 20},
)
SMALL = Report("a", 100, {"train_loss": 0.6, "eval_auroc": 0.6, "eval_examples": 20, "eval_patients": 20})
SILENT = Report("c", 100, {"local_steps": 10})


def test_a_row_for_every_site_that_shares_figures() -> None:
    assert site_rows([BIG, SMALL, SILENT]) == {
        "a": {"auroc": 0.6, "examples": 20, "patients": 20},
        "b": {"auroc": 0.9, "examples": 60, "patients": 20},
    }
    assert list(site_rows([BIG, SMALL])) == ["a", "b"]


def test_figures_are_weighted_by_what_they_were_measured_on() -> None:
    means = client_means([BIG, SMALL, SILENT])
    assert means["train_loss"] == pytest.approx((300 * 0.2 + 100 * 0.6) / 400)
    assert means["eval_auroc"] == pytest.approx((60 * 0.9 + 20 * 0.6) / 80)
    assert (means["eval_examples"], means["eval_patients"]) == (80, 40)
    assert means["local_steps"] == pytest.approx((300 * 30 + 100 * 10) / 400)


def test_figures_of_an_earlier_model_are_not_of_this_one() -> None:
    stale = Report("b", 300, BIG.metrics, fresh=False)
    assert list(site_rows([stale, SMALL])) == ["a"]
    means = client_means([stale, SMALL])
    assert means["eval_auroc"] == 0.6
    assert means["train_loss"] == pytest.approx(0.3)


def test_a_client_weighs_at_most_what_it_declared() -> None:
    liar = Report("x", 10, {"eval_auroc": 0.0, "eval_examples": 1e300, "eval_patients": 1e300})
    means = client_means([BIG, liar])
    assert means["eval_auroc"] == pytest.approx(60 * 0.9 / 70)
    assert means["eval_examples"] == 70
    assert means["eval_patients"] == 30


def test_figures_without_a_count_weigh_as_their_examples() -> None:
    assert client_means([Report("a", 3, {"eval_rmse": 1.0}), Report("b", 1, {"eval_rmse": 5.0})]) == {
        "eval_rmse": 2.0
    }
    nobody = Report("a", 3, {"eval_auroc": 1.0, "eval_examples": 0})
    assert "eval_auroc" not in client_means([nobody])


def test_a_flood_of_names_leaves_room_for_what_most_tell() -> None:
    flood = Report("z", 10, {f"eval_0{i}": 1.0 for i in range(40)} | {f"0{i}": 1.0 for i in range(60)})
    means = client_means([BIG, SMALL, flood])
    assert len(means) <= MAX_METRICS
    assert {"train_loss", "eval_auroc", "eval_examples"} <= set(means)
    assert len(site_rows([flood])["z"]) == MAX_FIGURES
    assert not site_rows([Report("z", 1, {"eval_" + "n" * 90: 1.0})])


names = st.sampled_from(["eval_auroc", "eval_examples", "eval_patients", "eval_", "loss", "local_steps"])
reports = st.lists(
    st.builds(
        Report, st.text("abc", min_size=1, max_size=2), st.integers(1, 10**10),
        st.dictionaries(names, st.floats(allow_nan=True) | st.just(1e308)), st.booleans(),
    ),
    max_size=6,
)  # fmt: skip


@given(reports)
def test_whatever_clients_tell_the_means_can_be_told_on(told: list[Report]) -> None:
    means = client_means(told)
    assert metrics_table(means) == means
    assert all(math.isfinite(value) for row in site_rows(told).values() for value in row.values())


def test_how_long_a_client_took_is_no_metric_of_its_training() -> None:
    told = {"train_loss": 0.5, "fetch_s": 1.0, "train_s": 9.0, "upload_s": 2.0}
    assert client_means([Report("a", 10, told)]) == {"train_loss": 0.5}
