"""The three ways side by side: who trains on what, the table, the page. tests/e2e/test_simulation.py runs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.best import EarlyStop
from aggregator.cohort import Sampling, Share
from aggregator.strategies.registry import get_strategy
from fl_protocol.errors import ConfigError
from fl_sim.compare_report import render, write_report
from fl_sim.compare_table import lines
from fl_sim.comparison import CENTRALISED, FEDERATED, LOCAL, Comparison, Result, settings_for, ways_of
from fl_sim.profiles import Dropout, Profile
from fl_sim.settings import SimSettings
from fl_sim.simulation import Clients
from fl_tasks.jobs import DataOptions
from tests.federations import rule


def result(kind: str, title: str, *aurocs: float, **sites: float) -> Result:
    curve = tuple({"auroc": value, "accuracy": value - 0.1, "loss": 1 - value} for value in aurocs)
    return Result(
        kind, title, curve, {name: {"auroc": value} for name, value in sites.items()}, "0" * 64, 1.0
    )


COMPARISON = Comparison(
    ("north", "south"),
    (100, 40),
    (
        result(FEDERATED, "all sites", 0.7, 0.9, north=0.91),
        result(CENTRALISED, "in one place", 0.8, 0.92, north=0.93, south=0.8),
        result(LOCAL, "north", 0.6, 0.85, north=0.95, south=0.6),
        result(LOCAL, "south", 0.5, 0.65, north=0.6, south=0.9),
    ),
)


def test_the_gaps_are_told_from_the_last_round() -> None:
    gaps = COMPARISON.gaps()
    assert gaps["over_centralised"] == pytest.approx(-0.02)
    assert gaps["over_mean_local"] == pytest.approx(0.15)
    assert gaps["over_best_local"] == pytest.approx(0.05)
    assert COMPARISON.as_json()["gaps"] == gaps


def test_without_an_auroc_everywhere_accuracy_is_the_measure() -> None:
    bare = Result(LOCAL, "east", ({"accuracy": 0.4, "loss": 2.0},), {}, "0" * 64, 1.0)
    mixed = Comparison(("north",), (1,), (*COMPARISON.results[:2], bare))
    assert mixed.measure == "accuracy"
    assert mixed.gaps()["over_best_local"] == pytest.approx(0.8 - 0.4)


def test_the_table_has_a_row_a_way_and_a_column_a_site() -> None:
    told = lines(COMPARISON)
    assert told[0].split() == [
        "pooled",
        "auroc",
        "pooled",
        "accuracy",
        "pooled",
        "loss",
        "auroc",
        "at",
        "north",
        "auroc",
        "at",
        "south",
    ]
    assert [line.split("  ")[0] for line in told[1:5]] == [
        "local: north", "local: south", "federated", "centralised"
    ]  # fmt: skip
    assert told[3].split()[1:] == ["0.9000", "0.8000", "0.1000", "0.9100", "–"]
    assert "the federated model is 0.0200 auroc below the centralised model." in told[6]
    assert "0.1500 auroc above the mean of the local models." in told[7]


def test_the_page_shows_table_curve_and_gap_and_escapes(tmp_path: Path) -> None:
    hostile = Comparison(("<b>north", "south"), COMPARISON.examples, COMPARISON.results)
    settings: dict[str, Any] = {"data": {"value": "<script>", "source": "option"}, "odd": 3}
    page = write_report(tmp_path, hostile, settings).read_text()
    assert "0.0200 auroc below the centralised model" in page
    assert page.count("<tr class=") == 4
    assert "<svg" in page and "c-gap" in page
    assert "<script>" not in page and "<b>north" not in page
    assert "Synthetic phantoms" not in page
    assert "Synthetic phantoms" in render(COMPARISON, "x", {"synthetic": {"value": True, "source": ""}})


def clients() -> Clients:
    options = DataOptions("chest-xray", "d", 32, "c", shards=3, resident=True)
    return Clients(("a", "b", "c"), (10, 0, 5), tuple(options.of_shard(k) for k in (1, 2, 3)))


def test_every_site_that_can_train_does_so_alone_as_well() -> None:
    ways = ways_of(clients())
    assert [(way.kind, way.clients.names) for way in ways] == [
        (FEDERATED, ("a", "b", "c")), (CENTRALISED, ("everybody",)), (LOCAL, ("a",)), (LOCAL, ("c",)),
    ]  # fmt: skip
    assert [way.clients.options[0].shard for way in ways] == [1, 0, 1, 3]
    assert ways[1].clients.examples == (15,)


def test_one_client_alone_is_a_whole_federation_of_the_same_budget(tmp_path: Path) -> None:
    config = rule(min_clients=3, cohort=Share(count=3), quorum=Share(count=3))
    profile = Profile((1.0,) * 3, dropout=Dropout(0.5))
    settings = SimSettings(tmp_path, config, get_strategy("fedavg"), 3, "d", "iid", profile)
    for way in ways_of(clients()):
        own = settings_for(way, settings)
        assert (own.config.rounds, own.config.plan, own.config.seed) == (
            config.rounds,
            config.plan,
            config.seed,
        )
        assert own.options.cache == str(tmp_path / "cache")
        if way.kind != FEDERATED:
            assert (own.config.min_clients, own.config.cohort.of(1), own.config.quorum.of(1)) == (1, 1, 1)
            assert own.profile.dropout.chance == 0.0
    folders = [settings_for(way, settings).out.relative_to(tmp_path).as_posix() for way in ways_of(clients())]
    assert folders == ["federated", "centralised", "local/a", "local/c"]


def test_of_local_steps_one_place_takes_as_many_as_all_sites_that_train(tmp_path: Path) -> None:
    config = rule(eval_cohort=Share(count=1), sampling=Sampling("by-size"), early_stop=EarlyStop(2))
    config = replace(config, plan=replace(config.plan, local_steps=7))
    settings = SimSettings(tmp_path, config, get_strategy("fedavg"), 3, "d", "iid", Profile((1.0,) * 3))
    own = [settings_for(way, settings).config for way in ways_of(clients())]
    assert [each.plan.local_steps for each in own] == [7, 14, 7, 7]
    assert [each.eval_cohort for each in own] == [Share(count=1), None, None, None]
    assert [each.early_stop for each in own] == [EarlyStop(2)] * 4, "each by its own course"


def test_nothing_to_score_on_is_a_mistake(tmp_path: Path) -> None:
    from fl_sim.comparison import compare

    settings = SimSettings(tmp_path, rule(), get_strategy("fedavg"), 3, "d", "iid", Profile((1.0,) * 3))
    with pytest.raises(ConfigError, match="nothing to score on"):
        compare(settings, None, None)  # type: ignore[arg-type]
