from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fl_protocol.messages import Plan
from fl_tasks.base import Cancelled, Diverged, Watch
from fl_tasks.training import (
    FINAL_RATE,
    Examples,
    Recipe,
    batches,
    class_weights,
    fit,
    level,
    num_steps,
    warm_then_down,
)

PLAN = Plan(local_epochs=2, batch_size=4, learning_rate=0.1, seed=3)
RECIPE = Recipe(lambda rows, _: rows, 2, torch.device("cpu"))


def examples(n: int = 30) -> Examples:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(n, 5)).astype(np.float32)
    return Examples(rows, (rows[:, 0] > 0.5).astype(np.int64), np.arange(n).astype(str))


def module(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 2))


def trained(plan: Plan, watch: Watch | None = None, recipe: Recipe = RECIPE) -> tuple[float, list[bytes]]:
    net = module()
    loss = fit(net, torch.optim.SGD(net.parameters(), 0.1), examples(), plan, recipe, watch or Watch())
    return loss, [w.detach().numpy().tobytes() for w in net.parameters()]


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3))
def test_every_image_once_a_pass_and_never_alone(n: int, batch_size: int, passes: int) -> None:
    plan = replace(PLAN, batch_size=batch_size, local_epochs=passes)
    rows = list(batches(n, batch_size, num_steps(n, plan), torch.Generator().manual_seed(0)))
    assert all(len(part) >= 2 for part in rows)
    assert all(len(part) <= max(2, batch_size + 1) for part in rows)
    if n > 1 and batch_size > 1:
        assert sorted(np.concatenate(rows)) == sorted(list(range(n)) * passes)
        assert len(rows) == num_steps(n, plan)


def test_local_steps_go_round_as_often_as_needed() -> None:
    plan = replace(PLAN, local_steps=17)
    assert num_steps(10, plan) == 17
    rows = list(batches(10, 4, 17, torch.Generator().manual_seed(0)))
    assert len(rows) == 17
    assert len(set(np.concatenate(rows).tolist())) == 10


def test_every_pass_has_an_order_of_its_own() -> None:
    passes = list(batches(10, 10, 3, torch.Generator().manual_seed(0)))
    assert [sorted(rows) for rows in passes] == [list(range(10))] * 3
    assert len({tuple(rows) for rows in passes}) == 3


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    assert trained(PLAN) == trained(PLAN)
    assert trained(PLAN)[1] != trained(replace(PLAN, seed=4))[1]


def test_it_learns() -> None:
    first, _ = trained(replace(PLAN, local_epochs=1))
    later, _ = trained(replace(PLAN, local_epochs=40))
    assert later < 0.6 * first


def test_no_epoch_changes_nothing() -> None:
    loss, weights = trained(replace(PLAN, local_epochs=0))
    assert loss == 0.0
    assert weights == [w.detach().numpy().tobytes() for w in module().parameters()]


def distance(plan: Plan) -> float:
    net, start = module(), module()
    fit(net, torch.optim.SGD(net.parameters(), 0.1), examples(), plan, RECIPE, Watch())
    return sum(
        float((a - b).detach().square().sum())
        for a, b in zip(net.parameters(), start.parameters(), strict=True)
    )


def test_the_proximal_term_keeps_the_weights_near() -> None:
    far = replace(PLAN, local_epochs=20)
    assert distance(replace(far, proximal_mu=3.0)) < 0.3 * distance(far)
    assert trained(replace(PLAN, proximal_mu=0.0)) == trained(PLAN)


def test_the_proximal_term_is_half_of_mu_times_the_squared_distance() -> None:
    """Two steps of plain SGD on all rows: w <- w - eta (grad F(w) + mu (w - w_global)), Li et al. 2020."""
    rows, eta, mu = examples(12), 0.1, 0.7
    plan = replace(PLAN, batch_size=12, learning_rate=eta, proximal_mu=mu)
    torch.manual_seed(0)
    net = nn.Linear(5, 2)
    begun = [weight.detach().clone() for weight in net.parameters()]
    wanted = [weight.clone().requires_grad_() for weight in begun]
    told = fit(
        net, torch.optim.SGD(net.parameters(), eta), rows, plan, replace(RECIPE, weighted=False), Watch()
    )
    losses = []
    for _ in range(2):
        logits = torch.from_numpy(rows.images[np.arange(12)]) @ wanted[0].T + wanted[1]
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels))
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, wanted)
        wanted = [
            (now - eta * (gradient + mu * (now - first))).detach().requires_grad_()
            for now, gradient, first in zip(wanted, gradients, begun, strict=True)
        ]
    for found, weight in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(found.detach(), weight.detach())
    assert told == pytest.approx(np.mean(losses)), "the loss that is told is without the term"


@pytest.mark.parametrize("weighted", [True, False])
def test_the_loss_is_weighted_by_class_where_the_recipe_says_so(weighted: bool) -> None:
    """One step of plain SGD on all rows, held against the mean of n_c-weighted losses."""
    rows, eta = examples(30), 0.1
    plan = replace(PLAN, batch_size=30, learning_rate=eta, local_epochs=1)
    torch.manual_seed(0)
    net = nn.Linear(5, 2)
    begun = [weight.detach().clone().requires_grad_() for weight in net.parameters()]
    told = fit(
        net, torch.optim.SGD(net.parameters(), eta), rows, plan, replace(RECIPE, weighted=weighted), Watch()
    )
    counts = np.bincount(rows.labels)
    assert counts[0] != counts[1]
    each = torch.from_numpy(1 / counts[rows.labels] if weighted else np.ones(30))
    logits = torch.from_numpy(rows.images[np.arange(30)]) @ begun[0].T + begun[1]
    losses = nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels), reduction="none")
    loss = (each * losses).sum() / each.sum()
    assert told == pytest.approx(float(loss.detach()))
    for now, first, slope in zip(net.parameters(), begun, torch.autograd.grad(loss, begun), strict=True):
        torch.testing.assert_close(now.detach(), (first - eta * slope).detach())


def test_the_seed_orders_the_batches_and_drops_out_by_itself() -> None:
    def weights(net: nn.Module, rows: Examples, seed: int, batch_size: int = 4) -> np.ndarray:
        plan = replace(PLAN, seed=seed, batch_size=batch_size)
        fit(net, torch.optim.SGD(net.parameters(), 0.1), rows, plan, RECIPE, Watch())
        return np.concatenate([w.detach().numpy().ravel() for w in net.parameters()])

    def linear() -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(5, 2)

    rows = examples()
    assert not np.allclose(weights(linear(), rows, 3), weights(linear(), rows, 4)), "the order differs"
    assert np.allclose(weights(linear(), rows, 3, 30), weights(linear(), rows, 4, 30)), "one batch has none"
    alike = Examples(np.ones((30, 5), np.float32), np.ones(30, np.int64), rows.patients)
    assert not np.allclose(weights(module(), alike, 3), weights(module(), alike, 4)), "the dropout differs"


def test_the_loss_told_is_the_mean_over_the_steps() -> None:
    seen: list[float] = []
    watch = Watch(progress=lambda _, loss: seen.append(loss or 0.0))
    rates: list[float] = []

    def rate(step: int, total: int) -> float:
        rates.append(step / total)
        return 0.0  # nothing moves: the loss of each batch is that of the first model

    plan = replace(PLAN, batch_size=30)
    told, _ = trained(plan, watch, replace(RECIPE, rate_factor=rate))
    assert rates == [0.0, 0.5]
    batch_losses = [seen[0], (seen[1] - 0.9 * seen[0]) / 0.1]  # what is shown on the way is smoothed
    assert told == pytest.approx(np.mean(batch_losses))
    assert trained(plan, recipe=replace(RECIPE, rate_factor=rate))[1] == [
        w.detach().numpy().tobytes() for w in module().parameters()
    ], "a rate of nought moves nothing"


def test_divergence_has_a_name() -> None:
    recipe = replace(RECIPE, inputs=lambda rows, _: rows * math.inf)
    with pytest.raises(Diverged, match="lower --learning-rate"):
        trained(PLAN, recipe=recipe)


def test_cancel_is_seen_between_batches() -> None:
    seen: list[float] = []
    watch = Watch(lambda: len(seen) >= 3, lambda fraction, _: seen.append(fraction))
    with pytest.raises(Cancelled):
        trained(PLAN, watch)
    assert len(seen) == 3


def test_progress_ends_at_one() -> None:
    seen: list[tuple[float, float | None]] = []
    trained(PLAN, Watch(progress=lambda fraction, loss: seen.append((fraction, loss))))
    assert seen[-1][0] == 1.0
    assert all(loss is not None and math.isfinite(loss) for _, loss in seen)


def test_rare_classes_weigh_more_and_absent_ones_nothing() -> None:
    assert class_weights(np.array([0, 1, 1, 1]), 2).tolist() == pytest.approx([2.0, 2 / 3])
    assert class_weights(np.array([1, 1]), 2).tolist() == [0.0, 1.0]
    assert class_weights(np.array([0] + [1] * 999), 2).tolist()[0] == 10.0


def test_the_rate_rises_and_falls() -> None:
    rates = [warm_then_down(step, 100) for step in range(100)]
    assert rates[:3] == pytest.approx([0.1, 0.2 * (1 - 0.009), 0.3 * (1 - 0.018)])
    assert rates[9] == max(rates) == pytest.approx(1 - 0.9 * 0.09)
    assert rates[50] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(FINAL_RATE + 0.009)
    assert {level(step, 100) for step in range(100)} == {1.0}
