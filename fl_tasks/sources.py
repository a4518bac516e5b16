"""What --data names, as far as that can be known without opening an image. Loads neither numpy nor torch."""

from __future__ import annotations

from pathlib import Path

from fl_protocol.errors import DataError
from fl_tasks import array_files, folder, labels_csv
from fl_tasks.catalogue import ARRAY_TASKS
from fl_tasks.defaults import DEFAULT_TASK
from fl_tasks.folder import ImageFile
from fl_tasks.jobs import EVAL, TRAIN

HAS_LAYOUT = frozenset({DEFAULT_TASK, *ARRAY_TASKS})
"""The tasks whose data are known here; a plug-in's tasks look at theirs themselves."""


def list_images(data: str | None, role: str) -> list[ImageFile]:
    """The image files that a folder or a CSV has for ``role``, sorted by name. Raises DataError if it is no good."""
    table = table_of(data)
    return folder.list_images(data, role) if table is None else labels_csv.list_rows(table, role)


def quick_check(data: str | None, role: str = TRAIN, task: str | None = None) -> int:
    """How many images there seem to be for ``role``. Raises DataError for what no task could use.

    An edge does not know the task yet: it looks at what it was given. ``task`` says what the data must be for.
    """
    arrays = task in ARRAY_TASKS if task else _looks_like_arrays(data)
    if arrays:
        return array_files.quick_check(data, role)
    if _looks_like_arrays(data):
        raise DataError(f"{data} is a file of arrays: task {task} takes a folder of images")
    return len(list_images(data, role))


def has_test_part(data: str) -> bool:
    """Whether ``data`` has a part that nobody trains on."""
    try:
        if _looks_like_arrays(data):
            return data.startswith(array_files.DOWNLOAD) or array_files.quick_check(data, EVAL) > 0
        table = table_of(data)
        if table is not None:
            return labels_csv.names_splits(table) and bool(labels_csv.list_rows(table, EVAL))
    except DataError:
        return False
    whole = Path(data).expanduser()
    sites = folder.sites_of(whole, TRAIN)
    return all((each / "test").is_dir() for each in sites or [whole])


def table_of(data: str | None) -> Path | None:
    """The CSV that ``data`` is, or that stands in a folder without class folders."""
    if not data:
        return None
    path = Path(data).expanduser()
    if path.suffix.lower() == labels_csv.SUFFIX and not path.is_dir():
        return path
    inside = path / labels_csv.FILE_NAME
    return inside if inside.is_file() and not folder.has_classes(path) else None


def _looks_like_arrays(data: str | None) -> bool:
    named = data is not None and Path(data).suffix.lower() == array_files.SUFFIX
    return named or (data or "").startswith(array_files.DOWNLOAD)
