"""A plug-in task without torch and without images, so that a round takes as long as its messages.

An update is a pure function of the model, the plan's seed, the round and the shard, and of what the site keeps. Models are ``tiny`` (28 bytes) or
``mb-N`` or ``kb-N`` (N MB or KB in four tensors). ``ECHO_DELAY_S`` makes training take so long; with ``ECHO_GATE`` it waits for that file.
With ``ECHO_HELD_OUT`` so many examples are held out, and models are scored on them.
With ``ECHO_DIVERGES`` training fails, with ``ECHO_DIVERGES_AT`` that of the shard of that number; with ``ECHO_ABSURD`` the shard of that number sends finite numbers beyond all measure. ``ECHO_PREPARE_GATE`` and ``ECHO_SCORE_GATE`` hold preparing and scoring up; beside
the latter, ``.waiting`` says that it does. ``ECHO_TRAININGS`` is a file with a word for every training that ended.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.messages import DataSummary, Plan
from fl_protocol.modelfile import read_header
from fl_protocol.tensors import TensorSpec
from fl_tasks.base import Dataset, Diverged, Kept, Model, Place, Score, Update, Watch
from fl_tasks.jobs import DataOptions
from fl_tasks.params import LazyParams, file_params, first_mismatch
from fl_tasks.registry import register

QUARTERS = {"mb": 250_000, "kb": 248}
TINY = (TensorSpec("a", (3,)), TensorSpec("b", (2, 2)))


def specs_of(model: str) -> tuple[TensorSpec, ...]:
    """The layout of a model by name."""
    if model == "tiny":
        return TINY
    kind, _, count = model.partition("-")
    if kind not in QUARTERS or not count.isdigit():
        raise ConfigError(f"unknown model {model!r}: use tiny, mb-N or kb-N")
    return tuple(TensorSpec(f"t{index}", (int(count) * QUARTERS[kind] // 4,)) for index in range(4))


class Echo:
    """Learns nothing, quickly."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def device(self) -> str:
        return "cpu"

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        watch.check()
        _await(os.environ.get("ECHO_PREPARE_GATE"), watch)
        count, held_out = 10 + options.shard, int(os.environ.get("ECHO_HELD_OUT", "0"))
        summary = DataSummary(count, count, count, held_out, classes={"echo": count})
        return Dataset(summary, count, (), options.shard)

    def initialise(self, model: str, image_size: int, seed: int, init: Path | None) -> Model:
        specs = specs_of(model)
        params = LazyParams(specs, lambda spec: _values(spec, seed))
        if init is not None:
            params = file_params(read_header(init))
            wanted, found = ({s.name: s.shape for s in layout} for layout in (specs, params.specs))
            wrong = first_mismatch(wanted, found)
            if wrong:
                raise DataError(f"{init} does not fit model {model}: {wrong}")
        return Model(params, {"task": "echo", "model": model, "image_size": str(image_size)})

    def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
        _wait(watch)
        watch.progress(1.0, 0.5)
        if trainings := os.environ.get("ECHO_TRAININGS"):
            with Path(trainings).open("a") as file:
                file.write(f"{plan.seed}\n")
        specs = tuple(TensorSpec(name, tuple(model.params[name].shape)) for name in sorted(model.params))

        if os.environ.get("ECHO_DIVERGES") or os.environ.get("ECHO_DIVERGES_AT") == str(dataset.content):
            raise Diverged("the loss is not finite at step 3 of 9: lower --learning-rate")

        def own(spec: TensorSpec) -> np.ndarray:
            return model.kept.control.get(spec.name, np.zeros(spec.shape, np.float32))

        def delta(spec: TensorSpec) -> np.ndarray:
            moved: np.ndarray = (
                _values(spec, plan.seed) - np.float32(0.1) * model.params[spec.name] - own(spec)
            ).astype(np.float32)
            return moved * np.float32(1e30) if absurd else moved

        absurd = os.environ.get("ECHO_ABSURD") == str(dataset.content)
        told = {"loss": 1.0 / dataset.num_examples}
        if not plan.control_variates:
            return Update(LazyParams(specs, delta), dataset.num_examples, told)
        plus = LazyParams(specs, lambda spec: _values(spec, plan.seed + 1))
        growth = LazyParams(specs, lambda spec: plus[spec.name] - own(spec))
        return Update(LazyParams(specs, delta), dataset.num_examples, told, growth, Kept(plus))

    def evaluate(self, model: Model, dataset: Dataset, watch: Watch, *, detail: bool) -> Score:
        if gate := os.environ.get("ECHO_SCORE_GATE"):
            Path(f"{gate}.waiting").touch()
            _await(gate, watch)
        first = next(iter(sorted(model.params)))
        loss = float(np.abs(model.params[first]).mean())
        return Score({"loss": loss}, {} if detail else None, {"examples": dataset.summary.val_images})


def _values(spec: TensorSpec, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, len(spec.name), spec.num_values])
    return rng.standard_normal(spec.shape, dtype=np.float32)


def _wait(watch: Watch) -> None:
    end = time.monotonic() + float(os.environ.get("ECHO_DELAY_S", "0"))
    while time.monotonic() < end:
        watch.check()
        time.sleep(0.01)
    _await(os.environ.get("ECHO_GATE"), watch)


def _await(gate: str | None, watch: Watch) -> None:
    while gate and not Path(gate).exists():
        watch.check()
        time.sleep(0.01)


register("echo", Echo)
