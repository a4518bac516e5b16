"""The light task tells every mistake apart, and writes down what it trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fl_protocol.errors import ConfigError
from fl_protocol.messages import DataSummary, Plan
from fl_sim import light_task
from fl_tasks.base import Cancelled, Dataset, Model, Watch
from fl_tasks.jobs import DataOptions
from fl_tasks.registry import get_task

PLAN = Plan(1, 8, 0.1, seed=3)


def task() -> light_task.Light:
    found = get_task(light_task.NAME)
    assert isinstance(found, light_task.Light)
    return found


def model(seed: int = 0, round_number: int = 0) -> Model:
    first = task().initialise("kb-4", 96, seed, None)
    return replace(first, metadata={**first.metadata, "round": str(round_number)})


def dataset(shard: int) -> Dataset:
    return task().prepare(DataOptions("light", None, 96, "", shard=shard, shards=3), Watch())


def trained(base: Model, plan: Plan, shard: int) -> bytes:
    delta = task().train(base, plan, dataset(shard), Watch()).delta
    return b"".join(delta[name].tobytes() for name in sorted(delta))


def test_a_model_is_as_large_as_its_name_says() -> None:
    params = model().params
    assert sum(params[name].nbytes for name in params) == 4000
    for wrong in ("kb-0", "kb-", "mb-1", "kb-x"):
        with pytest.raises(ConfigError, match="kb-N"):
            light_task.layout(wrong)


def test_an_update_depends_on_all_that_could_be_mistaken() -> None:
    plain = trained(model(), PLAN, 1)
    assert plain == trained(model(), PLAN, 1)
    others = [
        trained(model(1), PLAN, 1),
        trained(model(), replace(PLAN, seed=4), 1),
        trained(model(), PLAN, 2),
    ]
    assert len({plain, *others}) == 4


def test_values_are_finite_and_do_not_grow() -> None:
    params, base = {}, model()
    for round_number in range(200):
        update = task().train(base, replace(PLAN, seed=round_number), dataset(1), Watch())
        params = {name: base.params[name] + update.delta[name] for name in base.params}
        base = replace(base, params=params)
    assert all(np.abs(values).max() < 20 for values in params.values())


def test_trainings_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(light_task.NOTES, str(tmp_path / "notes"))
    trained(model(round_number=4), PLAN, 2)
    trained(model(round_number=5), PLAN, 1)
    noted = [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]
    assert [(line["shard"], line["round"]) for line in noted] == [(2, 5), (1, 6)]


def test_training_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(light_task.PAUSE, "60")
    monkeypatch.setenv(light_task.NOTES, str(tmp_path / "notes"))
    with pytest.raises(Cancelled):
        task().train(model(), PLAN, dataset(1), Watch(cancelled=lambda: True))
    assert not (tmp_path / "notes").exists()


def test_summary_and_examples_differ_by_shard() -> None:
    assert dataset(2) == Dataset(DataSummary(12, 12, 12, 0), 12, content=(2, 3))


def test_shards_take_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(light_task.PAUSE, "0.4")
    assert [light_task.pause_s(shard, 3) for shard in (1, 2, 3)] == pytest.approx([0.2, 0.4, 0.6])
