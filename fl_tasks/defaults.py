"""What a run uses where the operator says nothing. Chosen on validation patients (docs/design.md says how)."""

from __future__ import annotations

from dataclasses import dataclass

from fl_tasks.catalogue import MEDMNIST

DEFAULT_TASK = "chest-xray"
DEFAULT_MODEL = "hilum-cnn"
SMALL_MODEL = "tiny-cnn"


@dataclass(frozen=True)
class Defaults:
    """Settings of a round's plan, the model and the image size, for one task."""

    model: str
    image_size: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    local_epochs: int
    learning_rate_schedule: str = "constant"
    """aggregator/schedule.py reads it."""


DEFAULTS: dict[str, Defaults] = {
    DEFAULT_TASK: Defaults(
        model=DEFAULT_MODEL,
        image_size=96,
        batch_size=8,
        learning_rate=1e-3,
        momentum=0.9,
        weight_decay=0.05,
        local_epochs=3,
        learning_rate_schedule="cosine",
    ),
    "mnist": Defaults(
        model=SMALL_MODEL,
        image_size=28,
        batch_size=32,
        learning_rate=2e-3,
        momentum=0.9,
        weight_decay=0.01,
        local_epochs=1,
    ),
    "cifar10": Defaults(
        model=SMALL_MODEL,
        image_size=32,
        batch_size=32,
        learning_rate=2e-3,
        momentum=0.9,
        weight_decay=0.05,
        local_epochs=1,
    ),
    MEDMNIST: Defaults(
        model=SMALL_MODEL,
        image_size=28,
        batch_size=16,
        learning_rate=2e-3,
        momentum=0.9,
        weight_decay=0.05,
        local_epochs=2,
    ),
}
"""By task, or by what stands before its colon; a task without an entry takes that of DEFAULT_TASK."""


def defaults_for(task: str) -> Defaults:
    """The defaults of ``task``."""
    return DEFAULTS.get(task) or DEFAULTS.get(task.partition(":")[0], DEFAULTS[DEFAULT_TASK])
