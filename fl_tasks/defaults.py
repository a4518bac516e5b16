"""What a run uses where the operator says nothing. Chosen on validation patients (docs/design.md says how)."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_TASK = "chest-xray"
DEFAULT_MODEL = "hilum-cnn"


@dataclass(frozen=True)
class Defaults:
    """Settings of a round's plan, and the image size, for one task."""

    image_size: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    local_epochs: int


DEFAULTS: dict[str, Defaults] = {
    DEFAULT_TASK: Defaults(
        image_size=96, batch_size=8, learning_rate=1e-3, momentum=0.9, weight_decay=0.05, local_epochs=1
    ),
}
"""By task; a task without an entry takes that of DEFAULT_TASK."""


def defaults_for(task: str) -> Defaults:
    """The defaults of ``task``."""
    return DEFAULTS.get(task, DEFAULTS[DEFAULT_TASK])
