"""A task whose model is a torch module: subclasses say which module, which data, and what a batch looks like.

Modules hold their convolutions in channels-last order, in which torch's pooling and normalisation on the CPU are
up to twice as fast; names, shapes and files are the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fl_protocol.errors import ConfigError, DataError
from fl_protocol.messages import DataSummary, Plan
from fl_protocol.modelfile import read_header
from fl_protocol.tensors import TensorSpec
from fl_tasks import metrics
from fl_tasks.base import Dataset, Kept, Model, Place, Score, Update, Watch
from fl_tasks.calibration import scaled, temperature_of
from fl_tasks.dealing import Rows
from fl_tasks.drift import Drift
from fl_tasks.jobs import DataOptions
from fl_tasks.norms import norm_names
from fl_tasks.params import LazyParams, Params, file_params, first_mismatch
from fl_tasks.training import Examples, Recipe, fit, level, num_steps

EVAL_BATCH = 64


@dataclass(frozen=True)
class Splits:
    """The content of a torch task's Dataset. For evaluation all examples are in ``train``'s place."""

    train: Examples
    validation: Examples | None = None


class TorchTask(ABC):
    """Training and evaluation of a torch module on Splits. Keeps one module between rounds."""

    classes: tuple[str, ...]
    weighted = True
    """Whether every class weighs the same in the loss, however rare."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._device: torch.device | None = None
        self._resident: tuple[tuple[str, int], nn.Module] | None = None
        if place.threads:
            torch.set_num_threads(place.threads)
        torch.backends.cudnn.benchmark = False  # chooses by timing, which differs between runs
        torch.backends.cudnn.deterministic = True

    @abstractmethod
    def build(self, model: str, image_size: int) -> nn.Module:
        """A new module of that name, drawn from torch's current seed. Raises ConfigError for an unknown name."""

    @abstractmethod
    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        """A Dataset whose content is Splits."""

    @abstractmethod
    def inputs(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Rows of Examples.images as the module takes them; augmented from ``generator`` if there is one."""

    @abstractmethod
    def metadata(self, model: str, image_size: int) -> dict[str, str]:
        """What travels with a model: task, model, classes, image_size, preprocessing."""

    def together(self, shards: Sequence[Dataset]) -> Dataset:
        """Dealt shards as one: who validated at a site validates here, and nobody else."""
        splits: list[Splits] = [shard.content for shard in shards]
        whole = Splits(
            Examples.together([each.train for each in splits]),
            Examples.together([each.validation for each in splits if each.validation is not None]),
        )
        summaries = [shard.summary for shard in shards]
        counts = {
            name: sum(getattr(summary, name) for summary in summaries)
            for name in ("images", "patients", "train_images", "val_images")
        }
        return Dataset(DataSummary(**counts), len(whole.train), content=whole)

    def optimizer(self, module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
        """Fresh for every round: what one edge's optimizer remembers says nothing about the averaged model."""
        return torch.optim.SGD(
            module.parameters(), plan.learning_rate, momentum=plan.momentum, weight_decay=plan.weight_decay,
            fused=True,
        )  # fmt: skip

    def rate_factor(self, step: int, total: int) -> float:
        """What the plan's learning rate is multiplied with."""
        return level(step, total)

    def device(self) -> str:
        """``cpu`` or ``cuda:0``."""
        return str(self._where())

    def initialise(self, model: str, image_size: int, seed: int, init: Path | None) -> Model:
        """From ``seed``, or with the tensors of the file ``init``."""
        torch.manual_seed(seed)
        module = self.build(model, image_size)
        known = self.metadata(model, image_size)
        if init is None:
            return Model(params_of(module), known)
        params = file_params(read_header(init))
        try:
            load_params(module, params)
        except DataError as error:
            raise DataError(f"{init} does not fit model {model}: {error}") from None
        return Model(params, known)

    def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
        """One edge's part of a round. val_* are of the model just trained, on this edge's validation patients."""
        splits: Splits = dataset.content
        module = self._loaded(model)
        module.to(self._where())
        recipe = Recipe(self.inputs, len(self.classes), self._where(), self.rate_factor, self.weighted)
        drift = Drift(module, model.control, model.kept.control) if plan.control_variates else None
        try:
            loss = fit(module, self.optimizer(module, plan), splits.train, plan, recipe, watch, drift)
            found = {"train_loss": loss, "local_steps": float(num_steps(len(splits.train), plan))}
            if splits.validation is not None and len(splits.validation):
                probabilities = self._probabilities(module, splits.validation.images, watch)
                scored = metrics.summary(splits.validation.labels, probabilities)
                found |= {f"val_{name}": value for name, value in scored.items()}
        finally:
            self._rest(module)
        delta = _delta(module, model.params)
        kept = Kept(
            LazyParams(delta.specs, drift.next_own) if drift is not None else {},
            _part(params_of(module), norm_names(module)) if plan.local_norms else {},
        )
        growth = LazyParams(delta.specs, drift.growth) if drift is not None else None
        return Update(delta, len(splits.train), found, growth, kept)

    def evaluate(self, model: Model, dataset: Dataset, watch: Watch, *, detail: bool) -> Score:
        """On validation patients, if ``dataset`` has any set aside, else on all examples."""
        splits: Splits = dataset.content
        examples = splits.train if splits.validation is None else splits.validation
        counts = {"examples": len(examples), "patients": len(np.unique(examples.patients))}
        module = self._loaded(model)
        try:
            probabilities = self._probabilities(module, examples.images, watch)
        finally:
            self._rest(module)
        found = metrics.summary(examples.labels, probabilities)
        if splits.validation is not None:
            found |= metrics.at_a_site(examples.labels, probabilities)
        if not detail:
            return Score(found, None, counts)
        shown = metrics.report(
            examples.labels,
            probabilities,
            examples.patients,
            list(self.classes),
            temperature_of(model.metadata),
        )
        return Score(found, shown, counts)

    def module(self, model: Model) -> nn.Module:
        """The model as a torch module on the CPU, in evaluation."""
        return self._loaded(model).to("cpu").eval()

    def probabilities(self, model: Model, images: np.ndarray) -> np.ndarray:
        """(n, classes) probabilities of rows as Examples hold them, at the temperature that travels with the model."""
        temperature = temperature_of(model.metadata)
        module = self._loaded(model)
        try:
            return scaled(self._probabilities(module, images, Watch()), temperature)
        finally:
            self._rest(module)

    def _probabilities(self, module: nn.Module, images: np.ndarray | Rows, watch: Watch) -> np.ndarray:
        device = self._where()
        module.to(device).eval()
        found = np.empty((len(images), len(self.classes)))
        with torch.inference_mode():
            for start in range(0, len(images), EVAL_BATCH):
                watch.check()
                rows = slice(start, start + EVAL_BATCH)
                batch = self.inputs(torch.from_numpy(images[rows]).to(device), None)
                found[rows] = torch.softmax(module(batch).double(), dim=1).cpu().numpy()
        return found

    def _loaded(self, model: Model) -> nn.Module:
        """The resident module of the model's kind, with the model's values and the site's own norms."""
        kind = _kind_of(model)
        if self._resident is None or self._resident[0] != kind:
            self._resident = None  # let the old one go before the new one is made
            built: nn.Module = self.build(*kind).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._resident = (kind, built)
        module = self._resident[1]
        load_params(module, model.params)
        held = dict(tensors_of(module))
        with torch.no_grad():
            for name, values in model.kept.norms.items():
                held[name].copy_(torch.from_numpy(np.array(values, dtype=np.float32)))
        return module

    def _where(self) -> torch.device:
        if self._device is None:
            self._device = _chosen_device(self._place.device)
        return self._device

    def _rest(self, module: nn.Module) -> None:
        """Give the accelerator's memory back: another round may be minutes away."""
        for weight in module.parameters():
            weight.grad = None
        if self._where().type == "cuda":
            module.to("cpu")
            torch.cuda.empty_cache()


def _chosen_device(wanted: str) -> torch.device:
    if wanted not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"unknown device {wanted!r}: use auto, cpu or cuda")
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "this torch finds no CUDA device: use --device cpu, or install a CUDA build and driver"
        )
    return torch.device("cuda:0")


def _kind_of(model: Model) -> tuple[str, int]:
    try:
        return model.metadata["model"], int(model.metadata["image_size"])
    except (KeyError, ValueError):
        raise DataError("the model file does not say which model it is: use one that Hilum wrote") from None


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What is averaged: parameters and floating-point statistics. Integer counters stay behind."""
    return ((name, tensor) for name, tensor in module.state_dict().items() if tensor.is_floating_point())


def params_of(module: nn.Module) -> LazyParams:
    """The module's values now and later, read when asked for."""
    held = dict(tensors_of(module))
    return LazyParams(_specs(held), lambda spec: _array(held[spec.name]))


def load_params(module: nn.Module, params: Params) -> None:
    """Copy ``params`` into ``module``. Raises DataError naming the first tensor that does not fit."""
    held = dict(tensors_of(module))
    if isinstance(params, LazyParams):
        found = {spec.name: spec.shape for spec in params.specs}
    else:
        found = {name: values.shape for name, values in params.items()}
    if wrong := first_mismatch({name: tuple(tensor.shape) for name, tensor in held.items()}, found):
        raise DataError(f"{wrong}: use a file of the same model")
    with torch.no_grad():
        for name, tensor in held.items():
            tensor.copy_(torch.from_numpy(np.array(params[name], dtype=np.float32)))


def _part(params: LazyParams, names: Collection[str]) -> LazyParams:
    """Those of ``params`` that ``names`` name."""
    return LazyParams(
        tuple(spec for spec in params.specs if spec.name in names), lambda spec: params[spec.name]
    )


def _delta(module: nn.Module, base: Params) -> LazyParams:
    held = dict(tensors_of(module))
    return LazyParams(_specs(held), lambda spec: _array(held[spec.name]) - base[spec.name])


def _specs(held: dict[str, Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, tuple(tensor.shape)) for name, tensor in held.items())


def _array(tensor: Tensor) -> np.ndarray:
    values: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    return values
