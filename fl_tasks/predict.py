"""Class and probability of single images, from a model file alone: preprocessing and classes travel with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_protocol.errors import DataError
from fl_protocol.modelfile import DIGEST_KEY, ModelFile, read_header
from fl_protocol.tensors import MAX_CHUNK_BYTES, MODEL
from fl_tasks.defaults import DEFAULT_TASK
from fl_tasks.preprocessing import channels_of
from fl_tasks.seen import verdict

if TYPE_CHECKING:
    from fl_tasks.torch_task import TorchTask

BATCH = 32

Row = dict[str, Any]
"""``file``, ``class``, ``probability``, ``probabilities``; or ``file`` and ``error``."""


@dataclass(frozen=True)
class Described:
    """What a model file says of itself."""

    model: str
    classes: tuple[str, ...]
    image_size: int
    task: str
    channels: int


def predict(model_file: str | Path, paths: Iterable[str | Path], device: str = "auto") -> list[Row]:
    """A row for every image in ``paths``, folders searched. Raises DataError if the model cannot be used.

    An image that cannot be used is a row with its ``error``; the others are predicted all the same.
    """
    file = checked_file(Path(model_file))
    described = describe(file)
    wanted = [image for path in paths for image in images_below(Path(path))]
    if not wanted:
        raise DataError("no image to predict: name JPEG, PNG or DICOM files, or folders that hold some")
    scorer = _Scorer(file, described, device)
    return [
        row for start in range(0, len(wanted), BATCH) for row in scorer.rows(wanted[start : start + BATCH])
    ]


def checked_file(path: Path) -> ModelFile:
    """The header of a model file that is whole, and whose tensors are those its digest names (if it names any)."""
    file = read_header(path)
    wanted = file.metadata.get(DIGEST_KEY)
    if wanted is not None and file.manifest(MODEL, MAX_CHUNK_BYTES).digest != wanted:
        raise DataError(f"{path} was altered: its tensors do not have the digest it names; fetch it again")
    return file


def describe(file: ModelFile) -> Described:
    """Model, classes and image size. Raises DataError if they are missing or from a newer Hilum."""
    try:
        classes = tuple(str(name) for name in json.loads(file.metadata["classes"]))
        size, channels = int(file.metadata["image_size"]), channels_of(file.metadata["preprocessing"])
        model, task = file.metadata["model"], file.metadata.get("task", DEFAULT_TASK)
    except (KeyError, ValueError, TypeError):
        raise DataError(
            f"{file.path} does not say how to use it: give a global.safetensors of a Hilum run"
        ) from None
    if channels is None:
        raise DataError(f"{file.path} wants preprocessing this Hilum does not know: update Hilum")
    return Described(model, classes, size, task, channels)


def images_below(path: Path) -> Iterator[Path]:
    """``path`` itself, or the images in and below that folder, sorted."""
    from fl_tasks.folder import SUFFIXES

    if not path.is_dir():
        yield path
        return
    for found in sorted(path.rglob("*")):
        if found.suffix.lower() in SUFFIXES and not found.name.startswith(".") and found.is_file():
            yield found


def _pixels(path: Path, described: Described) -> np.ndarray | str:
    """The image's pixels, or why there are none."""
    from fl_tasks.images import read_image

    try:
        return read_image(path, described.image_size, described.channels)
    except DataError as error:
        return str(error)


def task_of(file: ModelFile, described: Described, device: str) -> TorchTask:
    """The task that made the model. Raises DataError if there is none such here, or it knows other classes."""
    from fl_tasks.base import Place
    from fl_tasks.registry import get_task, task_names
    from fl_tasks.torch_task import TorchTask

    known = described.task in task_names()
    task = get_task(described.task, Place(device)) if known else None
    if not isinstance(task, TorchTask):
        raise DataError(f"{file.path} is a model of task {described.task!r}, which cannot predict here")
    if described.classes != task.classes:
        raise DataError(
            f"{file.path} knows other classes than {described.task} has: it is of another version; fetch it again"
        )
    return task


class _Scorer:
    def __init__(self, file: ModelFile, described: Described, device: str) -> None:
        from fl_tasks.base import Model
        from fl_tasks.params import file_params

        self._task = task_of(file, described, device)
        self._model = Model(file_params(file), file.metadata)
        self._described = described

    def rows(self, paths: list[Path]) -> list[Row]:
        """Rows in the order of ``paths``."""
        read = [_pixels(path, self._described) for path in paths]
        rows: list[Row] = [{"file": str(path)} for path in paths]
        pixels = {index: found for index, found in enumerate(read) if isinstance(found, np.ndarray)}
        for row, found in zip(rows, read, strict=True):
            if isinstance(found, str):
                row["error"] = found
        if pixels:
            scored = self._task.probabilities(self._model, np.stack(list(pixels.values())))
            for index, row in zip(pixels, scored, strict=True):
                rows[index] |= verdict(self._described.classes, row)
        return rows
