"""What a task is, and the registry of tasks by name.

A task turns data options into a dataset, a name and a seed into a first model, and a model, a plan and a dataset
into an update (trained minus global). It sees models as mappings of numpy arrays, and runs in a process of its
own (worker.py). Registering costs nothing: a task is built, and torch imported, when it is first asked for.

A plug-in is a module the operator names (``--plugin MODULE``); on import it calls :func:`register`. An installed
package needs no option: it offers its tasks as entry points of the group ``hilum.tasks`` (docs/strategies.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from fl_protocol import entrypoints
from fl_protocol.errors import ConfigError, HilumError
from fl_protocol.messages import DataSummary, Plan
from fl_tasks.catalogue import ARRAY_TASKS, NOT_YET
from fl_tasks.jobs import DataOptions
from fl_tasks.params import Params


class Cancelled(Exception):
    """The work was given up because a newer round, or the operator, said so."""


class Diverged(HilumError):
    """Training met a loss or a weight that is not finite."""


@dataclass(frozen=True)
class Place:
    """Where a task may compute."""

    device: str = "auto"  # or "cpu", "cuda"
    threads: int | None = None  # None: what the library chooses


@dataclass(frozen=True)
class Watch:
    """How long work tells its progress and learns that nobody wants it any more."""

    cancelled: Callable[[], bool] = lambda: False
    progress: Callable[[float, float | None], None] = lambda _fraction, _loss: None

    def check(self) -> None:
        """Raises Cancelled if nobody wants this work any more. Call it for every batch or file."""
        if self.cancelled():
            raise Cancelled


@dataclass(frozen=True)
class Kept:
    """What a site keeps for itself of its last accepted round. Tensor names are the model's; those missing are new."""

    control: Params = field(default_factory=dict)
    """SCAFFOLD's control variate of this client; zero where missing."""
    norms: Params = field(default_factory=dict)
    """FedBN's own normalisation layers; the global model's where missing."""


@dataclass(frozen=True)
class Model:
    """A model as it stands in a file: its tensors, and what one must know to use them.

    Metadata keys: task, model, classes (JSON list), image_size, preprocessing (JSON).
    """

    params: Params
    metadata: Mapping[str, str]
    control: Params = field(default_factory=dict)
    """SCAFFOLD's control variate of the aggregator, a tensor for each of ``params``; zero where missing."""
    kept: Kept = Kept()
    """The site's own share: a task trains and scores with these norms in place of the model's."""


@dataclass(frozen=True)
class Dataset:
    """Data ready for use. ``content`` is the task's own affair."""

    summary: DataSummary
    num_examples: int
    problems: tuple[str, ...] = ()
    content: Any = None


@dataclass(frozen=True)
class Update:
    """What training gives. Params may be lazy (params.LazyParams): they are written a tensor at a time."""

    delta: Params
    num_examples: int
    metrics: dict[str, float] = field(default_factory=dict)
    """Among them ``local_steps``: how many optimizer steps were taken."""
    control: Params | None = None
    """With ``plan.control_variates``: what the client's control variate grew by, a tensor for each of ``delta``."""
    kept: Kept | None = None
    """What the site keeps if the update is accepted; None: nothing."""


@dataclass(frozen=True)
class Score:
    """What evaluation gives: few numbers, and (if asked for) a JSON-able detail."""

    metrics: dict[str, float]
    detail: dict[str, Any] | None = None
    counts: dict[str, int] = field(default_factory=dict)
    """What was scored: ``examples``, ``patients`` and the like."""


class Task(Protocol):
    """What is learned. Every method may raise ConfigError or DataError with a line that says how to mend it."""

    def device(self) -> str:
        """Where it computes: ``cpu``, ``cuda:0``. Raises ConfigError if it was told to use what is not there."""
        ...

    def prepare(self, options: DataOptions, watch: Watch) -> Dataset:
        """The data that ``options`` name. ``watch`` is checked for every file."""
        ...

    def initialise(self, model: str, image_size: int, seed: int, init: Path | None) -> Model:
        """A first global model, equal for equal arguments."""
        ...

    def train(self, model: Model, plan: Plan, dataset: Dataset, watch: Watch) -> Update:
        """Train a copy of ``model`` as ``plan`` says. Raises Cancelled or Diverged.

        A task that knows nothing of control variates or local norms leaves them out of its update.
        """
        ...

    def evaluate(self, model: Model, dataset: Dataset, watch: Watch, *, detail: bool) -> Score:
        """Score ``model``: on what a dataset for training holds out (``summary.val_images``), on all of another."""
        ...


Factory = Callable[[Place], Task]


def _chest_xray(place: Place) -> Task:
    from fl_tasks.chest_xray import ChestXray

    return ChestXray(place)


def _array_images(name: str, place: Place) -> Task:
    from fl_tasks.array_task import ArrayImages

    return ArrayImages(name, place)


_factories: dict[str, Factory] = {
    "chest-xray": _chest_xray,
    **{name: partial(_array_images, name) for name in ARRAY_TASKS},
}


def register(name: str, factory: Factory) -> None:
    """Add a task. A name is registered once, so that no plug-in quietly replaces a task."""
    if name in _factories and _factories[name] is not factory:
        raise ConfigError(f"task {name!r} is registered already: give the plug-in's task another name")
    _factories[name] = factory


def task_names() -> list[str]:
    """The registered names and those that installed packages offer, sorted."""
    return sorted({*_factories, *entrypoints.offered(entrypoints.TASKS)})


def get_task(name: str, place: Place | None = None) -> Task:
    """A new task of that name: a registered one, or one that an installed package offers (``hilum.tasks``).

    Raises ConfigError with the known names for an unknown one, or for a package's that cannot be loaded or built.
    """
    factory = _factories.get(name)
    if factory is None and (offer := entrypoints.offered(entrypoints.TASKS).get(name)) is not None:
        made = offer.load()
        with entrypoints.blamed(str(offer), "cannot be built"):
            task: Task = made(place or Place())
        return task
    if factory is None:
        why = f" ({NOT_YET[name]})" if name in NOT_YET else ""
        raise ConfigError(f"unknown task {name!r}{why}: use one of {', '.join(_shown_names(name))}")
    return factory(place or Place())


def _shown_names(wanted: str) -> list[str]:
    """The registered names; those of another family than ``wanted`` stand as one."""

    def shown(name: str) -> str:
        family, colon, _ = name.partition(":")
        return f"{family}:NAME" if colon and family != wanted.partition(":")[0] else name

    return list(dict.fromkeys(map(shown, task_names())))


def load_plugin(module: str) -> None:
    """Import the operator's module. Raises ConfigError if there is none of that name."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module + ".").startswith(error.name + "."):
            raise
        raise ConfigError(f"no module {module!r} for --plugin: give an importable module name") from None
