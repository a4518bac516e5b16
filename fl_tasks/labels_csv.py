"""A CSV that names images, their classes and their patients, instead of class folders. Opens no image.

Columns ``path`` and ``label``, and if wanted ``patient``, ``site`` and ``split`` (train, val or test). Paths are
relative to the folder of the CSV and stay inside it; labels are the names of classes, or their numbers from 0.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from fl_protocol.errors import DataError
from fl_tasks.folder import CLASSES, KINDS, SUFFIXES, ImageFile
from fl_tasks.jobs import EVAL, TRAIN
from fl_tasks.patients import patient_of

FILE_NAME = "labels.csv"
"""Looked for in a folder without class folders."""
SUFFIX = ".csv"
MAX_BYTES, MAX_LINE, MAX_ROWS = 256 * 1024**2, 10_000, 2_000_000
NEEDED, KNOWN = ("path", "label"), ("path", "label", "patient", "site", "split")
VALIDATION = "val"
_SPLITS = {TRAIN: ("train", VALIDATION), EVAL: ("test",)}


def list_rows(path: Path, role: str) -> list[ImageFile]:
    """The images that ``path`` names for ``role``, sorted by name. Raises DataError, with the line, for a bad one.

    A file that does not exist is listed all the same: it is told, counted and left out when it is read.
    """
    found = sorted(_rows(path, role), key=lambda image: image.name)
    if not found:
        raise DataError(
            f"{path} names no image for {_SPLITS[role][0]}: give rows with that split, or no split"
        )
    if not any(image.size for image in found):
        raise DataError(f"none of the {len(found)} files that {path} names exists: paths start at its folder")
    for label, name in enumerate(CLASSES):
        if all(image.label != label for image in found):
            raise DataError(f"{path} names images of one class only: add rows with label {name}")
    return found


def names_splits(path: Path) -> bool:
    """Whether ``path`` says which rows train and which test."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return "split" in _columns(path, file.readline(MAX_LINE))
    except (OSError, UnicodeDecodeError):
        return False


def _rows(path: Path, role: str) -> Iterator[ImageFile]:
    seen: set[str] = set()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(
                f"{path} has more than {MAX_BYTES // 1024**2} MiB: no table of images is that long"
            )
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline(MAX_LINE)
            columns = _columns(path, first)
            reader = csv.reader(file, delimiter=_delimiter(first))
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                where = f"{path}, line {reader.line_num + 1}"
                image = _image(where, path.parent, dict(zip(columns, row, strict=False)), role)
                if image is None:
                    continue
                if image.name in seen:
                    raise DataError(f"{where}: {image.name} was named before: one row an image")
                seen.add(image.name)
                if len(seen) > MAX_ROWS:
                    raise DataError(f"{path} has more than {MAX_ROWS:,} rows: split it")
                yield image
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not text in UTF-8: save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path} is no sound CSV: {error}") from None


def _delimiter(header: str) -> str:
    """A comma; or what spreadsheets write where the comma is a decimal point."""
    return ";" if ";" in header and "," not in header else ","


def _columns(path: Path, header: str) -> list[str]:
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=_delimiter(header)), [])]
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}: its first line names the columns path, label "
            "and, if wanted, patient, site and split"
        )
    return names


def _image(where: str, folder: Path, row: dict[str, str], role: str) -> ImageFile | None:
    """The image of one row; None if it belongs to another role."""
    values = {name: row.get(name, "").strip() for name in KNOWN}
    split = values["split"].lower()
    if split and split not in ("train", VALIDATION, "test"):
        raise DataError(f"{where}: split {split!r} is none of train, val and test")
    if split and split not in _SPLITS[role]:
        return None
    name = _inside(where, values["path"])
    label = _label(where, values["label"])
    path = folder / name
    try:
        stat = path.stat()
        size, changed = stat.st_size, stat.st_mtime_ns
    except OSError:
        size = changed = 0
    patient = values["patient"] or patient_of(path.stem, name)
    return ImageFile(path, name, label, patient, size, changed, values["site"], split == VALIDATION)


def _inside(where: str, text: str) -> str:
    """The path as it is written on every machine. Raises DataError if it leaves the folder of the CSV."""
    if not text:
        raise DataError(f"{where}: the path is empty")
    name = PurePosixPath(text.replace("\\", "/"))
    if name.is_absolute() or PureWindowsPath(text).drive or ".." in name.parts or "\0" in text:
        raise DataError(f"{where}: {text} leaves the folder of the CSV: give paths below it")
    if os.path.splitext(name.name)[1].lower() not in SUFFIXES:  # noqa: PTH122 - as folder.py
        raise DataError(f"{where}: {text} is no {KINDS} file by its name")
    return str(name)


def _label(where: str, text: str) -> int:
    wanted: Sequence[str] = [name.lower() for name in CLASSES]
    if text.lower() in wanted:
        return wanted.index(text.lower())
    if text.isascii() and text.isdecimal() and int(text[:9]) < len(CLASSES):
        return int(text)
    raise DataError(f"{where}: label {text[:40]!r} is unknown: use {' or '.join(CLASSES)}")
