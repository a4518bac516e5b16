"""The best model and early stopping: a fold over records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.best import Best, Course, EarlyStop
from fl_protocol.errors import ConfigError
from tests.federations import record
from tests.payloads import digest_of

Metrics = dict[str, float] | None


def course(*metrics: Metrics, by: str | None = None, stop: EarlyStop | None = None) -> Course:
    return Course(by, stop, [record(n, metrics=each) for n, each in enumerate(metrics, 1)])


def at_sites(*values: float | None) -> list[dict[str, Any]]:
    """Records in which the sites scored the model that each round began with."""
    told = [{} if value is None else {"eval_auroc": value, "train_loss": 0.1} for value in values]
    return [record(n, client_metrics=each) for n, each in enumerate(told, 1)]


def best_round(found: Course) -> int | None:
    return found.best.round_number if found.best else None


@pytest.mark.parametrize(
    ("by", "name", "values", "best"),
    [
        (None, "auroc", [0.7, 0.9, 0.8], 2),
        (None, "auroc", [0.9, 0.9, 0.8], 1),
        (None, "loss", [0.7, 0.5, 0.6], 2),
        (None, "accuracy", [0.7, 0.5, 0.8], 3),
        ("brier", "brier", [0.3, 0.1, 0.2], 2),
        ("ece", "ece", [0.3, 0.1, 0.2], 2),
        ("mean_error", "mean_error", [0.3, 0.1, 0.2], 2),
        ("sensitivity", "sensitivity", [0.3, 0.1, 0.2], 1),
        ("sensitivity", "auroc", [0.3, 0.1, 0.2], None),
    ],
)
def test_the_best_is_the_first_with_the_best_value(
    by: str | None, name: str, values: list[float], best: int | None
) -> None:
    found = course(*({name: value} for value in values), by=by)
    assert best_round(found) == best
    if best:
        assert found.best == Best(name, values[best - 1], best, digest_of(f"model {best}"))


def test_auroc_comes_before_accuracy_before_loss() -> None:
    assert best_round(course({"auroc": 0.5, "accuracy": 0.9, "loss": 0.1}, {"auroc": 0.6, "accuracy": 0.8, "loss": 0.2})) == 2  # fmt: skip


def test_what_the_sites_measure_is_of_the_model_before_the_round() -> None:
    found = Course(None, None, at_sites(0.5, 0.9, 0.7))
    assert found.best == Best("client_eval_auroc", 0.9, 1, digest_of("model 1"))
    assert Course(None, None, at_sites(0.5)).best == Best("client_eval_auroc", 0.5, 0, digest_of("model 0"))
    assert Course(None, None, at_sites(None, None)).best is None


def test_a_loss_that_the_sites_measure_is_better_when_it_is_lower() -> None:
    told = [{"eval_loss": value} for value in (0.7, 0.4, 0.6)]
    lines = [record(n, client_metrics=each) for n, each in enumerate(told, 1)]
    assert Course(None, None, lines).best == Best("client_eval_loss", 0.4, 1, digest_of("model 1"))


def test_a_round_that_was_abandoned_is_no_news_and_made_no_model() -> None:
    lines = at_sites(0.5, 0.6, 0.7, 0.8)
    lines[2] |= {"outcome": "abandoned"}
    lines[3]["base_sha256"] = digest_of("model 2")
    assert Course(None, None, lines).best == Best("client_eval_auroc", 0.8, 2, digest_of("model 2"))
    lines[1] |= {"outcome": "abandoned"}
    assert Course(None, EarlyStop(1), lines[:3]).verdict == ""


def test_a_central_score_that_comes_later_decides_from_then_on() -> None:
    """The first evaluation failed: for one round there was nothing but the sites."""
    lines = at_sites(0.99, 0.2, 0.3)
    lines[1]["metrics"], lines[2]["metrics"] = {"auroc": 0.5}, {"auroc": 0.4}
    found = Course(None, None, lines)
    assert found.best == Best("auroc", 0.5, 2, digest_of("model 2"))


@pytest.mark.parametrize(
    ("stop", "values", "since"),
    [
        ("2", [0.5, 0.6, 0.6], 1),
        ("2", [0.5, 0.6, 0.6, 0.55], 2),
        ("2", [0.5, 0.4, 0.6, 0.5], 1),
        ("2:0.05", [0.5, 0.54, 0.58], 0),
        ("2:0.05", [0.5, 0.54, 0.549], 2),
        ("1", [0.5], 0),
    ],
)
def test_rounds_without_news_are_counted(stop: str, values: list[float], since: int) -> None:
    found = course(*({"auroc": value} for value in values), stop=EarlyStop.parse(stop, "--early-stop"))
    assert found.since == since
    assert bool(found.verdict) == (since >= int(stop[0]))


def test_a_round_without_a_score_does_not_count() -> None:
    assert course({"auroc": 0.5}, None, None, stop=EarlyStop(1)).since == 0


def test_the_verdict_is_for_people() -> None:
    found = course({"auroc": 0.9}, {"auroc": 0.8}, stop=EarlyStop(1, 0.01))
    assert found.verdict == "no better by more than 0.01 for 1 round (best: auroc 0.9 after round 1)"


@given(
    st.lists(
        st.one_of(
            st.none(), st.floats(0, 1).map(lambda v: {"auroc": v}), st.floats(0, 9).map(lambda v: {"loss": v})
        )
    )
)
def test_a_restart_anywhere_finds_the_same(metrics: list[Metrics]) -> None:
    """One fold over all records, or one that is told of them one by one: and what it says is new is the best."""
    lines = [record(n, metrics=each) for n, each in enumerate(metrics, 1)]
    going = Course(None, EarlyStop(2, 0.1))
    for at, line in enumerate(lines, 1):
        before, new = going.best, going.add(line)
        again = Course(None, EarlyStop(2, 0.1), lines[:at])
        assert (going.best, going.since, going.verdict) == (again.best, again.since, again.verdict)
        assert going.best == (new or before)
        assert new is None or new.digest == line["model_sha256"]


@pytest.mark.parametrize("text", ["3", "3:0.001", "1:0.5"])
def test_early_stop_is_read_as_it_is_written(text: str) -> None:
    assert str(EarlyStop.parse(text, "--early-stop")) == text


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "3:", "3:x", "3:-1", "3:nan", "2.5", "3:inf"])
def test_a_patience_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--early-stop .* is not PATIENCE or PATIENCE:MIN_DELTA"):
        EarlyStop.parse(text, "--early-stop")
