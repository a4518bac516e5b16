"""A first look at what --data names, before anything is joined or started. Loads neither numpy nor torch."""

from __future__ import annotations

from pathlib import Path

from fl_protocol.errors import DataError
from fl_tasks import array_files, folder
from fl_tasks.catalogue import ARRAY_TASKS
from fl_tasks.defaults import DEFAULT_TASK
from fl_tasks.jobs import EVAL, TRAIN

HAS_LAYOUT = frozenset({DEFAULT_TASK, *ARRAY_TASKS})
"""The tasks whose data are known here; a plug-in's tasks look at theirs themselves."""


def quick_check(data: str | None, role: str = TRAIN, task: str | None = None) -> int:
    """How many images there seem to be for ``role``. Raises DataError for what no task could use.

    An edge does not know the task yet: it looks at what it was given. ``task`` says what the data must be for.
    """
    arrays = task in ARRAY_TASKS if task else _looks_like_arrays(data)
    if arrays:
        return array_files.quick_check(data, role)
    if _looks_like_arrays(data):
        raise DataError(f"{data} is a file of arrays: task {task} takes a folder of images")
    return folder.quick_check(data, role)


def has_test_part(data: str) -> bool:
    """Whether ``data`` has a part that nobody trains on."""
    if not _looks_like_arrays(data):
        return (Path(data) / "test").is_dir()
    try:
        return array_files.quick_check(data, EVAL) > 0
    except DataError:
        return False


def _looks_like_arrays(data: str | None) -> bool:
    return data is not None and Path(data).suffix.lower() == array_files.SUFFIX
