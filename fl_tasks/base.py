"""What a task is. It knows no task: registry.py does.

A task turns data options into a dataset, a name and a seed into a first model, and a model, a plan and a dataset
into an update (trained minus global). It sees models as mappings of numpy arrays, and runs in a process of its
own (worker.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fl_protocol.errors import HilumError
from fl_protocol.messages import DataSummary, Plan
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
    site: str = ""
    """What the data call the site whose part this is; empty where parts are dealt."""


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
"""What is registered under a task's name."""
