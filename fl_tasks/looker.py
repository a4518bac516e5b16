"""One model in torch, looking at single images: where ONNX Runtime is missing, or the graph has no heat maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fl_tasks.base import Model
from fl_tasks.gradcam import explained
from fl_tasks.params import file_params
from fl_tasks.predict import checked_file, describe, task_of
from fl_tasks.seen import Seen


class Looker:
    """The model in the file at ``path``. Raises DataError if it cannot be used."""

    def __init__(self, path: str, device: str) -> None:
        self.path = path
        file = checked_file(Path(path))
        self._task = task_of(file, describe(file), device)
        self._module = self._task.module(Model(file_params(file), file.metadata))

    def look(self, pixels: np.ndarray) -> Seen:
        """At one image: uint8 (s, s) or (s, s, 3)."""
        logits, maps = explained(self._module, self._task.inputs(torch.from_numpy(pixels[None].copy()), None))
        return Seen(logits[0].numpy(), None if maps is None else maps[0].numpy())
