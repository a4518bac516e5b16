"""A folder of chest X-rays: where the images lie, and whose they are. Opens no image and loads no torch.

``DIR/{train,test,val}/{NORMAL,PNEUMONIA}/*`` or ``DIR/{NORMAL,PNEUMONIA}/*``; JPEG, PNG and DICOM. A folder whose
sub-folders look like that holds several sites, one a sub-folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from fl_protocol.errors import DataError
from fl_tasks.jobs import EVAL, TRAIN
from fl_tasks.patients import patient_of

CLASSES = ("NORMAL", "PNEUMONIA")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".dcm", ".dicom"})
KINDS = "JPEG, PNG or DICOM"
NOTE = "PHANTOMS.txt"
"""The file that marks a folder of synthetic phantoms (phantoms.py)."""
_SPLIT = {TRAIN: "train", EVAL: "test"}
LAYOUT = f"DIR/train/{CLASSES[0]} and DIR/train/{CLASSES[1]}, or DIR/{CLASSES[0]} and DIR/{CLASSES[1]}"


@dataclass(frozen=True)
class ImageFile:
    """One file that ends like an image. ``name`` is its path below the folder, the same on every machine."""

    path: Path
    name: str
    label: int  # index in CLASSES
    patient: str
    size: int
    mtime_ns: int
    site: str = ""  # where the data name their sites
    held_out: bool = False  # the data set itself keeps it for validation


def root_of(data: str | None, role: str) -> Path:
    """The folder that holds the class folders for ``role``. Raises DataError if there is none."""
    if not data:
        raise DataError("no image folder given: name one with --data DIR")
    return _root(Path(data).expanduser(), role)


def _root(folder: Path, role: str) -> Path:
    if not folder.exists():
        raise DataError(f"{folder} does not exist: give a folder with {LAYOUT}")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give a folder with {LAYOUT}")
    if root := _class_root(folder, role):
        return root
    raise DataError(
        f"{folder} has no class folders: it must look like {LAYOUT.replace('train', _SPLIT[role])}"
    )


def list_images(data: str | None, role: str) -> list[ImageFile]:
    """The image files for ``role``, sorted by name. Raises DataError if a class has none."""
    if data and (sites := sites_of(Path(data).expanduser(), role)):
        return [replace(image, name=f"{site.name}/{image.name}", patient=f"{site.name}/{image.patient}", site=site.name)
                for site in sites for image in _images_in(_root(site, role))]  # fmt: skip
    root = root_of(data, role)
    found = _images_in(root)
    for label, name in enumerate(CLASSES):
        if all(image.label != label for image in found):
            raise DataError(_what_is_missing(root, name, found))
    return found


def sites_of(folder: Path, role: str) -> list[Path]:
    """The sub-folders that are a site each, by name; none if ``folder`` has class folders of its own."""
    if not folder.is_dir() or _class_root(folder, role):
        return []
    return [below for below in sorted(folder.iterdir()) if below.is_dir() and _class_root(below, role)]


def has_classes(folder: Path) -> bool:
    """Whether ``folder`` has class folders, for training or for testing."""
    return any(_class_root(folder, role) is not None for role in _SPLIT)


def _class_root(folder: Path, role: str) -> Path | None:
    for root in (folder / _SPLIT[role], folder):
        if any((root / name).is_dir() for name in CLASSES):
            return root
    return None


def _images_in(root: Path) -> list[ImageFile]:
    return [image for label, name in enumerate(CLASSES) for image in _class_images(root, name, label)]


def foreign_classes(data: str, role: str) -> list[str]:
    """A line for every folder of images beside the class folders: labels that the task does not know."""
    folder = Path(data).expanduser()
    roots = [_root(site, role) for site in sites_of(folder, role)] or [_root(folder, role)]
    return [line for root in roots for line in _foreign_in(root)]


def _foreign_in(root: Path) -> list[str]:
    counts: dict[str, int] = {}
    for below in sorted(root.iterdir()):
        if below.name in CLASSES or below.name.startswith(".") or not below.is_dir():
            continue
        with os.scandir(below) as entries:
            counts[below.name] = sum(_is_candidate(entry) for entry in entries)
    known = " or ".join(CLASSES)
    return [
        f"{name} is no class of this task: its {count} images are left out; it knows {known}"
        for name, count in counts.items()
        if count
    ]


def quick_check(data: str | None, role: str = TRAIN) -> int:
    """How many files look like images, without opening one. Raises DataError as :func:`list_images` does."""
    return len(list_images(data, role))


def is_phantoms(folder: Path) -> bool:
    """Whether phantoms.py drew this folder: screens that show its figures must say so."""
    return (folder / NOTE).is_file()


def _what_is_missing(root: Path, name: str, found: list[ImageFile]) -> str:
    if not found:
        return f"{root} holds no image: put {KINDS} files into {root / CLASSES[0]} and {root / CLASSES[1]}"
    return f"{root} has images of one class only: put {KINDS} files of the other into {root / name}"


def _class_images(root: Path, name: str, label: int) -> list[ImageFile]:
    folder = root / name
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if _is_candidate(entry)]
    return [
        _image(entry, f"{name}/{entry.name}", label) for entry in sorted(kept, key=lambda entry: entry.name)
    ]


def _is_candidate(entry: os.DirEntry[str]) -> bool:
    """Hidden files (also the ``._x.jpeg`` that macOS leaves) are none of ours."""
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - one Path a file is slow on large folders
    return suffix in SUFFIXES and not entry.name.startswith(".") and entry.is_file()


def _image(entry: os.DirEntry[str], name: str, label: int) -> ImageFile:
    stat = entry.stat()
    path = Path(entry.path)
    return ImageFile(path, name, label, patient_of(path.stem, name), stat.st_size, stat.st_mtime_ns)
