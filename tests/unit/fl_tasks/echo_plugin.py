"""A task without torch: every delta is 1.0 everywhere. Used as ``--plugin`` by the tests of the task process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from fl_protocol.errors import DataError
from fl_protocol.messages import DataSummary, Plan
from fl_protocol.tensors import TensorSpec
from fl_tasks.base import Dataset, Diverged, Model, Place, Score, Update, Watch
from fl_tasks.jobs import DataOptions
from fl_tasks.params import LazyParams
from fl_tasks.registry import register

SPECS = (TensorSpec("a", (3,)), TensorSpec("b", (2, 2)))


class Echo:
    """``data`` names what goes wrong: slow, die, stray, bug, nan, memory, data, diverged."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def device(self) -> str:
        return "cpu"

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        watch.check()
        if options.data == "data":
            raise DataError("give another folder")
        return Dataset(DataSummary(1, 1, 1, 0, classes={"one": 1}), 1, ("x.png: odd",), options.data)

    def initialise(self, model: str, image_size: int, seed: int, init: Path | None) -> Model:
        params = LazyParams(SPECS, lambda spec: np.full(spec.shape, seed, np.float32))
        return Model(params, {"task": "echo", "model": model, "image_size": str(image_size)})

    def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
        what = dataset.content
        watch.progress(0.5, 1.0)
        if what == "slow":
            while True:
                watch.check()
                time.sleep(0.01)
        if what == "stubborn":
            time.sleep(600)
        if what == "die":
            print("last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "stray":
            print("a stray print")
            os.write(1, b"another, below python\n")
        if what == "bug":
            raise ZeroDivisionError("ours")
        if what == "memory":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        if what == "diverged":
            raise Diverged("the loss is not finite")
        value = float("nan") if what == "nan" else 1.0
        loaded = float("torch" in sys.modules)
        delta = LazyParams(tuple(SPECS), lambda spec: np.full(spec.shape, value, np.float32))
        seed = float(plan.seed % 1000)
        return Update(delta, 1, {"torch_loaded": loaded, "seed": seed, "first": float(model.params["a"][0])})

    def evaluate(self, model: Model, dataset: Dataset, watch: Watch, *, detail: bool) -> Score:
        return Score({"loss": float(model.params["a"][0])}, {"points": [1, 2]} if detail else None)


register("echo", Echo)
