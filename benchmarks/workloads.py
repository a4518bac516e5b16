"""The benchmark's tasks, as a plug-in (``--plugin benchmarks.workloads``): the same work that other frameworks do.

bench-echo   W1: no training. Trained weights are global weights + 1. Models w1-0.25, w1-5 and w1-45 (MB).
bench-cnn    W2: one epoch of a small CNN on a share of 4,000 made-up 28x28 images. Model w2-cnn.

Shapes, weights, images, seeds and the training loop are those of the runners for Flower and NVFlare, so final
weights and accuracy can be compared. bench-echo never imports torch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_protocol.errors import ConfigError
from fl_protocol.messages import DataSummary, Plan
from fl_protocol.tensors import TensorSpec
from fl_tasks.base import Dataset, Model, Place, Score, Update, Watch
from fl_tasks.jobs import DataOptions
from fl_tasks.params import LazyParams, Params, specs_of
from fl_tasks.registry import register

if TYPE_CHECKING:
    import torch

ECHO, CNN = "bench-echo", "bench-cnn"
W2_MODEL = "w2-cnn"
EVENTS_VARIABLE = "HILUM_BENCH_EVENTS"
"""Names the file to which bench-cnn adds a JSON line a training: the loop's wall and CPU seconds."""

SIZES = ("0.25", "5", "45")
IMAGES, SIDE, BATCH = 4000, 28, 32
Shape = tuple[int, ...]


# --- W1 ---------------------------------------------------------------------------------------------------------


def shapes(size: str) -> list[Shape]:
    """Shapes of a float32 model of 0.25, 5 or 45 MB; the last is a ResNet-18 with 10 classes."""
    if size == "0.25":
        return [(32, 1, 3, 3), (32,), (64, 32, 3, 3), (64,), (128, 338), (128,), (2, 128), (2,)]
    if size == "5":
        return [(32, 3, 3, 3), (32,), (64, 32, 3, 3), (64,), (128, 64, 3, 3), (128,),
                (256, 128, 3, 3), (256,), (512, 1664), (512,), (10, 512), (10,)]  # fmt: skip
    if size == "45":
        return list(_resnet18())
    raise ConfigError(f"no model of {size} MB: give --size {', '.join(SIZES)}")


def _resnet18() -> Iterator[Shape]:
    def layer(*shape: int) -> Iterator[Shape]:
        """A convolution, and its normalisation's weight, bias, mean and variance."""
        yield shape
        yield from [(shape[0],)] * 4

    yield from layer(64, 3, 7, 7)
    before = 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            yield from layer(width, width if block else before, 3, 3)
            yield from layer(width, width, 3, 3)
            if block == 0 and before != width:
                yield from layer(width, before, 1, 1)
        before = width
    yield from [(10, 512), (10,)]


def specs(size: str) -> tuple[TensorSpec, ...]:
    """The layout of a W1 model: numbered names, so that sorting by name keeps the order of the shapes."""
    return tuple(TensorSpec(f"t{index:03d}", shape) for index, shape in enumerate(shapes(size)))


class _Drawing:
    """Normal random tensors from one stream of seed 0, drawn in order; an earlier one starts the stream again."""

    def __init__(self, layout: tuple[TensorSpec, ...]) -> None:
        self._layout = layout
        self._next = len(layout)
        self._stream = np.random.default_rng(0)

    def __call__(self, spec: TensorSpec) -> np.ndarray:
        wanted = self._layout.index(spec)
        if wanted < self._next:
            self._stream, self._next = np.random.default_rng(0), 0
        while True:
            drawn: np.ndarray = self._stream.standard_normal(self._layout[self._next].shape, dtype=np.float32)
            self._next += 1
            if self._next > wanted:
                return drawn


def weights(size: str) -> LazyParams:
    """The first weights of a W1 model, made a tensor at a time; they cannot be compressed."""
    layout = specs(size)
    return LazyParams(layout, _Drawing(layout))


class Echo:
    """Adds 1 to every weight."""

    def device(self) -> str:
        return "cpu"

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        return Dataset(DataSummary(1, 1, 1, 0), 1)

    def initialise(self, model: str, image_size: int, seed: int, init: Path | None) -> Model:
        if init is not None or not model.startswith("w1-"):
            raise ConfigError(
                f"{ECHO} makes its own models: give --model w1-{'|'.join(SIZES)}, and no --init"
            )
        return Model(weights(model.removeprefix("w1-")), {"task": ECHO, "model": model})

    def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
        def delta(spec: TensorSpec) -> np.ndarray:
            values = model.params[spec.name]
            trained: np.ndarray = values + np.float32(1)
            trained -= values
            return trained

        return Update(LazyParams(specs_of(model.params), delta), 1)

    def evaluate(self, model: Model, dataset: Dataset, watch: Watch, *, detail: bool) -> Score:
        raise ConfigError(f"{ECHO} scores nothing: leave out --eval-data")


# --- W2 ---------------------------------------------------------------------------------------------------------


def images() -> tuple[np.ndarray, np.ndarray]:
    """4,000 grey images of 2 classes: noise, and a faint bright blob on the left or on the right."""
    rng = np.random.default_rng(1234)
    labels = rng.integers(0, 2, IMAGES)
    pixels = rng.standard_normal((IMAGES, 1, SIDE, SIDE)).astype(np.float32)
    for index, label in enumerate(labels):
        left = 4 + 12 * label
        pixels[index, 0, 8:20, left : left + 8] += 0.5
    return pixels, labels.astype(np.int64)


def share(part: int, parts: int) -> np.ndarray:
    """Which images belong to part ``part`` (from 0) of ``parts``, equally distributed."""
    return np.random.default_rng(99).permutation(IMAGES)[part::parts]


def build_model() -> torch.nn.Sequential:
    """The CNN as it begins; torch's own random numbers begin anew too."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 2),
    )  # fmt: skip


def load(network: torch.nn.Module, params: Params) -> None:
    """Give ``network`` these weights."""
    import torch

    network.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in params.items()})


def train_epoch(network: torch.nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """One epoch. Returns the loop's seconds by the wall clock and of this thread's CPU, and the last loss."""
    import torch

    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    loss_of = torch.nn.CrossEntropyLoss()
    network.train()
    wall, cpu = time.perf_counter(), time.thread_time()
    order = torch.randperm(len(pixels))
    loss = torch.zeros(())
    for at in range(0, len(pixels), BATCH):
        batch = order[at : at + BATCH]
        optimiser.zero_grad()
        loss = loss_of(network(pixels[batch]), labels[batch])
        loss.backward()
        optimiser.step()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.thread_time() - cpu,
        "loss": float(loss.detach()),
    }


def accuracy(params: Params) -> float:
    """The share of all 4,000 images that a model of these weights classifies rightly."""
    import torch

    network = build_model()
    load(network, params)
    network.eval()
    pixels, labels = images()
    with torch.no_grad():
        found = [
            network(torch.from_numpy(pixels[at : at + 50])).argmax(1).numpy() for at in range(0, IMAGES, 50)
        ]
    return float((np.concatenate(found) == labels).mean())


class Cnn:
    """Trains the small CNN on shard K of N."""

    def device(self) -> str:
        return "cpu"

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        import torch

        pixels, labels = images()
        mine = share(options.shard - 1, options.shards)
        content = torch.from_numpy(pixels[mine]), torch.from_numpy(labels[mine])
        return Dataset(DataSummary(len(mine), len(mine), len(mine), 0), len(mine), content=content)

    def initialise(self, model: str, image_size: int, seed: int, init: Path | None) -> Model:
        if init is not None or model != W2_MODEL:
            raise ConfigError(f"{CNN} makes its own model: give --model {W2_MODEL}, and no --init")
        return Model(_arrays(build_model()), {"task": CNN, "model": model})

    def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
        network = build_model()
        load(network, model.params)
        measured = train_epoch(network, *dataset.content)
        note(measured)
        trained = _arrays(network)
        delta = {name: values - model.params[name] for name, values in trained.items()}
        return Update(delta, dataset.num_examples, {"loss": measured["loss"]})

    def evaluate(self, model: Model, dataset: Dataset, watch: Watch, *, detail: bool) -> Score:
        return Score({"accuracy": accuracy(model.params)})


def _arrays(network: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in network.state_dict().items()}


def note(measured: dict[str, Any]) -> None:
    """One short line, added in one write: several processes share the file."""
    path = os.environ.get(EVENTS_VARIABLE)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(measured) + "\n")


_FACTORIES: dict[str, Callable[[Place], Any]] = {ECHO: lambda _place: Echo(), CNN: lambda _place: Cnn()}
for _name, _factory in _FACTORIES.items():
    register(_name, _factory)
