"""A task that costs nothing and yet tells every mistake: what a federation under faults trains (``--task light``).

An update is a pure function of the model, the plan's seed (which is the client's and the round's own) and the shard:
one update missing, counted twice, or of another round, and every later model has another digest. Models are named
``kb-N``: N thousand bytes in four tensors. Set ``LIGHT_PAUSE_S`` to make training last so long in the mean, shard by
shard longer, so that a round has updates on both sides of acceptance for a while; and ``LIGHT_NOTES`` to have every
training noted in that file, one JSON line each.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np

from fl_protocol.errors import ConfigError
from fl_protocol.messages import DataSummary, Plan
from fl_protocol.tensors import TensorSpec
from fl_tasks.base import Dataset, Model, Place, Score, Update, Watch
from fl_tasks.jobs import DataOptions
from fl_tasks.params import LazyParams, specs_of
from fl_tasks.registry import register

NAME = "light"
PAUSE, NOTES = "LIGHT_PAUSE_S", "LIGHT_NOTES"
TENSORS = 4
STEP = np.float32(0.1)


def model_name(kilobytes: int) -> str:
    """What to give as ``--model``."""
    return f"kb-{kilobytes}"


def layout(model: str) -> tuple[TensorSpec, ...]:
    """The tensors of a model by name. Raises ConfigError for any other name."""
    kind, _, kilobytes = model.partition("-")
    if kind != "kb" or not kilobytes.isdigit() or not int(kilobytes):
        raise ConfigError(f"unknown model {model!r}: use kb-N, N thousand bytes")
    return tuple(TensorSpec(f"t{index}", (int(kilobytes) * 250 // TENSORS,)) for index in range(TENSORS))


class Light:
    """Draws values instead of learning them."""

    def __init__(self, place: Place) -> None:
        pass

    def device(self) -> str:
        return "cpu"

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        count = 10 + options.shard
        return Dataset(DataSummary(count, count, count, 0), count, content=(options.shard, options.shards))

    def initialise(self, model: str, image_size: int, seed: int, init: Path | None) -> Model:
        if init is not None:
            raise ConfigError(f"task {NAME} makes its own models: leave out --init")
        return Model(
            LazyParams(layout(model), lambda spec: _values(spec, seed, 0)), {"task": NAME, "model": model}
        )

    def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
        began, (shard, shards) = time.monotonic(), dataset.content
        _pause(pause_s(shard, shards), watch)

        def delta(spec: TensorSpec) -> np.ndarray:
            moved: np.ndarray = _values(spec, plan.seed, shard) - STEP * model.params[spec.name]
            return moved.astype(np.float32)

        _note(shard, 1 + int(model.metadata["round"]), began)
        metrics = {"loss": 1.0 / dataset.num_examples}
        return Update(LazyParams(specs_of(model.params), delta), dataset.num_examples, metrics)

    def evaluate(self, model: Model, dataset: Dataset, watch: Watch, *, detail: bool) -> Score:
        first = next(iter(sorted(model.params)))
        return Score({"loss": float(np.abs(model.params[first]).mean())}, {} if detail else None)


def _values(spec: TensorSpec, seed: int, shard: int) -> np.ndarray:
    rng = np.random.default_rng([seed, shard, int(spec.name[1:])])
    return rng.standard_normal(spec.shape, dtype=np.float32)


def pause_s(shard: int, shards: int) -> float:
    """How long a shard's training lasts: from a little above 0 to a little below twice the mean."""
    return float(os.environ.get(PAUSE, "0")) * 2 * shard / (shards + 1)


def _pause(seconds: float, watch: Watch) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        watch.check()
        time.sleep(min(left, 0.01))


def _note(shard: int, round_number: int, began: float) -> None:
    """One short line, added in one write: several processes share the file, and may be killed."""
    path = os.environ.get(NOTES)
    if path:
        line = json.dumps({"shard": shard, "round": round_number, "began": began}) + "\n"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)


register(NAME, Light)
