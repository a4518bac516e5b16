"""A data set of small images in one .npz file: which arrays are whose, and what they must look like.

``train_images``, ``train_labels``, ``val_*`` and ``test_*`` (MedMNIST), or ``x_train``, ``y_train``, ``x_test``,
``y_test`` (MNIST and CIFAR-10 as Keras has them): uint8 images (n, s, s) or (n, s, s, 3), labels (n,) or (n, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fl_protocol.errors import DataError
from fl_tasks.jobs import EVAL, TRAIN
from fl_tasks.npz import Member, read_array, read_members

if TYPE_CHECKING:
    import numpy as np

    from fl_tasks.catalogue import ArrayTask

SUFFIX = ".npz"
DOWNLOAD = "download:"
"""Before a folder: what is not in it yet is downloaded to it (fetch.py)."""
MIN_SIDE, MAX_SIDE, MAX_IMAGES = 8, 1024, 10_000_000
_FORMS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
_SPLIT = {TRAIN: "train", EVAL: "test"}
LAYOUT = "train_images and train_labels (and val_*, test_*), or x_train, y_train, x_test and y_test"


@dataclass(frozen=True)
class Images:
    """uint8 (n, s, s) or (n, s, s, 3) and int64 (n,)."""

    pixels: np.ndarray
    labels: np.ndarray


def file_of(data: str | None) -> Path:
    """The .npz that ``data`` names. Raises DataError if there is none."""
    if not data:
        raise DataError("no data given: name an .npz file with --data FILE.npz")
    path = Path(data).expanduser()
    if not path.exists():
        raise DataError(f"{path} does not exist: give an .npz file")
    if path.is_dir() or path.suffix.lower() != SUFFIX:
        raise DataError(f"{path} is no .npz file: this task reads arrays, with --data FILE.npz")
    return path


def quick_check(data: str | None, role: str) -> int:
    """How many images ``role`` has, from headers alone; 0 if that is not known before a download.

    Raises DataError as :func:`read_role` does, for shapes and types.
    """
    if data and data.startswith(DOWNLOAD):
        return 0
    path = file_of(data)
    members = read_members(path)
    names = _names(members, _SPLIT[role])
    if names is None:
        raise DataError(_missing(path, _SPLIT[role], members))
    return _checked_shapes(path, names, members)


def read_role(path: Path, role: str, task: ArrayTask) -> tuple[Images, Images | None]:
    """The images for ``role``; for training also those that the file sets aside for validation, if it has some."""
    members = read_members(path)
    names = _names(members, _SPLIT[role])
    if names is None:
        raise DataError(_missing(path, _SPLIT[role], members))
    aside = _names(members, "val") if role == TRAIN else None
    return _read(path, names, members, task), None if aside is None else _read(path, aside, members, task)


def _names(members: dict[str, Member], split: str) -> tuple[str, str] | None:
    """The names of images and labels of ``split``, if both are there."""
    for images, labels in _FORMS:
        if images.format(split) in members and labels.format(split) in members:
            return images.format(split), labels.format(split)
    return None


def _missing(path: Path, split: str, members: dict[str, Member]) -> str:
    has = ", ".join(sorted(members)[:12]) or "no array of numbers"
    return f"{path} has no images and labels for {split}: it needs {LAYOUT}; it has {has}"


def _checked_shapes(path: Path, names: tuple[str, str], members: dict[str, Member]) -> int:
    """The number of images. Raises DataError for shapes and types that no data set has."""
    images, labels = (members[name] for name in names)
    if images.dtype.lstrip("<>|=") != "u1" or len(images.shape) not in (3, 4):
        raise DataError(f"{path}: {names[0]} is not uint8 of shape (n, s, s) or (n, s, s, 3)")
    count, height, width = images.shape[:3]
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise DataError(
            f"{path}: {names[0]} has images of {width} x {height} pixels: use {MIN_SIDE} to {MAX_SIDE}"
        )
    if not 1 <= count <= MAX_IMAGES:
        raise DataError(f"{path}: {names[0]} has {count:,} images: use 1 to {MAX_IMAGES:,}")
    if len(labels.shape) == 2 and labels.shape[1] > 1:
        raise DataError(f"{path}: {names[1]} has {labels.shape[1]} labels an image: Hilum learns one")
    if labels.shape[:1] != (count,) or len(labels.shape) > 2:
        raise DataError(f"{path}: {names[1]} does not have one label for each of the {count:,} images")
    if labels.dtype.lstrip("<>|=")[0] not in "biu":
        raise DataError(f"{path}: {names[1]} holds fractions: labels are whole numbers from 0")
    return count


def _read(path: Path, names: tuple[str, str], members: dict[str, Member], task: ArrayTask) -> Images:
    _checked_shapes(path, names, members)
    pixels = read_array(path, names[0], members)
    labels = read_array(path, names[1], members).reshape(-1).astype("int64")
    channels = pixels.shape[3] if pixels.ndim == 4 else 1
    if channels != task.channels:
        raise DataError(
            f"{path}: {names[0]} has {channels} channel{'s' * (channels > 1)}; {task.name} has {task.channels}"
        )
    wrong = (labels < 0) | (labels >= len(task.classes))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: {names[1]}[{row}] is {labels[row]}, which is none of the {len(task.classes)} classes of "
            f"{task.name} (0 to {len(task.classes) - 1})"
        )
    return Images(pixels[..., 0] if pixels.ndim == 4 and channels == 1 else pixels, labels)
