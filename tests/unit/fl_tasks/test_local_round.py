"""Rounds of SCAFFOLD and FedBN, from files to files, against the algorithms written down in numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fl_protocol.errors import DataError
from fl_protocol.messages import DataSummary, Plan
from fl_protocol.modelfile import read_header
from fl_protocol.tensors import MAX_CHUNK_BYTES
from fl_tasks import local_round
from fl_tasks.base import Dataset, Diverged, Kept, Model, Update, Watch
from fl_tasks.local_round import Done, Given
from fl_tasks.params import Params, file_params, joined, write_params
from tests.unit.fl_tasks.linear_task import CLASSES, LinearTask, dataset

Arrays = dict[str, np.ndarray]
STEPS, RATE, SITES = 7, 0.3, 3
PLAN = Plan(
    local_epochs=1, batch_size=99, learning_rate=RATE, seed=5, local_steps=STEPS, momentum=0.0
)  # every batch is the whole site: no chance
SCAFFOLD = replace(PLAN, control_variates=True)
FEDBN = replace(PLAN, local_norms=True)


class Federation:
    """Sites on disk, and an aggregator of four lines: the plain mean of all, of control variates as of deltas."""

    def __init__(self, folder: Path, plan: Plan, model: str) -> None:
        self.folder, self.plan, self.task = folder, plan, LinearTask()
        self.data = [dataset(seed) for seed in range(SITES)]
        first = self.task.initialise(model, 0, 1, None)
        self.known = dict(first.metadata)
        self.x: Arrays = {name: values.copy() for name, values in first.params.items()}
        self.c: Arrays = {name: np.zeros_like(values) for name, values in self.x.items()}
        self.rounds = 0

    def kept(self, site: int) -> Path:
        return self.folder / f"kept-{site}"

    def train(self, site: int) -> tuple[Arrays, Done]:
        """One site's update of the round, as arrays."""
        model, out = self.folder / "model", self.folder / f"update-{site}"
        control = {"control": self.c} if self.plan.control_variates else {}
        write_params(model, joined(_=self.x, **control), self.known)
        kept = self.kept(site) if self.kept(site).exists() else None
        given = Given(model, kept, self.known)
        new = self.folder / f"new-{site}"
        done = local_round.train(self.task, self.data[site], self.plan, given, Watch(), out=out, kept_out=new)
        return load_file(out), done

    def accept(self, site: int) -> None:
        (self.folder / f"new-{site}").replace(self.kept(site))

    def round(self) -> None:
        updates = [self.train(site)[0] for site in range(SITES)]
        for name in self.x:
            self.x[name] = self.x[name] + np.mean([update[name] for update in updates], axis=0)
            if self.plan.control_variates:
                self.c[name] = self.c[name] + np.mean(
                    [update[f"control/{name}"] for update in updates], axis=0
                )
        for site in range(SITES):
            self.accept(site)
        self.rounds += 1


def gradient(data: Dataset, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean cross-entropy of softmax regression."""
    rows, labels = data.content.train.images.astype(np.float64), data.content.train.labels
    scores = rows @ weight.T + bias
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    wrong = (chances - np.eye(CLASSES)[labels]) / len(labels)
    return wrong.T @ rows, wrong.sum(axis=0)


def reference(federation: Federation, rounds: int) -> tuple[Arrays, Arrays, list[Arrays]]:
    """x, c and all c_i after rounds of Algorithm 1 with option II, everybody in, global step size 1."""
    x = {name: values.astype(np.float64) for name, values in federation.x.items()}
    c = {name: np.zeros_like(values) for name, values in x.items()}
    own = [dict(c) for _ in range(SITES)]
    for _ in range(rounds):
        moved, grown = [], []
        for i, data in enumerate(federation.data):
            y = dict(x)
            for _ in range(STEPS):
                g = dict(zip(("weight", "bias"), gradient(data, y["weight"], y["bias"]), strict=True))
                y = {name: y[name] - RATE * (g[name] - own[i][name] + c[name]) for name in y}
            plus = {name: own[i][name] - c[name] + (x[name] - y[name]) / (STEPS * RATE) for name in y}
            moved.append({name: y[name] - x[name] for name in y})
            grown.append({name: plus[name] - own[i][name] for name in y})
            own[i] = plus
        x = {name: x[name] + np.mean([each[name] for each in moved], axis=0) for name in x}
        c = {name: c[name] + np.mean([each[name] for each in grown], axis=0) for name in c}
    return x, c, own


def close(found: Params, wanted: Params) -> None:
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=2e-6)


def test_rounds_of_scaffold_are_those_of_the_paper(tmp_path: Path) -> None:
    federation = Federation(tmp_path, SCAFFOLD, "plain")
    x, c, own = reference(federation, rounds=4)
    for _ in range(4):
        federation.round()
    close(federation.x, x)
    close(federation.c, c)
    for site in range(SITES):
        close(file_params(read_header(federation.kept(site)), "control/"), own[site])
    assert max(np.abs(federation.c["weight"]).max(), np.abs(own[0]["weight"]).max()) > 0.01, (
        "it did something"
    )


def test_scaffold_comes_nearer_to_the_optimum_of_all_than_plain_averaging(tmp_path: Path) -> None:
    """What it is for: with many local steps FedAvg rests where the sites' drifts cancel, not their gradients."""

    def slope(plan: Plan) -> float:
        folder = tmp_path / str(plan.control_variates)
        folder.mkdir()
        federation = Federation(folder, plan, "plain")
        for _ in range(12):
            federation.round() if plan.control_variates else _average(federation)
        weight, bias = federation.x["weight"].astype(np.float64), federation.x["bias"].astype(np.float64)
        mean = np.mean([gradient(data, weight, bias)[0] for data in federation.data], axis=0)
        return float(np.linalg.norm(mean))

    assert slope(replace(SCAFFOLD, local_steps=20)) < 0.5 * slope(replace(PLAN, local_steps=20))


def _average(federation: Federation) -> None:
    updates = [federation.train(site)[0] for site in range(SITES)]
    for name in federation.x:
        federation.x[name] = federation.x[name] + np.mean([update[name] for update in updates], axis=0)


def test_an_update_has_two_groups_in_the_layout_of_the_model(tmp_path: Path) -> None:
    federation = Federation(tmp_path, SCAFFOLD, "normed")
    federation.train(0)
    manifest = read_header(tmp_path / "update-0").manifest("delta", MAX_CHUNK_BYTES)
    manifest.check()
    model = read_header(tmp_path / "model").manifest("model", MAX_CHUNK_BYTES)
    assert [group.name for group in manifest.groups] == ["delta", "control"]
    assert [group.tensors for group in manifest.groups] == [group.tensors for group in model.groups]
    control = file_params(read_header(tmp_path / "update-0"), "control/")
    assert not control["norm.running_mean"].any(), "what is no parameter has no gradient"
    assert control["head.weight"].any()


def test_a_round_that_was_not_accepted_trains_the_same_again(tmp_path: Path) -> None:
    federation = Federation(tmp_path, replace(SCAFFOLD, local_norms=True), "normed")
    federation.round()
    before = federation.train(1)[0]
    again = federation.train(1)[0]
    assert all(np.array_equal(before[name], again[name]) for name in before)
    federation.accept(1)
    after = federation.train(1)[0]
    assert not np.array_equal(before["control/head.weight"], after["control/head.weight"])


def test_without_steps_a_control_variate_stays_what_it_was(tmp_path: Path) -> None:
    federation = Federation(tmp_path, SCAFFOLD, "plain")
    federation.round()
    kept = load_file(federation.kept(0))
    federation.plan = replace(SCAFFOLD, local_epochs=0, local_steps=None)
    update, done = federation.train(0)
    assert done.metrics["local_steps"] == 0
    assert not any(values.any() for values in update.values())
    close(load_file(tmp_path / "new-0"), kept)


def test_norms_of_fedbn_go_on_from_the_sites_own(tmp_path: Path) -> None:
    """The reference trains a site's module twice by hand: only the second round's start differs between the two."""
    federation = Federation(tmp_path, FEDBN, "normed")
    federation.round()
    mine = load_file(federation.kept(0))
    assert {name.removeprefix("norms/") for name in mine} == {
        "norm.bias", "norm.running_mean", "norm.running_var", "norm.weight"
    }  # fmt: skip
    task = LinearTask()
    start = {name: mine.get(f"norms/{name}", values) for name, values in federation.x.items()}
    wanted = task.train(Model(start, federation.known), PLAN, federation.data[0], Watch())
    trained = {name: start[name] + wanted.delta[name] for name in start}
    update, done = federation.train(0)
    for name in start:
        np.testing.assert_allclose(federation.x[name] + update[name], trained[name], rtol=0, atol=1e-6)
    close(
        load_file(tmp_path / "new-0"),
        {name: trained[name.removeprefix("norms/")] for name in mine},
    )
    scored = task.evaluate(Model(start, federation.known), federation.data[0], Watch(), detail=False)
    assert done.metrics["eval_loss"] == pytest.approx(scored.metrics["loss"]), "judged with its own norms"
    other = task.evaluate(Model(federation.x, federation.known), federation.data[0], Watch(), detail=False)
    assert done.metrics["eval_loss"] != pytest.approx(other.metrics["loss"])


def test_the_global_model_is_scored_before_it_is_trained(tmp_path: Path) -> None:
    federation = Federation(tmp_path, PLAN, "plain")
    _, done = federation.train(0)
    model = Model(federation.x, federation.known)
    scored = LinearTask().evaluate(model, federation.data[0], Watch(), detail=False)
    assert done.metrics["eval_accuracy"] == scored.metrics["accuracy"]
    assert done.metrics["eval_examples"] == done.metrics["eval_patients"] == 8
    assert {"eval_loss", "eval_auroc", "eval_ece", "eval_sensitivity", "eval_specificity"} <= set(
        done.metrics
    )
    assert done.metrics["local_steps"] == STEPS
    assert not (tmp_path / "new-0").exists(), "nothing to keep"


def test_a_site_that_holds_nobody_out_scores_nothing(tmp_path: Path) -> None:
    federation = Federation(tmp_path, PLAN, "plain")
    federation.data[0] = dataset(0, held_out=0)
    _, done = federation.train(0)
    assert not any(name.startswith("eval_") for name in done.metrics)


def test_what_was_kept_of_another_model_is_not_used(tmp_path: Path) -> None:
    federation = Federation(tmp_path, replace(SCAFFOLD, local_norms=True), "plain")
    write_params(federation.kept(0), joined(control={"weight": np.ones((3, 3), np.float32)}), {})
    first = federation.train(0)[0]
    federation.kept(0).unlink()
    assert all(np.array_equal(first[name], values) for name, values in federation.train(0)[0].items())


class Simple:
    """A task that knows nothing of what a site may keep."""

    def __init__(self, value: float = 1.0, kept: Kept | None = None) -> None:
        self.value, self.kept = value, kept

    def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
        values = {"w": np.full(2, self.value, np.float32)}
        return Update(values, 3, {}, values if self.kept else None, self.kept)


def given(folder: Path) -> Given:
    write_params(folder / "m", {"w": np.zeros(2, np.float32)}, {})
    return Given(folder / "m", None, {})


NOTHING = Dataset(DataSummary(3, 3, 3, 0), 3)


def simple_round(folder: Path, task: Simple) -> None:
    local_round.train(
        task,  # type: ignore[arg-type]
        NOTHING, SCAFFOLD, given(folder), Watch(), out=folder / "u", kept_out=folder / "k",
    )  # fmt: skip


def test_a_task_without_control_variates_cannot_do_scaffold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="choose another --strategy"):
        simple_round(tmp_path, Simple())
    assert not (tmp_path / "u").exists()


def test_a_control_variate_that_is_not_finite_is_divergence(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="lower --learning-rate"):
        simple_round(tmp_path, Simple(float("nan"), Kept({"w": np.zeros(2, np.float32)})))
    assert not (tmp_path / "u").exists()
