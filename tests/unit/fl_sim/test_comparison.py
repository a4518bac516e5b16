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
from fl_sim import comparison
from fl_sim.compare_report import render, write_report
from fl_sim.compare_table import lines
from fl_sim.comparison import CENTRALISED, FEDERATED, LOCAL, Comparison, Result, settings_for, ways_of
from fl_sim.profiles import Dropout, Profile
from fl_sim.settings import SimSettings, Simulated
from fl_sim.simulation import Clients
from fl_tasks import jobs
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


def test_of_the_strategy_nothing_is_left_where_one_trains_alone(tmp_path: Path) -> None:
    plain = rule().plan
    plan = replace(plain, proximal_mu=0.3, control_variates=True, local_norms=True)
    config = rule(plan=plan, max_staleness=4, sampling=Sampling("by-size"))
    profile = Profile((20.0,) * 3, pace_s=9.0, dropout=Dropout(0.5))
    settings = SimSettings(tmp_path, config, get_strategy("scaffold"), 3, "d", "iid", profile)
    federated, *others = [settings_for(way, settings) for way in ways_of(clients())]
    assert (federated.config, federated.strategy.name, federated.profile) == (config, "scaffold", profile)
    for own in others:
        assert own.config.plan == plain
        assert (own.config.max_staleness, own.config.sampling) == (0, Sampling())
        assert (own.strategy.name, own.profile) == ("fedavg", Profile((1.0,)))


class Scores:
    """An engine that has nothing to do but score, and notes with what each site is asked to."""

    def __init__(self) -> None:
        self.asked: dict[Any, jobs.Score] = {}

    def begin(self, key: Any, request: jobs.Score) -> None:
        self.asked[key] = request

    def result(self, key: Any) -> jobs.Scored:
        return jobs.Scored(2, {"eval_auroc": 0.5 + key[1] / 10, "eval_examples": 3.0})


@pytest.mark.parametrize("norms", [True, False])
def test_the_last_model_is_scored_at_every_site_with_what_it_kept_of_the_last_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, norms: bool
) -> None:
    plan = replace(rule().plan, local_norms=norms)
    settings = SimSettings(
        tmp_path, rule(plan=plan), get_strategy("fedbn"), 3, "d", "iid", Profile((1.0,) * 3)
    )
    kept = tmp_path / FEDERATED / "kept" / "c"
    kept.mkdir(parents=True)
    for number in (1, 2):
        (kept / f"{number:09d}.safetensors").touch()
    metrics: list[dict[str, Any]] = [
        {"outcome": "closed", "metrics": {"auroc": 0.6}},
        {"outcome": "abandoned", "metrics": {"auroc": 0.1}},
        {"outcome": "closed_short", "metrics": None},
    ]
    done = Simulated(2, 6, 1.5, 9.0, None, "ab", tmp_path, None, tuple(metrics))  # type: ignore[arg-type]
    monkeypatch.setattr(comparison, "run", lambda *_: done)
    engine = Scores()
    way = ways_of(clients())[0]
    found = comparison._run(way, settings, clients(), engine, comparison.Silent())  # type: ignore[arg-type]
    assert found.curve == ({"auroc": 0.6}, {}), "no model came of the round that was abandoned"
    assert found.sites == {"a": {"auroc": 0.5, "examples": 3.0}, "c": {"auroc": 0.7, "examples": 3.0}}
    asked = {key[1]: request for key, request in engine.asked.items()}
    assert {index: request.kept for index, request in asked.items()} == {
        0: "", 2: str(kept / "000000002.safetensors") if norms else ""
    }  # fmt: skip
    assert {request.options.shard for request in asked.values()} == {1, 3}


def test_nothing_to_score_on_is_a_mistake(tmp_path: Path) -> None:
    from fl_sim.comparison import compare

    settings = SimSettings(tmp_path, rule(), get_strategy("fedavg"), 3, "d", "iid", Profile((1.0,) * 3))
    with pytest.raises(ConfigError, match="nothing to score on"):
        compare(settings, None, None)  # type: ignore[arg-type]
